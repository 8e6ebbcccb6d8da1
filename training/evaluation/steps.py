"""Work that is done once: each step leaves one file, named by a hash of all that it hangs on.

A step whose file stands is not done again, so a kill loses the step that it fell into; pretraining goes on from its
last checkpoint. `VERSION` belongs to every hash: it changes when a step's code gives other numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

VERSION = 3
SECONDS = "seconds.jsonl"  # beside the files: what each took


@dataclass(frozen=True, eq=False)
class Step:
    """`make` writes the file that it is given; `words` say what it does; `amounts` how much of what takes time."""

    file: Path
    make: Callable[[Path], None]
    words: str
    amounts: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What it does, whatever it does it with."""
        return self.words.split(":")[0]

    @property
    def done(self) -> bool:
        return self.file.exists()

    def do(self) -> None:
        if self.done:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_name(f".draft-{self.file.name}")
        began = time.monotonic()
        try:
            self.make(draft)
            os.replace(draft, self.file)
        finally:
            draft.unlink(missing_ok=True)
        with (self.file.parent / SECONDS).open("a") as log:
            log.write(json.dumps({"file": self.file.name, "seconds": round(time.monotonic() - began, 2)}) + "\n")


def core_seconds(steps: Iterable[Step]) -> int:
    """How long these steps took, each on the one core that it had, whenever they were done; what a kill cost is not
    in it."""
    steps, taken = list(steps), dict[tuple[Path, str], float]()
    for folder in {step.file.parent for step in steps}:
        lines = (folder / SECONDS).read_text().splitlines() if (folder / SECONDS).exists() else []
        taken |= {(folder, one["file"]): one["seconds"] for one in map(json.loads, lines)}
    return round(sum(taken.get((step.file.parent, step.file.name), 0.0) for step in steps))


def key(*what: Any) -> str:
    """Twelve digits that name `what`: numbers, words, and dataclasses, lists and tables of them."""
    text = json.dumps([VERSION, *what], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} has no place in a hash")
