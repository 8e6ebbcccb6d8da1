"""The log for programs: one JSON object a line. A change of state has a name (`event`) and `fields`; any other line is
a `log`. Only ASCII leaves, so no text from outside can break a line or move a terminal's cursor."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from server.aside import array_of


class JsonLines(logging.Formatter):
    """`run_id` stands in each line from the moment that it is set; `array` where a line is about a further one."""

    run_id: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)  # a traceback comes with it
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "run_id": self.run_id,
            "array": array_of(record),
            "message": message,
            "fields": getattr(record, "fields", {}),
        }
        return json.dumps(line, default=str)
