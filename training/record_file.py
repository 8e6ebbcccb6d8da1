"""From the spool of a recording to its NWB file: MUA, trials, what is not vouched for, and the broadband where kept."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import OperatorFault, RigFault
from streaming.signal.design import BinGrid
from streaming.signal.settings import BIN_RATE_HZ
from streaming.sources.recorded import end_of, files_extra, one_line
from training.mua_file import DATA, Runs, finish, lay_out, trains
from training.spooled import BLOCK, SpoolRecording


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a finished file holds."""

    path: Path
    seconds: float
    valid_s: float
    trials: int
    perceived: int
    unanswered: int
    late: int

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.seconds:.1f} s, {self.valid_s:.1f} s of it valid; {self.trials} trials, "
            f"{self.perceived} perceived; {self.unanswered} stimulations without a report, {self.late} told too late"
        )


def recover(spool: Path) -> Recorded:
    """Makes the file of a spool, then takes the spool away.

    Raises:
        OperatorFault: no spool, one that is being written, or its file is there already.
        RigFault: the spool holds nothing, or the disk takes no more; the spool stays.
    """
    if spool.suffixes[-2:] != [".nwb", ".part"]:
        raise OperatorFault(f"{spool}: expected the folder S.nwb.part that a broken recording left")
    out = spool.with_suffix("")
    if out.exists():
        raise OperatorFault(f"{out} is there already and is never overwritten; if it is whole, remove {spool}")
    recording = SpoolRecording(spool)
    partial = out.with_name(f".{out.stem}.partial.nwb")
    try:
        if not recording.n_bins:
            raise RigFault(f"{spool} holds less than a second and a half: no bin of it is final; remove it")
        recorded = _write(recording, out, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(out)
    except (OSError, RuntimeError) as error:  # HDF5 has both for a disk that is full
        why = one_line(error)
        raise RigFault(
            f"{out} cannot be written ({why}); make room, then: phosphene record --recover {spool}"
        ) from error
    finally:
        recording.close()
        partial.unlink(missing_ok=True)
    shutil.rmtree(spool)
    return recorded


def _write(recording: SpoolRecording, out: Path, partial: Path) -> Recorded:
    h5py = files_extra("h5py")
    n_bins, n_channels = recording.n_bins, recording.info.n_channels
    if recording.stretches:
        n_bins = max(n_bins, BinGrid.of(recording.info.rate_hz).bin_of(end_of(recording)))
    beside = (lambda nwb, region: _lay_out_broadband(nwb, region, recording)) if recording.stretches else None
    lay_out(partial, out, recording, n_bins, recording.chain, beside, lsl_time_of_sample_0=recording.lsl_time)
    spoilt = _spoilt(recording)
    invalid, usable_bins = Runs(), np.zeros(n_channels, np.int64)
    with h5py.File(partial, "r+") as file:
        for block in recording.bins():
            first = int(block["bin"][0])
            valid = block["valid"].astype(bool)
            for start, end in spoilt:
                valid[max(0, start - first) : max(0, end - first)] = False
            file[DATA][first : first + len(block)] = block["uv"]
            invalid.push(first, ~valid)
            usable_bins += (block["usable"].astype(bool) & valid[:, None]).sum(axis=0)
        if recording.stretches:
            _copy_broadband(file["/acquisition/Broadband"], recording)
    invalid.push(n_bins, np.zeros(0, bool))
    n_valid = n_bins - sum(end - start for start, end in invalid.runs)
    finish(partial, recording.start_s, invalid.runs, usable_bins / max(1, n_valid))
    told = trains(recording.markers)
    answers = [train.perceived for train in told if train.perceived is not None]
    seconds, valid_s = n_bins / BIN_RATE_HZ, n_valid / BIN_RATE_HZ
    return Recorded(out, seconds, valid_s, len(answers), sum(answers), len(told) - len(answers), len(recording.late))


def _spoilt(recording: SpoolRecording) -> list[tuple[int, int]]:
    """Bins that hold artifacts of trains told too late, until the filters have forgotten them, and of trains that touch
    those: the lines across them end in an artifact."""
    chain, rate_hz, late = recording.chain, recording.info.rate_hz, {at for at, _ in recording.late}
    bin_of = BinGrid.of(rate_hz).bin_of
    found: list[tuple[int, int]] = []
    for train in trains(recording.markers):
        start = train.at - round(chain.blank_before_s * rate_hz)
        end = train.at + round((train.stimulation.last_pulse_end_s + chain.start_settle_s) * rate_hz)
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        elif train.at in late:
            found.append((start, end))
    return [(bin_of(max(0, start)), bin_of(max(0, end)) + 1) for start, end in found]


def _lay_out_broadband(nwb: Any, region: Any, recording: SpoolRecording) -> None:
    """An empty series; with a stamp for each sample where some were lost, since a rate cannot tell of gaps."""
    pynwb, hdmf = files_extra("pynwb"), files_extra("hdmf.backends.hdf5")
    scale, n_rows = recording.scale_uv, sum(stretch.n_samples for stretch in recording.stretches)
    whole = len(recording.stretches) == 1 and recording.stretches[0].first_sample == 0
    timing: dict[str, Any] = {"rate": recording.info.rate_hz, "starting_time": recording.start_s}
    if not whole:
        timing = {"timestamps": hdmf.H5DataIO(shape=(n_rows,), dtype=np.dtype("f8"), chunks=True)}
    per_channel = None if (scale == scale[0]).all() else scale.astype(np.float64) / float(scale[0])
    rows = min(n_rows, round(recording.info.rate_hz))
    data = hdmf.H5DataIO(shape=(n_rows, len(scale)), dtype=np.dtype("i2"), chunks=(rows, len(scale)))
    nwb.add_acquisition(
        pynwb.ecephys.ElectricalSeries(
            name="Broadband",
            data=data,
            electrodes=region,
            conversion=float(scale[0]) * 1e-6,
            channel_conversion=per_channel,
            description="as it came from the amplifier",
            **timing,
        )
    )


def _copy_broadband(group: Any, recording: SpoolRecording) -> None:
    row = 0
    for index, stretch in enumerate(recording.stretches):
        for start in range(0, stretch.n_samples, BLOCK):
            rows = recording.rows(index, start, min(start + BLOCK, stretch.n_samples))
            group["data"][row : row + len(rows)] = rows
            if "timestamps" in group:
                samples = stretch.first_sample + start + np.arange(len(rows))
                group["timestamps"][row : row + len(rows)] = recording.start_s + samples / recording.info.rate_hz
            row += len(rows)
