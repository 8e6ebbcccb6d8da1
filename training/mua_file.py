"""The NWB file that `phosphene mua` and `phosphene record` write: laid out first, filled block by block, finished last.

Laid out, it holds everything but the numbers: electrodes, trials, an empty dataset of the final shape. Only at the end
is known what is not vouched for (`invalid_times`) and how often each channel was usable.

A stimulation that was never answered is no trial, since `perceived` has no word for it. Its artifact is in the samples
all the same, so it stands in a table of its own, `unanswered`, for whoever runs the broadband through the chain again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from streaming.events import Marker, Report, Stimulation
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings
from streaming.sources.nwb import UNANSWERED
from streaming.sources.recorded import Recording, files_extra

DATA = "/processing/ecephys/MUA/data"
TRIAL_COLUMNS = {
    "stim_onset": "seconds from the session's start",
    "stim_duration": "seconds",
    "stim_electrode": "1-based, as printed on the array; 0 where unknown",
    "current_ua": "microamperes",
    "pulses": "of the train; NaN where unknown",
    "phase_us": "of one phase, microseconds; NaN where unknown",
    "interphase_us": "between the two phases, microseconds; NaN where unknown",
    "frequency_hz": "of the pulses; NaN where unknown",
}
PERCEIVED = "the participant's answer"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Train:
    """A stimulation at a sample and, where it was answered, the report and its sample."""

    at: int
    stimulation: Stimulation
    told_at: int | None = None
    perceived: bool | None = None


def trains(markers: Sequence[tuple[int, Marker]]) -> list[Train]:
    """Every stimulation, in order of time. A report answers the newest one of its trial number before it, and only the
    first report counts: numbers may begin again when the experiment's software does."""
    found: list[Train] = []
    newest: dict[int, int] = {}  # trial number -> place in `found`, until it is answered
    for at, marker in sorted(markers, key=lambda one: one[0]):
        if isinstance(marker, Stimulation):
            if marker.trial is not None:
                newest[marker.trial] = len(found)
            found.append(Train(at, marker))
        elif isinstance(marker, Report) and marker.trial in newest:
            place = newest.pop(marker.trial)
            found[place] = Train(found[place].at, found[place].stimulation, at, marker.perceived)
    return found


class Runs:
    """Stretches of bad bins, with the bins that were never given counted as bad."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int]] = []
        self._next = 0

    def push(self, first_bin: int, bad: Any) -> None:
        if first_bin > self._next:
            self._add(self._next, first_bin)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(np.int8), [0]]))) + first_bin
        for start, end in edges.reshape(-1, 2).tolist():
            self._add(start, end)
        self._next = first_bin + len(bad)

    def _add(self, start: int, end: int) -> None:
        if self.runs and self.runs[-1][1] == start:
            start = self.runs.pop()[0]
        self.runs.append((start, end))


def lay_out(
    path: Path,
    source_path: Path,
    recording: Recording,
    n_bins: int,
    settings: ChainSettings,
    beside: Callable[[Any, Any], None] | None = None,
    **says: Any,
) -> None:
    """The whole file but for the numbers. `beside` may add to the NWB file, given the region of all electrodes; `says`
    goes into the comments of the MUA."""
    pynwb, hdmf = files_extra("pynwb"), files_extra("hdmf.backends.hdf5")
    info = recording.info
    began = recording.began
    if began is None:
        began = datetime.fromtimestamp(source_path.stat().st_mtime, UTC)
        log.warning("%s does not say when it began; its file's date %s is taken", source_path, began.date())
    nwb = pynwb.NWBFile(
        session_description=f"multi-unit activity of {source_path.name}",
        identifier=f"{info.session or source_path.stem}-mua",
        session_start_time=began if began.tzinfo else began.replace(tzinfo=UTC),
        session_id=info.session or source_path.stem,
    )
    if info.participant is not None:
        nwb.subject = pynwb.file.Subject(subject_id=info.participant, description="as the recording says")
    device = nwb.create_device(name="array")
    group = nwb.create_electrode_group(name="array", description=info.name, location="V1", device=device)
    nwb.add_electrode_column("label", "as printed on the array")
    for index, label in enumerate(info.array.labels):
        place = (
            {}
            if info.array.positions is None
            else dict(zip(("rel_x", "rel_y"), info.array.positions[index], strict=True))
        )
        nwb.add_electrode(group=group, location="V1", label=label, **place)
    region = nwb.create_electrode_table_region(list(range(info.n_channels)), "the channels of the stream")
    rows = max(1, min(n_bins, BIN_RATE_HZ))
    shape = (n_bins, info.n_channels)
    about = {"chain": settings.to_dict(), "chain_sha256": settings.sha256(), "rate_hz": info.rate_hz}
    series = pynwb.ecephys.ElectricalSeries(
        name="MUA",
        data=hdmf.H5DataIO(shape=shape, dtype=np.dtype("f4"), chunks=(rows, info.n_channels), fillvalue=0.0),
        electrodes=region,
        conversion=1e-6,
        rate=float(BIN_RATE_HZ),
        starting_time=recording.start_s,
        description="causal multi-unit envelope before normalisation, microvolts times conversion",
        comments=json.dumps(about | says),
    )
    nwb.create_processing_module("ecephys", "made by phosphene").add(series)
    if recording.trials is not None:
        _copy_trials(nwb, recording.trials)
    else:
        _add_trials(nwb, recording)
    if beside is not None:
        beside(nwb, region)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwb)


def _copy_trials(nwb: Any, trials: Any) -> None:
    columns = {name: trials[name] for name in trials.colnames if name != "timeseries"}
    for name, column in columns.items():
        if name not in ("start_time", "stop_time"):
            nwb.add_trial_column(name, column.description, index=hasattr(column, "target"))
    for row in range(len(trials)):
        nwb.add_trial(**{name: column[row] for name, column in columns.items()})


def _add_trials(nwb: Any, recording: Recording) -> None:
    """Of a recording that has only markers: a trial for each stimulation that was answered, and the others apart."""
    told = trains(recording.markers)
    answered = [train for train in told if train.perceived is not None]
    if answered:  # pynwb writes no empty table
        for name, description in (TRIAL_COLUMNS | {"perceived": PERCEIVED}).items():
            nwb.add_trial_column(name, description)
    for train in answered:
        nwb.add_trial(**_row(recording, train), perceived=train.perceived)
    if len(answered) == len(told):
        return
    others = files_extra("pynwb").epoch.TimeIntervals(name=UNANSWERED, description="stimulations without a report")
    for name, description in TRIAL_COLUMNS.items():
        others.add_column(name, description)
    for train in told:
        if train.perceived is None:
            others.add_row(**_row(recording, train))
    nwb.add_time_intervals(others)


def _row(recording: Recording, train: Train) -> dict[str, Any]:
    rate_hz, told = recording.info.rate_hz, train.stimulation
    onset_s, end_s = (recording.start_s + at / rate_hz for at in (train.at, train.told_at or train.at))

    def number(value: float | None) -> float:
        return np.nan if value is None else float(value)

    return {
        "start_time": onset_s,
        "stop_time": max(onset_s + told.duration_s, end_s),
        "stim_onset": onset_s,
        "stim_duration": told.duration_s,
        "stim_electrode": told.electrode or 0,
        "current_ua": number(told.current_ua),
        "pulses": number(told.pulses),
        "phase_us": number(told.phase_us),
        "interphase_us": number(told.interphase_us),
        "frequency_hz": number(told.frequency_hz),
    }


def finish(path: Path, start_s: float, invalid: list[tuple[int, int]], usable: Any) -> None:
    """What is known only at the end: invalid times, and the share of valid bins in which each channel was usable."""
    pynwb = files_extra("pynwb")
    with pynwb.NWBHDF5IO(path, "a") as io:
        nwb = io.read()
        for first, end in invalid:
            nwb.add_invalid_time_interval(start_s + first / BIN_RATE_HZ, start_s + end / BIN_RATE_HZ)
        nwb.electrodes.add_column("usable", "share of valid bins in which the channel was usable", data=usable.tolist())
        io.write(nwb)
