"""A result folder, read. Nothing of the report is computed from anything else, so it can be drawn again at any time."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault

Arrays = dict[str, NDArray[Any]]
PROBES = {"prestimulus": "Would it be perceived now?", "evoked": "Was it perceived?"}
WINDOWS = {"prestimulus": "the window before the stimulus", "evoked": "the window after the stimulus"}


@dataclass(frozen=True)
class Result:
    """Of `phosphene evaluate`: `folder` holds what `training.evaluation.files` says."""

    folder: Path

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """
        Raises:
            OperatorFault: the folder has no result, or it is not one of an evaluation.
        """
        file = self.folder / "result.json"
        try:
            found = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise OperatorFault(
                f"{self.folder}: found no result.json that can be read ({error}), expected the folder of a "
                "`phosphene evaluate` that has ended; name it with --out, or run it again without --report-only"
            ) from error
        if not isinstance(found, dict) or not {"participants", "together"} <= found.keys():
            raise OperatorFault(f"{file}: expected the result of `phosphene evaluate`, found another; name its folder")
        return found

    @property
    def groups(self) -> dict[str, Any]:
        """By name, protocol, probe: participants put together."""
        return self.numbers["together"]

    @cached_property
    def shown(self) -> str:
        """Whose pictures are drawn: the first participant with every control, or else the first."""
        everyone = self.numbers["participants"]
        return next((name for name, one in everyone.items() if one["full"]), next(iter(everyone)))

    @property
    def simulated(self) -> bool:
        return "simulated" in self.numbers

    def questions(self, participant: str) -> list[tuple[str, str]]:
        """Protocol and probe, each."""
        asked = self.numbers["participants"][participant]["questions"]
        return [(protocol, probe) for protocol, probes in asked.items() for probe in probes]

    def trials(self, participant: str, protocol: str, probe: str) -> Arrays | None:
        return _arrays(self.folder / "trials" / f"{participant}-{protocol}-{probe}.npz")

    def embedding(self, participant: str, protocol: str, probe: str) -> NDArray[Any] | None:
        found = _arrays(self.folder / "embeddings" / f"{participant}-{protocol}-{probe}.npz")
        return None if found is None else found["embedding"]

    def rest(self, participant: str) -> Arrays | None:
        return _arrays(self.folder / "embeddings" / f"{participant}-rest.npz")

    def looks(self, participant: str) -> tuple[Arrays, dict[str, Any]] | None:
        """Arrays, and the numbers that belong to them."""
        found = _arrays(self.folder / "looks" / f"{participant}.npz")
        return None if found is None else (found, json.loads(str(found.pop("numbers"))))

    def position(self, participant: str) -> NDArray[np.float64] | None:
        """Of each electrode on the array, (channels, 2)."""
        looks = self.looks(participant)
        return None if looks is None else looks[0].get("position")

    def curves(self, participant: str) -> dict[str, list[dict[str, float]]]:
        """Encoder -> a line for each validation of its pretraining."""
        found = {}
        for file in sorted((self.folder / "training").glob(f"{participant}-*.jsonl")):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            found[file.stem.removeprefix(f"{participant}-")] = lines
        return found

    def reliability(self, participant: str) -> list[dict[str, str]]:
        file = self.folder / "reliability.csv"
        if not file.exists():
            return []
        with file.open(newline="") as stream:
            return [row for row in csv.DictReader(stream) if row["participant"] == participant]


def _arrays(file: Path) -> Arrays | None:
    if not file.exists():
        return None
    with np.load(file) as stored:
        return {name: stored[name] for name in stored}


def tested(rows: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The test that counts, new sessions where there are any, and its rows."""
    return next(iter(rows.items()))


def tested_rows(trials: Arrays) -> NDArray[np.int64]:
    """Trials of that test: of new sessions, or the later ones."""
    new = np.flatnonzero(trials["part"] == "new")
    return new if len(new) else np.flatnonzero(trials["part"] == "later")


def words(protocol: str, probe: str, between: str = ", ") -> str:
    """A question as the title of a column, or of a panel with a line break `between`."""
    stands = {"prestimulus": "before", "evoked": "after"}.get(probe, probe)
    return f"{protocol}{between}{stands} the stimulus"
