"""Recordings to cached sessions, each made once: by content and settings, not by name, and by one process at a time.

    broadband  ─ the signal chain that serves ─►  MUA (NWB)  ─ the normaliser that serves ─►  session
    spike counts (training/counts.py)  ─ square root, the same normaliser ─►  session

All of it goes block by block. The cache remembers which file was which session by path, size and date, so that hundreds
of hours are not read through at each start; a file that moved is read once, and known again by its content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models.errors import OperatorFault, RigFault
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings, NormaliserSettings
from streaming.sources.nwb import CACHE_BYTES
from streaming.sources.recorded import files_extra, one_line
from training import counts
from training.normalise import Block, blocks_of, normalised
from training.sessions import FORMAT, SessionHeader, Trial, write_blocks

LEAST_SHARE = 0.5  # of its valid bins in which a channel must have been usable, to be used at all
MUA = "processing/ecephys/MUA"


def cached(file: Path, cache: Path, normaliser: NormaliserSettings | None = None) -> Path:
    """The session of a recording, made now unless it stands. A file of MUA or broadband becomes z by `normaliser`, or
    by that of the chain which made the MUA, or the default one; counts by theirs (`counts.NORMALISER`).

    What lies in `invalid_times`, is NaN, or belongs to a channel of which less than half was usable, is not usable. A
    file of MUA that does not say which chain made it (in its comments) is taken to be of the default one.

    Raises:
        OperatorFault: the disk is full, or what `open_recording` says.
        RigFault: the recording cannot be used.
    """
    asked = None if normaliser is None else asdict(normaliser)
    stamp = _stamp(file)
    for known in cache.glob(f"{file.stem}-*/source.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            about = json.loads(known.read_text())
            if about["stamp"] == stamp and about["normaliser"] == asked and about["format"] == FORMAT:
                return known.parent
    about = {"stamp": stamp, "normaliser": asked, "format": FORMAT}
    target = cache / f"{file.stem}-{_digest(file, asked)[:12]}"
    with _alone(target):
        if (target / "session.json").exists():  # the same content under another name, or date
            (target / "source.json").write_text(json.dumps(about))
            return target
        for left in cache.glob(f".{target.name}.*"):  # of a process that was killed: we hold its lock
            if left.suffix == ".draft":
                shutil.rmtree(left, ignore_errors=True)
        return _make(file, cache, target.name, normaliser, about)


def _make(file: Path, cache: Path, name: str, normaliser: NormaliserSettings | None, about: dict[str, Any]) -> Path:
    if (console := Console(stderr=True)).is_terminal:  # it may take minutes, and somebody looks
        console.print(f"caching {file}")
    if file.suffix.lower() in counts.SUFFIXES:
        header, bins, blocks = counts.session(file, name, normaliser)
        return write_blocks(cache, header, bins, blocks, about)
    if _holds_mua(file):
        return _from_mua(file, cache, name, normaliser, about)
    from training.mua import mua

    cache.mkdir(parents=True, exist_ok=True)
    made = cache / f".{name}.nwb"
    made.unlink(missing_ok=True)
    try:
        try:
            mua(file, made, ChainSettings() if normaliser is None else ChainSettings(normaliser=normaliser))
        except OSError as error:
            raise OperatorFault(
                f"{cache}: the MUA of {file} cannot be written ({one_line(error)}); make room, or name another folder"
            ) from error
        return _from_mua(made, cache, name, normaliser, about)
    finally:
        made.unlink(missing_ok=True)


def _holds_mua(file: Path) -> bool:
    if file.suffix.lower() != ".nwb":
        return False
    try:
        with files_extra("h5py").File(file, "r") as nwb:
            return MUA in nwb
    except OSError as error:
        raise RigFault(f"{file}: not an NWB file, or cut short ({one_line(error)}); copy it again") from error


def _from_mua(file: Path, cache: Path, name: str, normaliser: NormaliserSettings | None, about: dict[str, Any]) -> Path:
    h5py, pynwb = files_extra("h5py"), files_extra("pynwb")
    with contextlib.ExitStack() as open_files:
        try:
            stored = open_files.enter_context(h5py.File(file, "r", rdcc_nbytes=CACHE_BYTES))
            io = open_files.enter_context(pynwb.NWBHDF5IO(file=stored, mode="r", load_namespaces=True))
            nwb = io.read()
            series = nwb.processing["ecephys"]["MUA"]
            header = _header(nwb, series, name)
            shape, rate_hz = tuple(series.data.shape), float(series.rate or 0)
            invalid = _invalid(nwb, series)
            alive = _alive(series)
        except Exception as error:  # pynwb and hdmf raise whatever a damaged file leads them to
            raise RigFault(
                f"{file} holds no MUA that can be read ({one_line(error)}); make it anew with `phosphene mua`"
            ) from error
        if rate_hz != BIN_RATE_HZ or shape[1:] != (len(header.labels),) or not all(shape):
            raise RigFault(
                f"{file}: found MUA of shape {shape} at {rate_hz:g} Hz for {len(header.labels)} electrodes, expected "
                f"(bins, electrodes) at {BIN_RATE_HZ} Hz; make it anew with `phosphene mua`"
            )
        chain = ChainSettings.from_dict(header.chain)
        if normaliser is not None:
            chain = replace(chain, normaliser=normaliser)
            header = replace(header, chain=chain.to_dict())
        blocks = normalised(_envelopes(file, series, invalid, alive), chain, shape[1])
        return write_blocks(cache, header, shape[0], blocks, about)


def _envelopes(file: Path, series: Any, invalid: list[tuple[int, int]], alive: NDArray[np.bool_]) -> Iterator[Block]:
    """Microvolts, 0 where not usable, and usable."""
    for at in blocks_of(len(series.data)):
        try:
            envelope_uv = (series.data[at] * (1e6 * series.conversion) + 1e6 * series.offset).astype(np.float32)
        except OSError as error:
            raise RigFault(f"{file}: cut short or damaged ({one_line(error)}); copy it again") from error
        usable = np.isfinite(envelope_uv) & alive
        for first, end in invalid:
            usable[max(0, first - at.start) : max(0, end - at.start)] = False
        yield np.where(usable, envelope_uv, np.float32(0)), usable


def _invalid(nwb: Any, series: Any) -> list[tuple[int, int]]:
    """Bins that are not vouched for."""
    times = nwb.invalid_times
    if times is None:
        return []
    start_s = series.starting_time or 0.0
    return [
        (round((first - start_s) * BIN_RATE_HZ), round((end - start_s) * BIN_RATE_HZ))
        for first, end in zip(times["start_time"][:], times["stop_time"][:], strict=True)
    ]


def _alive(series: Any) -> NDArray[np.bool_]:
    electrodes = _electrodes(series)
    if "usable" not in electrodes:
        return np.ones(len(electrodes), bool)
    return np.asarray(electrodes["usable"] >= LEAST_SHARE)


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


# Which file, and who makes it ----------------------------------------------------------------------------------------


def _stamp(file: Path) -> list[Any]:
    """What changes when the file does, without reading it; of a folder, of all that is in it."""
    try:
        facts = [one.stat() for one in _files(file)]
    except OSError as error:
        raise OperatorFault(f"{file}: no such recording ({error}); name one that is there") from error
    return [
        str(file.resolve()),
        len(facts),
        sum(f.st_size for f in facts),
        max((f.st_mtime_ns for f in facts), default=0),
    ]


def _digest(file: Path, asked: dict[str, Any] | None) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, asked]).encode())
    for one in _files(file):
        with one.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _files(file: Path) -> list[Path]:
    return sorted(one for one in file.rglob("*") if one.is_file()) if file.is_dir() else [file]


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process makes a session, others wait for it; the lock ends with the process, however that ends. Where there
    is no flock two may make it, and the first to end is taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # pragma: no cover
        yield
        return
    import fcntl

    lock = target.with_name(f".{target.name}.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    lock.unlink(missing_ok=True)
