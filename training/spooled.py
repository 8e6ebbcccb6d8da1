"""What a spool holds, read as a recording: whole records only, whenever and however its writer ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.chunk import ArrayMap, StreamInfo
from streaming.events import Marker, Report, Stimulation
from streaming.signal.settings import ChainSettings
from streaming.sources.recorded import Stretch
from training.spool import BINS, HEADER, LOG, RAW, SpoolHeader, lock, record_type

BLOCK = 10_000  # records or rows at once
_KINDS = {"stim": Stimulation, "report": Report}


class SpoolRecording:
    """The reading side: a streaming.sources.recorded.Recording, with its final bins.

    Raises:
        OperatorFault: no such folder, or one that is being written.
        RigFault: nothing was recorded in it yet, or its header is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise OperatorFault(f"{folder}: no such folder; name the S.nwb.part that a broken recording left")
        self._lock = lock(folder)
        try:
            header = SpoolHeader(**json.loads((folder / HEADER).read_text()))
            array = header.info.pop("array")
            positions = array["positions"] and tuple((float(x), float(y)) for x, y in array["positions"])
            self.info = StreamInfo(**header.info, array=ArrayMap(tuple(array["labels"]), positions))
            self.chain = ChainSettings.from_dict(header.chain)
            self.began: datetime | None = datetime.fromisoformat(header.began)
        except FileNotFoundError:
            raise RigFault(f"{folder} holds no sample yet: there is nothing to recover; remove it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RigFault(
                f"{folder / HEADER} cannot be read ({error}); without it nothing is known of the rest"
            ) from error
        n_channels = self.info.n_channels
        self.lsl_time, self.start_s, self.trials, self.malformed_markers = header.lsl_time, 0.0, None, 0
        self.dtype = np.dtype(np.int16)
        self.scale_uv = np.array(header.scale_uv or np.ones(n_channels), np.float32)
        self.offset_uv = np.zeros(n_channels, np.float32)
        self.markers: list[tuple[int, Marker]] = []
        self.late: list[tuple[int, Stimulation]] = []
        begun = self._read_log(folder / LOG)
        self._bins = _records(folder / BINS, record_type(n_channels))
        backward = np.flatnonzero(np.diff(self._bins["bin"]) <= 0)  # a power cut may leave zeros
        self._bins = self._bins[: backward[0] + 1] if len(backward) else self._bins
        self.has_broadband = header.scale_uv is not None
        self._raw = _records(folder / RAW, np.dtype(("<i2", (n_channels,)))) if self.has_broadband else None
        rows = 0 if self._raw is None else len(self._raw)
        begun = [(first, row) for first, row in begun if row < rows]
        self._starts = [row for _, row in begun]
        lengths = np.diff([*self._starts, rows]).tolist()
        self.stretches = [Stretch(first, n) for (first, _), n in zip(begun, lengths, strict=True)]

    def _read_log(self, path: Path) -> list[tuple[int, int]]:
        stretches: list[tuple[int, int]] = []
        for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last line break is torn
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if "stretch" in entry:
                stretches.append((entry["stretch"][0], entry["stretch"][1]))
                continue
            marker = _KINDS[entry["event"]](**entry["fields"])
            self.markers.append((entry["sample"], marker))
            if entry["late"] and isinstance(marker, Stimulation):
                self.late.append((entry["sample"], marker))
        self.markers.sort(key=lambda one: one[0])
        return stretches

    @property
    def n_bins(self) -> int:
        return int(self._bins["bin"][-1]) + 1 if len(self._bins) else 0

    def bins(self) -> Iterator[Any]:
        """The records, by blocks of consecutive bins."""
        for start in range(0, len(self._bins), BLOCK):
            block = self._bins[start : start + BLOCK]
            yield from np.split(block, np.flatnonzero(np.diff(block["bin"]) != 1) + 1)

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[Any]:
        assert self._raw is not None  # a recording without broadband has no stretches
        first = self._starts[stretch]
        return np.asarray(self._raw[first + start : first + stop])

    def close(self) -> None:
        del self._bins, self._raw
        self._lock.close()


def _records(path: Path, kind: np.dtype[Any]) -> Any:
    """All whole records, memory-mapped."""
    whole = path.stat().st_size // kind.itemsize if path.exists() else 0
    return (
        np.memmap(path, kind.base, "r", shape=(whole, *kind.shape)) if whole else np.empty((0, *kind.shape), kind.base)
    )
