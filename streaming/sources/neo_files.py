"""Blackrock, Neuralynx, Open Ephys and what else neo.rawio reads. Recording pauses (its segments) stay gaps.

Digital inputs and comments become UnknownEvents: their meaning is the rig's, and guessing it is not ours.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.chunk import ArrayMap, StreamInfo
from streaming.events import Marker, UnknownEvent
from streaming.sources.recorded import Stretch, choose, files_extra, one_line

GAP_MS = 0.1  # a pause from this on begins a new segment
NOT_ELECTRODES = ("ainp", "ADC", "AUX")  # analogue inputs that some rigs keep in the same stream
MICROVOLTS_PER = {"uV": 1.0, "mV": 1e3, "V": 1e6}


class NeoRecording:
    """One signal stream of a file or directory; see Recording."""

    def __init__(self, path: Path, stream: str | None = None) -> None:
        try:
            self._reader = _reader(path)
            self._reader.parse_header()
        except (RigFault, OperatorFault):
            raise
        except Exception as error:  # neo raises whatever a damaged file leads it to
            raise RigFault(f"{path}: not a recording, or cut short ({one_line(error)}); copy it again") from error
        self._path = path
        streams = self._reader.header["signal_streams"]
        if not len(streams):
            raise RigFault(f"{path}: holds no continuous signal; give the file with the broadband (.ns5 or .ns6)")
        rates_hz = {str(s["name"]): float(self._reader.get_signal_sampling_rate(i)) for i, s in enumerate(streams)}
        name = choose(path, stream, rates_hz)
        self._stream = list(rates_hz).index(name)
        self._read_channels(path, streams[self._stream]["id"])
        rate_hz = rates_hz[name]
        self._read_segments(rate_hz)
        self.info = StreamInfo("replay", name, rate_hz, ArrayMap(self._labels), session=path.stem)
        for index, stretch in enumerate(self.stretches):
            if stretch.n_samples:
                self.rows(index, stretch.n_samples - 1, stretch.n_samples)  # a file cut short is known before it plays
        self.markers = self._events()
        self.malformed_markers = 0
        self.began: datetime | None = self._reader.raw_annotations["blocks"][0].get("rec_datetime")
        self.trials = None

    def _read_channels(self, path: Path, stream_id: str) -> None:
        channels = self._reader.header["signal_channels"]
        channels = channels[channels["stream_id"] == stream_id]
        self._columns = [i for i, c in enumerate(channels) if not str(c["name"]).startswith(NOT_ELECTRODES)]
        if not self._columns:
            raise RigFault(f"{path}: a recording without electrodes: all {len(channels)} channels are analogue inputs")
        channels = channels[self._columns]
        for channel in channels:
            if str(channel["units"]) not in MICROVOLTS_PER:
                raise RigFault(
                    f"{path}, channel {channel['name']}: unknown unit '{channel['units']}', expected uV, mV or V"
                )
        to_uv = np.array([MICROVOLTS_PER[str(channel["units"])] for channel in channels])
        self.dtype = np.dtype(str(channels["dtype"][0]))
        self.scale_uv = (channels["gain"] * to_uv).astype(np.float32)
        self.offset_uv = (channels["offset"] * to_uv).astype(np.float32)
        self._labels = tuple(str(channel["name"]) for channel in channels)

    def _read_segments(self, rate_hz: float) -> None:
        """Segments on one sample grid, by their start times."""
        segments = range(self._reader.segment_count(0))
        starts_s = [float(self._reader.get_signal_t_start(0, segment, self._stream)) for segment in segments]
        self.start_s = starts_s[0]
        self.stretches: list[Stretch] = []
        free = 0
        for segment in segments:
            first = max(free, round((starts_s[segment] - self.start_s) * rate_hz))
            rows = int(self._reader.get_signal_size(0, segment, self._stream))
            self.stretches.append(Stretch(first, rows))
            free = first + rows

    def _events(self) -> list[tuple[int, Marker]]:
        """Events inside the recording, by sample."""
        markers: list[tuple[int, Marker]] = []
        end = self.stretches[-1].first_sample + self.stretches[-1].n_samples
        for index, channel in enumerate(self._reader.header["event_channels"]):
            for segment in range(self._reader.segment_count(0)):
                stamps, _, labels = self._reader.get_event_timestamps(0, segment, index)
                times = self._reader.rescale_event_timestamp(stamps, dtype="float64", event_channel_index=index)
                for time_s, label in zip(times, labels, strict=True):
                    sample = round((float(time_s) - self.start_s) * self.info.rate_hz)
                    if 0 <= sample < end:
                        markers.append((sample, UnknownEvent(f"{channel['name']}: {label}"[:80])))
        return sorted(markers, key=lambda marker: marker[0])

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[Any]:
        try:
            rows: NDArray[Any] = self._reader.get_analogsignal_chunk(
                block_index=0, seg_index=stretch, i_start=start, i_stop=stop, stream_index=self._stream
            )
        except (OSError, ValueError, IndexError) as error:
            raise RigFault(
                f"{self._path}: cut short or damaged at row {start} ({one_line(error)}); copy it again"
            ) from error
        return rows if len(self._columns) == rows.shape[1] else rows[:, self._columns]

    def close(self) -> None:
        self._reader = None


def _reader(path: Path) -> Any:
    """The neo reader of a file or directory, told to begin a new segment at each pause."""
    rawio = files_extra("neo.rawio")
    if path.is_dir() and any(path.rglob("structure.oebin")):
        kind = rawio.OpenEphysBinaryRawIO
    elif path.is_dir() and any(path.glob("*.continuous")):
        kind = rawio.OpenEphysRawIO
    elif path.is_dir() and any(path.glob("*.ncs")):
        kind = rawio.NeuralynxRawIO
    elif path.suffix.lower() == ".nev":
        raise RigFault(f"{path}: holds events, no continuous signal; give the .ns5 or .ns6 beside it")
    else:
        kind = rawio.get_rawio(path)
    if kind is None:
        raise RigFault(f"{path}: not a recording that is known; expected NWB, XDF, WAV or a format that neo reads")
    known = inspect.signature(kind.__init__).parameters
    options: dict[str, Any] = {"filename" if "filename" in known and not path.is_dir() else "dirname": str(path)}
    if "gap_tolerance_ms" in known:
        options["gap_tolerance_ms"] = GAP_MS
    if "nsx_to_load" in known and path.suffix[1:3].lower() == "ns":
        options["nsx_to_load"] = int(path.suffix[3:])
    return kind(**options)
