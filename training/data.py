"""Sessions of normalised MUA on disk, memory-mapped, and the windows that training draws from them.

A session is a directory: `z.npy` float32 (bins, channels), `usable.npy` bool (bins, channels), `session.json`. It is
made once from an NWB file of MUA, by the normaliser that serves, and remembers the chain settings that made it:
sessions of another chain are refused, since a network must not be trained on what it will never be shown. Where the
normaliser needs statistics, which hang on what is held out, the envelope is kept instead (`envelope.npy`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.chunk import ArrayMap
from streaming.pipeline import EVOKED_START_BINS
from streaming.signal.normaliser import Normaliser, Statistics
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings, NormaliserSettings

LEAST_SHARE = 0.5  # of its valid bins in which a channel must have been usable, to be used at all
_BLOCK_BINS = 10_000


@dataclass(frozen=True)
class Trial:
    """One stimulation and the answer to it. `observers`: the probability of a percept to who knows the simulated
    `state`, and to who sees the same window (`prestimulus`, `evoked`) at level A and knows the participant by heart."""

    onset_s: float
    electrode: int  # 1-based
    current_ua: float
    perceived: bool
    observers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionHeader:
    """What a session says of itself; `date` is the ISO day that orders the held-out split."""

    name: str
    date: str
    participant: str
    labels: tuple[str, ...]
    positions: tuple[tuple[float, float], ...] | None
    rate_hz: float  # of the broadband that it was made from
    chain: dict[str, Any]
    trials: tuple[Trial, ...] = ()

    @property
    def array(self) -> ArrayMap:
        return ArrayMap(self.labels, self.positions)


@dataclass(frozen=True, eq=False)
class Session:
    """`stored` is z or, where the normaliser needs `statistics`, the envelope in microvolts; they make z of it as it is
    read, bin by bin. Both arrays (bins, channels), memory-mapped."""

    header: SessionHeader
    stored: NDArray[np.float32]
    usable: NDArray[np.bool_]
    statistics: Statistics | None = None

    @property
    def z(self) -> NDArray[np.float32]:
        """The whole session, (bins, channels)."""
        return self._normalised(self.stored, self.usable)

    def windows(self, first_bins: NDArray[np.int64], length: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Windows (n, channels, length) that start at `first_bins`; the channels usable throughout, (n, channels)."""
        stored, usable = (np.stack([part[b : b + length] for b in first_bins]) for part in (self.stored, self.usable))
        return np.ascontiguousarray(self._normalised(stored, usable).swapaxes(1, 2)), usable.all(axis=1)

    def _normalised(self, stored: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
        if not needs_statistics(self.header.chain):
            return stored
        assert self.statistics is not None  # `freeze` comes first
        return frozen_z(stored, usable, self.statistics, self.header.chain["normaliser"]["floor_uv"])

    def allowed(self, length: int, first: int = 0, end: int | None = None) -> NDArray[np.int64]:
        """First bins of all windows inside [first, end) that hold no bin without a usable channel."""
        bad = ~self.usable[first:end].any(axis=1)
        bad_before = np.concatenate([[0], np.cumsum(bad)])
        return first + np.flatnonzero(bad_before[length:] == bad_before[:-length]) if len(bad) >= length else _NONE

    def trial_bins(self, probe: str, length: int) -> NDArray[np.int64]:
        """First bin of each trial's window: the last whole one before the artifact, or the evoked one."""
        onsets = np.array([trial.onset_s for trial in self.header.trials])
        if probe == "evoked":
            return np.rint(onsets * BIN_RATE_HZ).astype(np.int64) + EVOKED_START_BINS
        blank_from = onsets - self.header.chain["blank_before_s"]
        return np.floor(blank_from * BIN_RATE_HZ + 1e-6).astype(np.int64) - length


_NONE = np.empty(0, np.int64)


def needs_statistics(chain: dict[str, Any]) -> bool:
    """Whether this chain normalises by a median and MAD that are fitted beforehand."""
    return chain["normaliser"]["kind"] in ("robust_frozen", "robust_session")


def _stored_as(header: SessionHeader) -> str:
    return "envelope.npy" if needs_statistics(header.chain) else "z.npy"


def write_session(folder: Path, header: SessionHeader, stored: NDArray[np.float32], usable: NDArray[np.bool_]) -> Path:
    """Writes `folder/NAME` in one move and returns it; `stored` as in `Session`."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    try:
        np.save(draft / _stored_as(header), stored.astype(np.float32, copy=False))
        np.save(draft / "usable.npy", usable)
        (draft / "session.json").write_text(json.dumps(asdict(header)))
        target = folder / header.name
        shutil.rmtree(target, ignore_errors=True)
        os.replace(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def read_session(path: Path) -> Session:
    """A cached session.

    Raises:
        RigFault: the directory is not one.
    """
    try:
        fields = json.loads((path / "session.json").read_text())
        fields["trials"] = tuple(Trial(**trial) for trial in fields["trials"])
        fields["labels"] = tuple(fields["labels"])
        positions = fields["positions"]
        fields["positions"] = None if positions is None else tuple((float(x), float(y)) for x, y in positions)
        header = SessionHeader(**fields)
        stored, usable = (np.load(path / name, mmap_mode="r") for name in (_stored_as(header), "usable.npy"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RigFault(f"{path} is not a cached session: {error}; make the cache again") from error
    if stored.shape != usable.shape or stored.shape[1:] != (len(header.labels),):
        raise RigFault(f"{path} holds MUA {stored.shape} and usable {usable.shape} for {len(header.labels)} channels")
    return Session(header, stored, usable)


def normalise(
    envelope_uv: NDArray[np.float32], valid: NDArray[np.bool_], usable: NDArray[np.bool_], chain: ChainSettings
) -> NDArray[np.float32]:
    """A whole recording (bins, channels) through the normaliser that serves, block by block; a new one behind each
    long pause, as live."""
    z = np.empty(envelope_uv.shape, np.float32)
    for first, end in _stretches(usable.any(axis=1) & valid, chain):
        normaliser = Normaliser(chain.normaliser, envelope_uv.shape[1])
        for start in range(first, end, _BLOCK_BINS):
            block = slice(start, min(start + _BLOCK_BINS, end))
            z[block] = normaliser.push(envelope_uv[block], valid[block], usable[block])
    return z


def frozen_z(
    envelope_uv: NDArray[np.float32], usable: NDArray[np.bool_], statistics: Statistics, floor_uv: float
) -> NDArray[np.float32]:
    """What the normaliser that serves makes of bins (…, channels) by fixed statistics: no bin depends on another, so
    that windows can be normalised as they are drawn. 0 where not usable."""
    scale = np.maximum((1.4826 * statistics.mad_uv).astype(np.float32), np.float32(floor_uv))
    return np.where(usable, (envelope_uv - statistics.median_uv).astype(np.float32) / scale, np.float32(0))


def settled(usable: NDArray[np.bool_], chain: ChainSettings) -> NDArray[np.bool_]:
    """Usable bins (bins, channels) less those of which the normaliser has not seen enough to vouch for a z value; one
    with fitted statistics need not have seen any."""
    if needs_statistics(chain.to_dict()):
        return usable
    enough = np.empty(usable.shape, bool)
    for first, end in _stretches(usable.any(axis=1), chain):
        seen = np.cumsum(usable[first:end], axis=0, dtype=np.int32)
        enough[first:end] = seen >= chain.normaliser.min_history_s * BIN_RATE_HZ
    return usable & enough


def _stretches(vouched: NDArray[np.bool_], chain: ChainSettings) -> list[tuple[int, int]]:
    """(first, end) of the bins between which the chain, live, would have begun anew: where more than its longest gap
    was lost. The bins in which its filters settle behind a gap are lost too, so they are allowed for. A file does not
    tell a pause from a train as long, behind which the chain goes on: there the history is counted anew as well."""
    longest = round((chain.longest_gap_s + chain.start_settle_s) * BIN_RATE_HZ)
    good = np.flatnonzero(vouched)
    anew = good[1:][np.diff(good) - 1 > longest]
    return list(pairwise([0, *anew.tolist(), len(vouched)]))


def cached(file: Path, cache: Path, normaliser: NormaliserSettings | None = None) -> Path:
    """The session of an NWB file of MUA, made now unless it stands; the file's content decides, not its name. The file
    holds the envelope, so that any `normaliser` can follow; without one, that of the chain which made it does.

    What lies in `invalid_times`, is NaN, or belongs to a channel of which less than half was usable, is not usable. A
    file that does not say which chain made it (in the comments of its MUA) is taken to be of the default one.

    Raises:
        RigFault: no MUA by the contract in this file.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    if normaliser is not None:
        digest.update(json.dumps(asdict(normaliser)).encode())
    target = cache / f"{file.stem}-{digest.hexdigest()[:12]}"
    if (target / "session.json").exists():
        return target
    from pynwb import NWBHDF5IO  # slow to load, and needed only here

    try:
        with NWBHDF5IO(file, "r", load_namespaces=True) as io:
            nwb = io.read()
            series = nwb.processing["ecephys"]["MUA"]
            envelope_uv = (series.data[:] * (1e6 * series.conversion) + 1e6 * series.offset).astype(np.float32)
            header = _header(nwb, series, target.name)
            usable = _usable(nwb, series, envelope_uv)
            rate_hz = float(series.rate or 0)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise RigFault(
            f"{file} holds no MUA that can be read ({error}); make it from broadband with `phosphene mua`"
        ) from error
    if rate_hz != BIN_RATE_HZ or envelope_uv.shape[1:] != (len(header.labels),):
        raise RigFault(f"{file}: MUA of shape {envelope_uv.shape} at {rate_hz} Hz, expected (bins, electrodes) at 1000")
    chain = ChainSettings.from_dict(header.chain)
    if normaliser is not None:
        chain = replace(chain, normaliser=normaliser)
        header = replace(header, chain=chain.to_dict())
    stored = np.where(usable, envelope_uv, np.float32(0))
    if not needs_statistics(header.chain):
        stored = normalise(stored, usable.any(axis=1), usable, chain)
    return write_session(cache, header, stored, settled(usable, chain))


def _usable(nwb: Any, series: Any, envelope_uv: NDArray[np.float32]) -> NDArray[np.bool_]:
    usable = np.isfinite(envelope_uv)
    if nwb.invalid_times is not None:
        for first_s, end_s in zip(nwb.invalid_times["start_time"][:], nwb.invalid_times["stop_time"][:], strict=True):
            first, end = (round((t - (series.starting_time or 0.0)) * BIN_RATE_HZ) for t in (first_s, end_s))
            usable[max(0, first) : max(0, end)] = False
    electrodes = _electrodes(series)
    if "usable" in electrodes:
        usable &= (electrodes["usable"] >= LEAST_SHARE).to_numpy()
    return usable


def _electrodes(series: Any) -> Any:
    return series.electrodes.table.to_dataframe().iloc[series.electrodes.data[:]]


def _header(nwb: Any, series: Any, name: str) -> SessionHeader:
    electrodes = _electrodes(series)
    start_s = float(series.starting_time or 0.0)
    places = {"rel_x", "rel_y"} <= set(electrodes.columns)
    try:
        stated = json.loads(series.comments)
        chain, rate_hz = stated["chain"], float(stated["rate_hz"])
    except (ValueError, KeyError, TypeError):
        chain, rate_hz = ChainSettings().to_dict(), 30_000.0
    trials = [] if nwb.trials is None else list(nwb.trials.to_dataframe().itertuples())
    return SessionHeader(
        name=name,
        date=nwb.session_start_time.date().isoformat(),
        participant=nwb.subject.subject_id if nwb.subject is not None and nwb.subject.subject_id else "unknown",
        labels=tuple(map(str, electrodes["label"])),
        positions=tuple((float(x), float(y)) for x, y in zip(electrodes["rel_x"], electrodes["rel_y"], strict=True))
        if places
        else None,
        rate_hz=rate_hz,
        chain=chain,
        trials=tuple(
            Trial(float(t.stim_onset) - start_s, int(t.stim_electrode), float(t.current_ua), bool(t.perceived))
            for t in trials
        ),
    )


def open_sessions(data: list[Path], cache: Path, normaliser: NormaliserSettings | None = None) -> list[Session]:
    """Every session in `data`: cached ones, NWB files of MUA (cached under `cache` on the way), or folders of either;
    all by `normaliser`, where one is asked for.

    Raises:
        OperatorFault: nothing there, sessions of different arrays, or cached ones of another normaliser.
        RigFault: a recording cannot be used, or was made by another chain than the others.
    """
    found: list[Path] = []
    for path in data:
        if path.is_dir() and not (path / "session.json").exists():
            inside = [file.parent for file in path.glob("*/session.json")] + list(path.glob("*.nwb"))
            found += sorted(inside)
        else:
            found.append(path)
    if not found:
        raise OperatorFault(f"no session in {', '.join(map(str, data)) or 'nothing'}; name NWB files of MUA or folders")
    sessions = [read_session(path if path.is_dir() else cached(path, cache, normaliser)) for path in found]
    first = sessions[0].header
    for path, session in zip(found, sessions, strict=True):
        header = session.header
        if normaliser is not None and header.chain["normaliser"] != asdict(normaliser):
            made, asked = header.chain["normaliser"]["kind"], normaliser.kind
            raise OperatorFault(
                f"{path} was made by a normaliser {made} of other settings than the {asked} asked for; "
                "name its NWB file of MUA instead"
            )
        if header.chain != first.chain:
            raise RigFault(f"{path} was made by another signal chain than {found[0]}; run `phosphene mua` on both")
        if header.array.sha256() != first.array.sha256() or header.participant != first.participant:
            raise OperatorFault(f"{path} is of another array or participant than {found[0]}; train on one of them")
    return sessions
