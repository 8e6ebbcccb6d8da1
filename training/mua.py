"""`phosphene mua`: a recording through the very chain that serves, kept as 1 kHz envelopes in NWB.

The bin grid is never shifted: bin k of the file is bin k of the stream. Bins of a pause are 0, and whatever the chain
does not vouch for (start, stimulation, pauses) stands in `invalid_times`. Memory does not depend on the length: the
file is laid out first, then filled block by block. It appears under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from models.errors import OperatorFault
from streaming.chunk import EndOfRecording
from streaming.events import Report, Stimulation
from streaming.signal.chain import Bins, SignalChain
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings
from streaming.sources.recorded import Recording, end_of, files_extra
from streaming.sources.recording import RecordingSource, open_recording

BLOCK_S = 0.5
LOOK_AHEAD_S = 1.0  # stimulations are told before their samples come, so that no bin is written twice
DATA = "/processing/ecephys/MUA/data"

log = logging.getLogger(__name__)


def mua(
    recording: Path,
    out: Path,
    settings: ChainSettings | None = None,
    stream: str | None = None,
    scale_uv: float | None = None,
    quiet: bool = False,
) -> None:
    """Writes the MUA of `recording` to `out` (NWB: processing/ecephys/MUA, float32 (bins, channels), microvolts).

    Raises:
        OperatorFault: `out` is there already, or what `open_recording` says.
        RigFault: the recording is broken.
    """
    out = Path(out)
    if out.exists():
        raise OperatorFault(f"{out} is there already and is never overwritten; choose another --out")
    if not out.parent.is_dir():
        raise OperatorFault(f"{out.parent}: no such folder; make it first")
    settings = settings or ChainSettings()
    source = open_recording(recording, stream, pace=None, chunk_s=BLOCK_S, scale_uv=scale_uv)
    partial = out.with_name(f".{out.stem}.partial.nwb")
    try:
        chain = SignalChain(settings, source.info.rate_hz, source.info.n_channels)
        n_bins = chain.grid.bin_of(end_of(source.recording))
        _lay_out(partial, Path(recording), source.recording, n_bins, settings)
        with _progress(quiet) as tell:
            invalid, usable = _fill(partial, source, chain, n_bins, tell)
        _finish(partial, source.recording.start_s, invalid, usable)
        partial.rename(out)
    finally:
        source.close()
        partial.unlink(missing_ok=True)


def _fill(path: Path, source: RecordingSource, chain: SignalChain, n_bins: int, tell: Any) -> tuple[list[Any], Any]:
    """Runs the chain; returns invalid stretches as (first bin, end bin) and how often each channel was usable."""
    valid_bins = np.zeros(source.info.n_channels, np.int64)
    invalid = _Runs()
    with files_extra("h5py").File(path, "r+") as file:
        data = file[DATA]
        for bins in _bins(source, chain):
            if len(bins):
                data[bins.first_bin : bins.end_bin] = bins.envelope_uv
                invalid.push(bins.first_bin, ~bins.valid)
                valid_bins += bins.usable.sum(axis=0)
                tell(bins.end_bin / n_bins)
    invalid.push(n_bins, np.zeros(0, bool))
    return invalid.runs, valid_bins / max(1, n_bins - sum(end - first for first, end in invalid.runs))


def _bins(source: RecordingSource, chain: SignalChain) -> Iterator[Bins]:
    rate_hz = source.info.rate_hz
    trains = iter([(at, m) for at, m in source.recording.markers if isinstance(m, Stimulation)])
    train = next(trains, None)
    with contextlib.suppress(EndOfRecording):
        while True:
            chunk = source.read(0.0)
            assert chunk is not None  # as fast as possible: there is nothing to wait for
            ahead = chunk.first_sample + len(chunk.samples_uv) + LOOK_AHEAD_S * rate_hz
            while train is not None and train[0] < ahead:
                chain.stimulation(train[0], train[1].last_pulse_end_s)
                train = next(trains, None)
            yield chain.push(chunk.samples_uv, chunk.first_sample)


class _Runs:
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


def _lay_out(path: Path, source_path: Path, recording: Recording, n_bins: int, settings: ChainSettings) -> None:
    """The whole file but for the numbers: an empty dataset of the final shape, electrodes, trials, settings."""
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
    shape = (n_bins, info.n_channels)
    rows = max(1, min(n_bins, BIN_RATE_HZ))
    series = pynwb.ecephys.ElectricalSeries(
        name="MUA",
        data=hdmf.H5DataIO(shape=shape, dtype=np.dtype("f4"), chunks=(rows, info.n_channels), fillvalue=0.0),
        electrodes=nwb.create_electrode_table_region(list(range(info.n_channels)), "the channels of the stream"),
        conversion=1e-6,
        rate=float(BIN_RATE_HZ),
        starting_time=recording.start_s,
        description="causal multi-unit envelope before normalisation, microvolts times conversion",
        comments=json.dumps({"chain": settings.to_dict(), "chain_sha256": settings.sha256(), "rate_hz": info.rate_hz}),
    )
    nwb.create_processing_module("ecephys", "made by phosphene mua").add(series)
    _add_trials(nwb, recording)
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
    """The recording's own trials; where it has only markers, a trial for each stimulation that was answered."""
    if recording.trials is not None:
        _copy_trials(nwb, recording.trials)
        return
    reports = {m.trial: (at, m) for at, m in recording.markers if isinstance(m, Report)}
    trains = [(at, m) for at, m in recording.markers if isinstance(m, Stimulation)]
    if not trains:
        return
    for name, description in TRIAL_COLUMNS.items():
        nwb.add_trial_column(name, description)
    for at, train in trains:
        onset_s = recording.start_s + at / recording.info.rate_hz
        if train.trial not in reports:
            continue  # nobody knows whether it was perceived, and the table has no word for that
        told_at, report = reports[train.trial]
        nwb.add_trial(
            start_time=onset_s,
            stop_time=max(onset_s + train.duration_s, recording.start_s + told_at / recording.info.rate_hz),
            stim_onset=onset_s,
            stim_duration=train.duration_s,
            stim_electrode=train.electrode or 0,
            current_ua=np.nan if train.current_ua is None else train.current_ua,
            perceived=report.perceived,
        )


TRIAL_COLUMNS = {
    "stim_onset": "seconds from the session's start",
    "stim_duration": "seconds",
    "stim_electrode": "1-based, as printed on the array; 0 where unknown",
    "current_ua": "microamperes",
    "perceived": "the participant's answer",
}


def _finish(path: Path, start_s: float, invalid: list[tuple[int, int]], usable: Any) -> None:
    """What is known only at the end: invalid times, and the share of valid bins in which each channel was usable."""
    pynwb = files_extra("pynwb")
    with pynwb.NWBHDF5IO(path, "a") as io:
        nwb = io.read()
        for first, end in invalid:
            nwb.add_invalid_time_interval(start_s + first / BIN_RATE_HZ, start_s + end / BIN_RATE_HZ)
        nwb.electrodes.add_column("usable", "share of valid bins in which the channel was usable", data=usable.tolist())
        io.write(nwb)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """A bar on standard error, where someone may look at it."""
    console = Console(stderr=True)
    columns = (TextColumn("MUA"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share: bar.update(task, completed=share)
