"""What a reader makes of a file: stretches of uninterrupted samples on one sample grid, read block by block."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault
from streaming.chunk import StreamInfo
from streaming.events import Marker
from streaming.signal.design import HIGHEST_RATE_HZ, LOWEST_RATE_HZ

BLOCK_S = 0.25  # read from the file at once, so that millisecond chunks cost no file access each


@dataclass(frozen=True, slots=True)
class Stretch:
    """Uninterrupted samples: how many, and the index of the first, counted with the pauses before it."""

    first_sample: int
    n_samples: int


class Recording(Protocol):
    """An open file. `scale_uv` and `offset_uv` (channels,) turn stored numbers into microvolts: x * scale + offset."""

    info: StreamInfo
    dtype: np.dtype[Any]
    scale_uv: NDArray[np.float32]
    offset_uv: NDArray[np.float32]
    start_s: float  # time of the first sample, from the session's start
    stretches: list[Stretch]
    markers: list[tuple[int, Marker]]  # by sample
    malformed_markers: int
    began: datetime | None  # the session's start, where the file says
    trials: Any  # a table of trials (hdmf) to be carried on as it is, where the file has one

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[Any]:
        """Stored numbers (stop - start, channels) of one stretch."""

    def close(self) -> None: ...


def end_of(recording: Recording) -> int:
    """The index behind the last sample."""
    last = recording.stretches[-1]
    return last.first_sample + last.n_samples


def choose(path: Path, stream: str | None, rates_hz: Mapping[str, float]) -> str:
    """Which of a file's signals is meant: the named one, the only one, or the only one at a broadband rate.

    Raises:
        OperatorFault: none has that name, or several could be meant.
    """
    held = ", ".join(f"{name!r} at {rate:g} Hz" for name, rate in rates_hz.items())
    if stream is not None:
        if stream not in rates_hz:
            raise OperatorFault(f"{path}: no stream {stream!r}; it holds {held}")
        return stream
    names = [name for name, rate in rates_hz.items() if LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ] or list(rates_hz)
    if len(names) != 1:
        raise OperatorFault(f"{path}: cannot know which stream is meant of {held}; choose one with --stream")
    return names[0]


def one_line(error: Exception) -> str:
    """Another library's error, short enough for a message."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def files_extra(module: str) -> Any:
    """The module of an optional reader.

    Raises:
        OperatorFault: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        name = module.split(".")[0]
        raise OperatorFault(f"{name} is not installed; pip install 'phosphene[files]' to read recordings") from missing


def blocks(recording: Recording, chunk_rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """(index of the first row, stored numbers) of the whole recording, a quarter of a second or one chunk at a time."""
    rows = max(1, round(BLOCK_S * recording.info.rate_hz) // chunk_rows) * chunk_rows
    for index, stretch in enumerate(recording.stretches):
        for start in range(0, stretch.n_samples, rows):
            stored = recording.rows(index, start, min(start + rows, stretch.n_samples))
            yield stretch.first_sample + start, stored


def to_microvolts(recording: Recording, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Stored numbers (n, channels) as microvolts, in new memory, row by row whatever order the reader gives them in:
    the kernel is compiled for no other before the stream."""
    samples_uv: NDArray[np.float32] = np.multiply(stored, recording.scale_uv, dtype=np.float32, order="C")
    if recording.offset_uv.any():
        samples_uv += recording.offset_uv
    return samples_uv
