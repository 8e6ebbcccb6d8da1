"""WAV files: one column per channel, 16-bit counts. They know no unit, so microvolts per count must be given."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from models.errors import RigFault
from streaming.chunk import ArrayMap, StreamInfo
from streaming.events import Marker
from streaming.sources.recorded import Stretch


class WavRecording:
    """A memory-mapped WAV file; see Recording."""

    def __init__(self, path: Path, scale_uv: float | None) -> None:
        if scale_uv is None:
            raise RigFault(f"{path}: a WAV file does not say its unit; give the microvolts per count with --scale-uv")
        try:
            rate_hz, data = wavfile.read(path, mmap=True)
        except (ValueError, OSError, EOFError) as error:
            raise RigFault(f"{path}: not a WAV file, or cut short ({error}); copy it again") from error
        self._data: NDArray[Any] = data if data.ndim == 2 else data[:, None]
        if self._data.dtype != np.int16:
            raise RigFault(f"{path}: found {self._data.dtype} samples, expected 16-bit counts")
        n_samples, n_channels = self._data.shape
        labels = tuple(f"elec{index + 1}" for index in range(n_channels))
        self.info = StreamInfo("replay", path.stem, float(rate_hz), ArrayMap(labels), session=path.stem)
        self.dtype = self._data.dtype
        self.scale_uv = np.full(n_channels, scale_uv, np.float32)
        self.offset_uv = np.zeros(n_channels, np.float32)
        self.start_s = 0.0
        self.stretches = [Stretch(0, n_samples)]
        self.markers: list[tuple[int, Marker]] = []
        self.malformed_markers = 0
        self.began: datetime | None = None
        self.trials = None

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[Any]:
        return self._data[start:stop]

    def close(self) -> None:
        del self._data
