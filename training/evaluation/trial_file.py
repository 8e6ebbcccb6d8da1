"""A session's trials on disk, for each probe, with what ideal observers make of them. Windows in half precision: of z
units, that is good to a thousandth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.trials import Trials, join


@dataclass(frozen=True, eq=False)
class Seen:
    """`observers`: name -> P(perceived) of each trial, (n,); none for people."""

    trials: Trials
    observers: dict[str, NDArray[np.float64]]


def write(file: Path, session: dict[str, Seen]) -> None:
    """`session`: by probe."""
    arrays = {}
    for probe, seen in session.items():
        arrays |= {f"{probe}.{field.name}": getattr(seen.trials, field.name) for field in fields(Trials)}
        arrays |= {f"{probe}.observers.{name}": value for name, value in seen.observers.items()}
        arrays[f"{probe}.windows"] = seen.trials.windows.astype(np.float16)
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def read(files: list[Path], probe: str) -> Seen:
    """The trials of all these sessions, one after the other."""
    parts = [_read(file, probe) for file in files]
    names = parts[0].observers
    return Seen(
        join([part.trials for part in parts]),
        {name: np.concatenate([part.observers[name] for part in parts]) for name in names},
    )


def _read(file: Path, probe: str) -> Seen:
    with np.load(file) as stored:
        arrays = {field.name: stored[f"{probe}.{field.name}"] for field in fields(Trials)}
        prefix = f"{probe}.observers."
        observers = {name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)}
    arrays["windows"] = arrays["windows"].astype(np.float32)
    arrays["rejected"] = int(arrays["rejected"])
    return Seen(Trials(**arrays), observers)
