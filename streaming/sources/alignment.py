"""A stream found again in a recording that somebody else made of it: where its first row lies, and what follows.

Two programs that hear the same amplifier count its samples from different moments, and their clocks may differ by more
than a sample. The values of one row of all channels are as good as never the same twice, so a row says where it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streaming.chunk import EndOfRecording, row_sha256
from streaming.sources.recorded import BLOCK_S, Recording, end_of, to_microvolts

NEAR_S = 5.0  # so far two clocks may differ


def find_row(recording: Recording, sha256: str, near_s: float | None) -> int | None:
    """The index of the row of this hash (chunk.row_sha256): of several the one nearest to `near_s` seconds from the
    session's start, and none further than NEAR_S. Where `near_s` is None, the first in the whole recording."""
    rate_hz = recording.info.rate_hz
    first, stop = 0, end_of(recording)
    about = 0
    if near_s is not None:
        about = round((near_s - recording.start_s) * rate_hz)
        first, stop = max(0, about - round(NEAR_S * rate_hz)), min(stop, about + round(NEAR_S * rate_hz))
    found: int | None = None
    for start, rows_uv in _blocks(recording, first, stop):
        for index, row in enumerate(rows_uv, start):
            if row_sha256(row) == sha256:
                if near_s is None:
                    return index
                if found is None or abs(index - about) < abs(found - about):
                    found = index
    return found


class SampleReader:
    """The samples of a recording from index `first` on, cut where the caller wants them cut."""

    def __init__(self, recording: Recording, first: int) -> None:
        self._blocks = _blocks(recording, first, end_of(recording))
        self._start, self._rows_uv = first, np.empty((0, recording.info.n_channels), np.float32)

    def next_sample(self) -> int:
        """The index of the next sample that the recording holds.

        Raises:
            EndOfRecording: there is none.
        """
        if not len(self._rows_uv):
            found = next(self._blocks, None)
            if found is None:
                raise EndOfRecording
            self._start, self._rows_uv = found
        return self._start

    def read(self, stop: int) -> NDArray[np.float32]:
        """Microvolts (n, channels) from `next_sample` on, up to index `stop` or the next gap."""
        n = max(0, stop - self.next_sample())
        rows_uv, self._rows_uv = self._rows_uv[:n], self._rows_uv[n:]
        self._start += len(rows_uv)
        return rows_uv


def _blocks(recording: Recording, first: int, stop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(index of the first row, microvolts) of the samples in [first, stop), a quarter of a second at a time."""
    rows = max(1, round(BLOCK_S * recording.info.rate_hz))
    for number, stretch in enumerate(recording.stretches):
        begin = max(0, first - stretch.first_sample)
        end = min(stretch.n_samples, stop - stretch.first_sample)
        for start in range(begin, end, rows):
            stored = recording.rows(number, start, min(start + rows, end))
            yield stretch.first_sample + start, to_microvolts(recording, stored)
