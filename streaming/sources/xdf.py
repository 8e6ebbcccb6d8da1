"""XDF files as LabRecorder writes them. Gaps and clock resets are found by the tracker that serves live streams.

A file knows what comes next, so a pause beyond all jitter is placed at its very sample and never in doubt. How long a
sender was away when its clock was reset is not known; it stands as a pause of RESET_S, after which the signal chain
starts anew.

pyxdf has no lazy reading: the chosen streams are held in memory while the file is open. So a file above MOST_BYTES is
refused rather than half read; longer recordings belong into NWB or the amplifier's own format.
"""

from __future__ import annotations

import logging
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import RigFault
from streaming.chunk import ArrayMap, SourceCounters, StreamInfo
from streaming.events import Marker, parse_marker
from streaming.sinks.broadband_outlet import DEFAULT_SCALING_UV
from streaming.sources.header import COUNTS, MICROVOLTS
from streaming.sources.recorded import Stretch, choose, files_extra, one_line
from streaming.sources.stamps import StampTracker

MOST_BYTES = 4 * 2**30
RESET_S = 5.0
PAUSE_S = 0.25  # a step of the stamps beyond this is no jitter; live, the stream would be lost
BLOCK_S = 0.1

log = logging.getLogger(__name__)


class XdfRecording:
    """One numeric stream of a file and the markers beside it; see Recording."""

    def __init__(self, path: Path, stream: str | None = None) -> None:
        pyxdf = files_extra("pyxdf")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise RigFault(
                f"{path}: {size / 2**30:.1f} GiB of XDF, which is read whole; at most {MOST_BYTES / 2**30:.0f} GiB"
            )
        try:
            found, header = pyxdf.load_xdf(path, dejitter_timestamps=False, verbose=False)
            streams = [_Stream(one) for one in found]
        except Exception as error:  # pyxdf raises whatever a damaged file leads it to
            raise RigFault(f"{path}: not an XDF file, or cut short ({one_line(error)}); copy it again") from error
        numeric = {found.name: found for found in streams if found.rate_hz > 0}
        if not numeric:
            raise RigFault(f"{path}: holds no stream of samples; expected a broadband stream")
        chosen = numeric[choose(path, stream, {name: found.rate_hz for name, found in numeric.items()})]
        self._data = np.asarray(chosen.values)
        self.dtype = self._data.dtype
        labels, positions, self.scale_uv = chosen.channels(path)
        self.offset_uv = np.zeros(len(labels), np.float32)
        self.info = StreamInfo(
            kind="replay",
            name=chosen.name,
            rate_hz=chosen.rate_hz,
            array=ArrayMap(labels, positions),
            participant=chosen.text("subject", "id") or None,
            session=chosen.text("phosphene", "session") or path.stem,
        )
        self._place(chosen.stamps)
        self.began = _datetime(header)
        self.trials = None
        self.markers, self.malformed_markers = self._markers([found for found in streams if found.kind == "Markers"])

    def _place(self, stamps: NDArray[np.float64]) -> None:
        """Stretches, and the row at which each begins."""
        self._stamps = stamps
        self.start_s = 0.0  # XDF knows no session start: its first sample is it
        self.stretches: list[Stretch] = []
        self._rows: list[int] = []
        self._times: list[tuple[float, float]] = []  # of the first and behind the last sample of each
        steps = np.diff(stamps)
        cuts = np.flatnonzero((steps > PAUSE_S) | (steps < -PAUSE_S)) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(stamps)]):
            paused_s = steps[start - 1] - 1 / self.info.rate_hz if start else 0.0
            self._follow(start, stop, paused_s if paused_s >= 0 else RESET_S)

    def _follow(self, start: int, stop: int, paused_s: float) -> None:
        """Rows [start, stop), behind a pause of so many seconds: small gaps and resets as the tracker finds them."""
        rate_hz = self.info.rate_hz
        tracker = StampTracker(rate_hz, SourceCounters())
        block = max(1, round(rate_hz))
        epoch, offset = 0, self._end() + round(paused_s * rate_hz)
        for row in range(start, stop, block):
            part = self._stamps[row : min(row + block, stop)]
            for piece in tracker.push(part, float(part[-1])):
                end = self._end()
                if piece.epoch != epoch:
                    epoch, offset = piece.epoch, end + round(RESET_S * rate_hz)
                first, rows = offset + piece.first_sample, piece.stop - piece.start
                time_s = float(part[piece.start])
                if self._rows and first == end and self._rows[-1] + self.stretches[-1].n_samples == row + piece.start:
                    last = self.stretches.pop()
                    first, rows = last.first_sample, last.n_samples + rows
                    time_s = self._times.pop()[0]
                else:
                    self._rows.append(row + piece.start)
                self.stretches.append(Stretch(first, rows))
                self._times.append((time_s, piece.newest_time + 1 / rate_hz))

    def _end(self) -> int:
        """The index behind the last sample so far."""
        return self.stretches[-1].first_sample + self.stretches[-1].n_samples if self.stretches else 0

    def _sample_of(self, time_s: float) -> int:
        """By the stamps around it, in the stretch that the time falls into or the last one before it.

        Not by the declared rate from the stretch's start: 20 ppm of a crystal are 72 ms after an hour.
        """
        within = [index for index, (start, end) in enumerate(self._times) if start <= time_s < end]
        before = [index for index, (start, _) in enumerate(self._times) if start <= time_s]
        index = (within or before or [0])[-1]
        stretch, first_row = self.stretches[index], self._rows[index]
        stamps = self._stamps[first_row : first_row + stretch.n_samples]
        row = max(0, int(np.searchsorted(stamps, time_s, "right")) - 1)
        return stretch.first_sample + row + round((time_s - float(stamps[row])) * self.info.rate_hz)

    def _markers(self, streams: list[_Stream]) -> tuple[list[tuple[int, Marker]], int]:
        """Markers by sample, and how many were malformed."""
        markers: list[tuple[int, Marker]] = []
        malformed = 0
        for stream in streams:
            for time, values in zip(stream.stamps, stream.values, strict=False):
                try:
                    marker = parse_marker(str(values[0]))
                except RigFault as fault:
                    malformed += 1
                    log.warning("%s", ascii(str(fault))[1:-1])
                    continue
                if self.stretches:
                    markers.append((self._sample_of(float(time)), marker))
        return sorted(markers, key=lambda marker: marker[0]), malformed

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[Any]:
        first = self._rows[stretch]
        return self._data[first + start : first + stop]

    def close(self) -> None:
        self._data = self._data[:0]


class _Stream:
    """One stream as pyxdf gives it: every text sits in a list of one."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._info = found["info"]
        self.name = str(self._info["name"][0])
        self.kind = str(self._info["type"][0])
        self.values = found["time_series"]
        self.stamps = np.asarray(found["time_stamps"], np.float64)
        text = self._info["channel_format"][0] == "string"
        self.rate_hz = 0.0 if text else float(self._info["nominal_srate"][0])

    def text(self, *names: str) -> str:
        """The text at a path below desc, or nothing."""
        node: Any = (self._info["desc"] or [None])[0]
        for name in names:
            node = (node.get(name) or [None])[0] if isinstance(node, dict) else None
        return node.strip() if isinstance(node, str) else ""

    def channels(
        self, path: Path
    ) -> tuple[tuple[str, ...], tuple[tuple[float, float], ...] | None, NDArray[np.float32]]:
        """Labels, grid places and microvolts per stored number.

        Raises:
            RigFault: the channels are not described, or their unit is not microvolts.
        """
        desc = (self._info["desc"] or [None])[0] or {}
        channels = ((desc.get("channels") or [None])[0] or {}).get("channel") or []
        n_channels = int(self._info["channel_count"][0])
        if len(channels) != n_channels:
            raise RigFault(f"{path}, stream {self.name}: desc describes {len(channels)} of {n_channels} channels")

        def text(channel: dict[str, Any], name: str) -> str:
            value = (channel.get(name) or [""])[0]
            return value.strip() if isinstance(value, str) else ""

        counts = np.issubdtype(np.asarray(self.values).dtype, np.integer)
        scales = np.ones(n_channels, np.float32)
        places: list[tuple[float, float]] = []
        for index, channel in enumerate(channels):
            unit = text(channel, "unit")
            if unit.lower() not in (MICROVOLTS + COUNTS if counts else MICROVOLTS):
                raise RigFault(f"{path}, stream {self.name}: unknown unit {unit!r}, expected 'microvolts'")
            if counts:
                scales[index] = float(text(channel, "scaling_factor") or DEFAULT_SCALING_UV)
            location = (channel.get("location") or [None])[0]
            if isinstance(location, dict):
                places.append((float(text(location, "X") or "nan"), float(text(location, "Y") or "nan")))
        labels = tuple(text(channel, "label") or f"elec{index + 1}" for index, channel in enumerate(channels))
        known = len(places) == n_channels and np.isfinite(places).all()
        return labels, tuple(places) if known else None, scales


def _datetime(header: dict[str, Any]) -> datetime | None:
    """When the recording began, as LabRecorder writes it."""
    try:
        return datetime.fromisoformat(header["info"]["datetime"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
