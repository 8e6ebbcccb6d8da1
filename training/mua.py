"""`phosphene mua`: a recording through the very chain that serves, kept as 1 kHz envelopes in NWB.

The bin grid is never shifted: bin k of the file is bin k of the stream. Bins of a pause are 0, and whatever the chain
does not vouch for (start, stimulation, pauses) stands in `invalid_times`. Memory does not depend on the length: the
file is laid out first, then filled block by block. It appears under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from models.errors import OperatorFault
from streaming.chunk import EndOfRecording
from streaming.events import Stimulation
from streaming.signal.bins import Bins
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from streaming.sources.recorded import end_of, files_extra
from streaming.sources.recording import RecordingSource, open_recording
from training.mua_file import DATA, Runs, finish, lay_out

BLOCK_S = 0.5
LOOK_AHEAD_S = 1.0  # stimulations are told before their samples come, so that no bin is written twice


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
        lay_out(partial, Path(recording), source.recording, n_bins, settings)
        with _progress(quiet) as tell:
            invalid, usable = _fill(partial, source, chain, n_bins, tell)
        finish(partial, source.recording.start_s, invalid, usable)
        partial.rename(out)
    finally:
        source.close()
        partial.unlink(missing_ok=True)


def _fill(path: Path, source: RecordingSource, chain: SignalChain, n_bins: int, tell: Any) -> tuple[list[Any], Any]:
    """Runs the chain; returns invalid stretches as (first bin, end bin) and how often each channel was usable."""
    valid_bins = np.zeros(source.info.n_channels, np.int64)
    invalid = Runs()
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


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """A bar on standard error, where someone may look at it."""
    console = Console(stderr=True)
    columns = (TextColumn("MUA"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share: bar.update(task, completed=share)
