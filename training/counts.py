"""Spike counts in bins of any width, from other laboratories: to cached sessions, and from spike times to such a file.

A file of counts is `.npz` (NumPy) or `.mat` (MATLAB, up to version 7.2) with these names:

    counts        (bins, channels)  spikes in each bin; NaN or below 0 where nothing was recorded
    bin_s         one number        the width of a bin, seconds
    labels        (channels,)       optional: names of the channels
    positions     (channels, 2)     optional: column and row on the array
    usable        (bins, channels)  optional: 0 or 1
    date          YYYY-MM-DD        optional: orders the held-out days; else the file's own date is taken
    participant   text              optional

so that `np.savez("day1.npz", counts=counts, bin_s=0.05, date="2021-03-04")` is all it takes. What becomes z: the square
root of the count, whose variance hangs little on the rate (Poisson: about 1/4), less the mean and over the standard
deviation of the trailing `window_s`: causal, so that no bin knows of a later one, and by the normaliser that serves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.signal.settings import BIN_RATE_HZ, NormaliserSettings
from streaming.sources.recorded import files_extra, one_line
from training.normalise import Block, Normalising, blocks_of
from training.sessions import SessionHeader

SUFFIXES = (".npz", ".mat")
NAMES = ("counts", "bin_s", "labels", "positions", "usable", "date", "participant")
NORMALISER = NormaliserSettings("rolling_z", window_s=300.0, min_history_s=30.0, floor_uv=0.1)  # floor: of square roots

log = logging.getLogger(__name__)


def session(
    file: Path, name: str, normaliser: NormaliserSettings | None = None
) -> tuple[SessionHeader, int, Iterator[Block]]:
    """What `write_blocks` needs to make a session of a file of counts: header, bins, blocks of z and usable.

    Raises:
        OperatorFault: a normaliser that counts cannot have.
        RigFault: not such a file.
    """
    chosen = normaliser or NORMALISER
    if chosen.kind != "rolling_z":
        raise OperatorFault(
            f"{file}: found normaliser {chosen.kind}, expected rolling_z: the median deviation of sparse counts is 0; "
            "leave [normaliser] out, or set its window_s"
        )
    fields = _read(file)
    spikes, bin_s = np.asarray(fields["counts"]), float(np.squeeze(fields["bin_s"]))
    if spikes.ndim != 2 or not all(spikes.shape) or not np.issubdtype(spikes.dtype, np.number):
        raise RigFault(f"{file}: found counts {spikes.shape} {spikes.dtype}, expected numbers (bins, channels)")
    if not 0 < bin_s < math.inf:
        raise RigFault(f"{file}: found bin_s {bin_s:g}, expected the width of a bin in seconds")
    bins, channels = spikes.shape
    labels = np.ravel(fields.get("labels", [f"unit{k + 1}" for k in range(channels)]))
    positions = fields.get("positions")
    usable = fields.get("usable")
    for what, found, expected in (
        ("labels", labels.shape, (channels,)),
        ("positions", np.shape(positions), (channels, 2)),
        ("usable", np.shape(usable), (bins, channels)),
    ):
        if found not in (expected, ()):
            raise RigFault(f"{file}: found {what} {found} for counts {spikes.shape}, expected {expected}")
    header = SessionHeader(
        name=name,
        date=_day(file, fields.get("date")),
        participant=str(np.squeeze(fields.get("participant", "unknown"))),
        labels=tuple(str(np.squeeze(label)) for label in labels),
        positions=None if positions is None else tuple((float(x), float(y)) for x, y in positions),
        rate_hz=1 / bin_s,
        chain={"counts": "square root", "bin_s": bin_s, "normaliser": asdict(chosen)},
        bin_rate_hz=1 / bin_s,
        numbers="counts",
    )
    return header, bins, _normalised(spikes, usable, 1 / bin_s, chosen)


def _normalised(
    spikes: NDArray[Any], usable: NDArray[Any] | None, bin_rate_hz: float, settings: NormaliserSettings
) -> Iterator[Block]:
    """The normaliser takes bins for milliseconds, so its seconds are those of as many bins."""
    window, history = (max(1, round(s * bin_rate_hz)) for s in (settings.window_s, settings.min_history_s))
    in_bins = replace(settings, window_s=window / BIN_RATE_HZ, min_history_s=history / BIN_RATE_HZ)
    normalising = Normalising(in_bins, spikes.shape[1], longest_bins=window)
    for at in blocks_of(len(spikes)):
        block = spikes[at].astype(np.float32)
        known = np.isfinite(block) & (block >= 0)
        if usable is not None:
            known &= np.asarray(usable[at], bool)
        yield normalising.push(np.sqrt(np.where(known, block, np.float32(0))), known)


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.suffix.lower() == ".npz":
            with np.load(file) as stored:
                fields = {name: stored[name] for name in NAMES if name in stored}
        else:
            from scipy.io import loadmat

            stored = loadmat(file, variable_names=NAMES)
            fields = {name: stored[name] for name in NAMES if name in stored}
    except NotImplementedError as error:
        raise RigFault(f"{file}: found MATLAB 7.3, expected up to 7.2; save it with -v7, or as .npz") from error
    except Exception as error:  # whatever a damaged archive leads its reader to
        raise RigFault(f"{file}: cannot be read ({one_line(error)}); copy it again") from error
    if missing := [name for name in ("counts", "bin_s") if name not in fields]:
        raise RigFault(f"{file}: found no {' and no '.join(missing)}, expected counts (bins, channels) and bin_s")
    return fields


def _day(file: Path, said: Any) -> str:
    if said is None:
        day = datetime.fromtimestamp(file.stat().st_mtime, UTC).date()
        log.warning("%s does not say when it began; its file's date %s is taken", file, day)
        return day.isoformat()
    try:
        return date.fromisoformat(str(np.squeeze(said))).isoformat()
    except ValueError as error:
        raise RigFault(f"{file}: found date {np.squeeze(said)}, expected YYYY-MM-DD") from error


def bin_spikes(recording: Path, out: Path, bin_s: float) -> tuple[int, int]:
    """Counts the spikes of the units of an NWB file in bins from the session's start; returns (bins, channels) of
    `out`, a file of counts. Outside a unit's `obs_intervals`, where there are any, nothing was recorded.

    Raises:
        OperatorFault: `out` is there already, or a width that is none.
        RigFault: the file holds no units.
    """
    if out.exists() or out.suffix.lower() != ".npz":
        raise OperatorFault(f"{out}: expected the name of an .npz file that is not there yet; choose another --out")
    if not 0 < bin_s < math.inf:
        raise OperatorFault(f"found bins of {bin_s:g} s, expected a width above 0")
    try:
        with files_extra("pynwb").NWBHDF5IO(recording, "r", load_namespaces=True) as io:
            nwb = io.read()
            units = nwb.units
            if units is None or "spike_times" not in units.colnames or not len(units):
                raise RigFault(f"{recording}: found no units with spike times, expected them in its units table")
            trains = [np.asarray(units["spike_times"][row], float) for row in range(len(units))]
            watched = (
                [units["obs_intervals"][row] for row in range(len(units))] if "obs_intervals" in units.colnames else []
            )
            names = [str(name) for name in units.id[:]]
            day = nwb.session_start_time.date().isoformat()
            who = nwb.subject.subject_id if nwb.subject is not None and nwb.subject.subject_id else "unknown"
    except RigFault:
        raise
    except Exception as error:  # pynwb and hdmf raise whatever a damaged file leads them to
        raise RigFault(
            f"{recording}: cannot be read as NWB 2 ({one_line(error)}); check it with pynwb-validate"
        ) from error
    last_s = max(
        [*(train.max() for train in trains if len(train)), *(np.max(one) for one in watched if len(one))], default=0
    )
    bins = int(last_s / bin_s)  # whole ones
    if not bins:
        raise RigFault(f"{recording}: found {last_s:g} s of spikes, expected more than a bin of {bin_s:g} s")
    edges = np.arange(bins + 1) * bin_s
    found = np.stack([np.histogram(train, edges)[0] for train in trains], axis=1).astype(np.uint16)
    usable = np.ones(found.shape, bool)
    for channel, intervals in enumerate(watched):
        inside = np.zeros(bins, bool)
        for first_s, end_s in np.reshape(intervals, (-1, 2)):
            inside |= (edges[:-1] >= first_s) & (edges[1:] <= end_s)
        usable[:, channel] = inside
    draft = out.with_suffix(".part")
    try:
        with draft.open("wb") as file:
            np.savez_compressed(file, counts=found, bin_s=bin_s, labels=names, usable=usable, date=day, participant=who)
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)
    return found.shape
