"""What the service logs is written by a thread of its own. The decode thread logs too, as do commands that hold the
gate's lock, and a terminal that somebody has stopped (Ctrl-S), or a pipe that nobody reads, would hold them up."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from logging.handlers import QueueHandler

MOST = 1000  # lines that may wait; of those beyond, the count is told
ENDS_S = 0.5
FORMAT = "%(asctime)s %(levelname)s %(message)s"
OF_ARRAY = "phosphene.array."


def log_of(array: str) -> logging.Logger:
    """The log of a further array; of the first, and of the service as a whole, where `array` is empty."""
    return logging.getLogger(OF_ARRAY + array if array else "phosphene")


def array_of(record: logging.LogRecord) -> str | None:
    """Which further array a line is about."""
    return record.name.removeprefix(OF_ARRAY) if record.name.startswith(OF_ARRAY) else None


class ForPeople(logging.Formatter):
    """A line for a terminal, which says which array it is about."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:
        array = array_of(record)
        if array is not None:
            record.message = f"array {array}: {record.message}"
        return super().formatMessage(record)


class Aside(QueueHandler):
    """Hands each line to `handler` on another thread, and never waits. `lost`: lines that nobody took in time."""

    def __init__(self, handler: logging.Handler, most: int = MOST) -> None:
        super().__init__(queue.Queue(most))
        self.lost = 0
        self._told, self._handler = 0, handler
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """What waits is still written, where that takes no longer than half a second."""
        give_up = time.monotonic() + ENDS_S
        while self.queue.unfinished_tasks and time.monotonic() < give_up:  # type: ignore[attr-defined]
            time.sleep(0.005)
        super().close()

    def _write(self) -> None:
        while True:
            record = self.queue.get()
            self._handler.emit(record)  # not `handle`: its lock would be waited for when the process ends
            if (lost := self.lost) > self._told:
                text = f"{lost - self._told} lines of this log were lost: nobody took them"
                self._told = lost
                self._handler.emit(logging.LogRecord(record.name, logging.WARNING, "", 0, text, None, None))
            self.queue.task_done()  # type: ignore[attr-defined]


class Stderr(logging.Handler):
    """Standard error without a buffer or a lock, so that nothing waits at the end for a terminal that takes nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{self.format(record)}\n".encode(errors="replace")
        with contextlib.suppress(OSError):  # nobody is there to be told
            while text:
                text = text[os.write(2, text) :]


def log_aside(lines: logging.Formatter | None = None, level: int = logging.INFO) -> None:
    """Log to standard error, aside; where nothing else was set up before. `lines`: how, by default for people."""
    root = logging.getLogger()
    if not root.handlers:
        to_stderr = Stderr()
        to_stderr.setFormatter(lines or ForPeople())
        root.addHandler(Aside(to_stderr))
        root.setLevel(level)
