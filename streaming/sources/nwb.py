"""NWB files: acquisition/Broadband, electrodes, trials. Read with pynwb, block by block."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.chunk import ArrayMap, StreamInfo
from streaming.events import Marker, Report, Stimulation
from streaming.sources.recorded import Stretch, choose, files_extra, one_line

BROADBAND = "Broadband"
UNANSWERED = "unanswered"  # ours, beside the trials: stimulations that nobody reported on, artifacts like any other
SCAN_ROWS = 1_000_000  # timestamps read at once while looking for gaps
CACHE_BYTES = 64 * 2**20  # of HDF5, so that a compressed chunk is unpacked once, not once per block


class NwbRecording:
    """One ElectricalSeries of a file; see Recording."""

    def __init__(self, path: Path, stream: str | None = None) -> None:
        pynwb, h5py = files_extra("pynwb"), files_extra("h5py")
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES)
        except OSError as error:
            raise RigFault(f"{path}: not an NWB file, or cut short ({one_line(error)}); copy it again") from error
        try:
            self._io = pynwb.NWBHDF5IO(file=self._file, mode="r", load_namespaces=True)
            nwb = self._io.read()
            series = _series(path, nwb, pynwb.ecephys.ElectricalSeries, stream)
            self._read_header(path, nwb, series)
        except (RigFault, OperatorFault):
            self._file.close()
            raise
        except Exception as error:  # pynwb and hdmf raise whatever a damaged file leads them to
            self._file.close()
            raise RigFault(
                f"{path}: cannot be read as NWB 2 ({one_line(error)}); check it with pynwb-validate"
            ) from error

    def _read_header(self, path: Path, nwb: Any, series: Any) -> None:
        self._data = series.data
        if self._data.ndim == 1 and len(series.electrodes) == 1:
            raise RigFault(f"{path}: {series.name} is one-dimensional; expected (time, electrode)")
        n_samples, n_channels = self._data.shape
        if len(series.electrodes) != n_channels:
            raise RigFault(f"{path}: {series.name} has {n_channels} columns for {len(series.electrodes)} electrodes")
        self.dtype = np.dtype(self._data.dtype)
        channel = np.ones(n_channels) if series.channel_conversion is None else np.asarray(series.channel_conversion)
        self.scale_uv = (series.conversion * channel * 1e6).astype(np.float32)
        self.offset_uv = np.full(n_channels, series.offset * 1e6, np.float32)
        rate_hz = _rate_hz(series)
        if series.rate is not None:
            self.start_s = float(series.starting_time or 0.0)
            self.stretches = [Stretch(0, n_samples)]
        else:
            self.start_s = float(series.timestamps[0]) if n_samples else 0.0
            self.stretches = _stretches(series.timestamps, rate_hz) if n_samples else []
        self._starts = np.cumsum([0, *(stretch.n_samples for stretch in self.stretches)])
        subject = nwb.subject.subject_id if nwb.subject is not None else None
        session = nwb.session_id or nwb.identifier
        self.info = StreamInfo("replay", series.name, rate_hz, _array(series), subject, session)
        self.markers = self._markers(nwb.trials)
        if UNANSWERED in (nwb.intervals or ()):
            others = self._markers(nwb.intervals[UNANSWERED])
            self.markers += [(at, replace(m, trial=None)) for at, m in others if isinstance(m, Stimulation)]
        self.markers.sort(key=lambda marker: marker[0])
        self.malformed_markers = 0
        self.began: datetime | None = nwb.session_start_time
        self.trials = nwb.trials

    def rows(self, stretch: int, start: int, stop: int) -> NDArray[Any]:
        first = int(self._starts[stretch])
        try:
            rows: NDArray[Any] = self._data[first + start : first + stop]
        except OSError as error:
            raise RigFault(
                f"{self._file.filename}: cannot be read at row {first + start}: {one_line(error)}"
            ) from error
        return rows

    def close(self) -> None:
        self._io.close()
        self._file.close()

    def _markers(self, trials: Any) -> list[tuple[int, Marker]]:
        """Stimulations at their onset, reports at the trial's end; the pulses inside a train are not in the table."""
        markers: list[tuple[int, Marker]] = []
        if trials is None:
            return markers
        columns = {name: np.asarray(trials[name][:]) for name in trials.colnames}
        for row, trial in enumerate(np.asarray(trials.id[:]).tolist()):
            value = {name: column[row] for name, column in columns.items()}
            if np.isfinite(onset := float(value.get("stim_onset", np.nan))):
                markers.append((self._sample_of(onset), _stimulation(trial, value)))
            if "perceived" in value:
                report = Report(trial=trial, perceived=bool(value["perceived"]))
                markers.append((self._sample_of(float(value["stop_time"])), report))
        return markers

    def _sample_of(self, time_s: float) -> int:
        return round((time_s - self.start_s) * self.info.rate_hz)


def _stimulation(trial: int, value: dict[str, Any]) -> Stimulation:
    """A row of the trials table. The pulse columns are ours and optional: they tell where the last pulse ends."""

    def number(column: str) -> float | None:
        return float(value[column]) if column in value and np.isfinite(value[column]) else None

    def whole(column: str) -> int | None:
        return None if (found := number(column)) is None else int(found)

    return Stimulation(
        trial=trial,
        electrode=whole("stim_electrode"),
        current_ua=number("current_ua"),
        duration_s=number("stim_duration") or 0.0,
        pulses=whole("pulses"),
        phase_us=number("phase_us"),
        interphase_us=number("interphase_us"),
        frequency_hz=number("frequency_hz"),
    )


def _series(path: Path, nwb: Any, kind: type, stream: str | None) -> Any:
    found = {name: series for name, series in nwb.acquisition.items() if isinstance(series, kind)}
    if not found:
        held = ", ".join(nwb.acquisition) or "nothing"
        raise RigFault(f"{path}: no recording with electrodes: acquisition holds {held}, expected {BROADBAND}")
    if stream is None and BROADBAND in found:
        return found[BROADBAND]
    rates_hz = {name: _rate_hz(series) for name, series in found.items()}
    return found[choose(path, stream, rates_hz)]


def _array(series: Any) -> ArrayMap:
    """Labels and grid places from the electrodes table."""
    table = series.electrodes.table
    rows = list(series.electrodes.data[:])
    label = next((name for name in ("label", "channel_name") if name in table.colnames), None)
    ids = [int(table.id[row]) for row in rows]
    labels = [f"elec{i}" for i in ids] if label is None else [str(table[label][row]) for row in rows]
    if "rel_x" not in table.colnames or "rel_y" not in table.colnames:
        return ArrayMap(tuple(labels))
    places = tuple((float(table["rel_x"][row]), float(table["rel_y"][row])) for row in rows)
    return ArrayMap(tuple(labels), places if np.isfinite(places).all() else None)


def _rate_hz(series: Any) -> float:
    """As declared; of timestamps the rate that neighbours keep, to a hundredth of a hertz, so that rounding is none."""
    if series.rate is not None:
        return float(series.rate)
    steps = np.diff(series.timestamps[:SCAN_ROWS])
    steps = steps[np.abs(steps - np.median(steps)) < 0.5 * np.median(steps)]
    return round(1.0 / float(steps.mean()), 2) if len(steps) else 0.0


def _stretches(timestamps: Any, rate_hz: float) -> list[Stretch]:
    """Cut where two timestamps are more than one and a half periods apart."""
    start_s, n_samples = float(timestamps[0]), timestamps.shape[0]
    cuts = [0]
    for first in range(0, n_samples - 1, SCAN_ROWS):
        block = np.asarray(timestamps[first : first + SCAN_ROWS + 1])
        cuts.extend((first + 1 + np.flatnonzero(np.diff(block) * rate_hz > 1.5)).tolist())
    cuts.append(n_samples)
    stretches: list[Stretch] = []
    first_sample = 0
    for start, stop in pairwise(cuts):
        first_sample = max(first_sample, round((float(timestamps[start]) - start_s) * rate_hz))
        stretches.append(Stretch(first_sample, stop - start))
        first_sample += stop - start
    return stretches
