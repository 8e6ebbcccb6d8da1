"""The recordings that a run is given, as sessions that belong together; training takes its data from here.

A recording may be broadband, an NWB file of MUA, a file of spike counts, or a session that is cached already; or a
folder of them. Whatever it was, it is a `Session` afterwards: memory-mapped, and z to training as to the service.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import OperatorFault, RigFault
from streaming.signal.settings import NormaliserSettings
from training import counts
from training.cache import LEAST_SHARE, cached
from training.normalise import normalise, settled
from training.sessions import (
    Session,
    SessionHeader,
    Trial,
    frozen_z,
    needs_statistics,
    read_session,
    write_blocks,
    write_session,
)

__all__ = [
    "LEAST_SHARE",
    "Session",
    "SessionHeader",
    "Trial",
    "cached",
    "frozen_z",
    "needs_statistics",
    "normalise",
    "open_sessions",
    "read_session",
    "settled",
    "write_blocks",
    "write_session",
]

IN_FOLDERS = (".nwb", ".ns5", ".ns6", ".xdf", *counts.SUFFIXES)  # what is looked for in a folder that is named
RECORDING_FOLDERS = ("*.ncs", "*.continuous", "structure.oebin")  # Neuralynx, Open Ephys: the folder is the recording
COMPARED_BINS = 100


def open_sessions(data: list[Path], cache: Path, normaliser: NormaliserSettings | None = None) -> list[Session]:
    """Every session in `data`: cached ones, recordings (cached under `cache` on the way: broadband in any format that
    is read, MUA in NWB, counts), or folders of either; all by `normaliser`, where one is asked for.

    Raises:
        OperatorFault: nothing there, one recording twice, sessions of different arrays or participants, cached ones of
            another normaliser, or a full disk.
        RigFault: a recording cannot be used, nothing in it is usable, or another chain made it than the others.
    """
    found = [inside for path in data for inside in _inside(path)]
    if not found:
        raise OperatorFault(
            f"no session in {', '.join(map(str, data)) or 'nothing'}; name recordings or folders of them"
        )
    sessions = [read_session(path if _is_session(path) else cached(path, cache, normaliser)) for path in found]
    for path, session in zip(found, sessions, strict=True):
        _check_usable(path, session)
        _check_normaliser(path, session.header, normaliser)
        _check_alike(path, session, found[0], sessions[0])
    _check_once(found, sessions)
    return sessions


def _is_session(path: Path) -> bool:
    return path.is_dir() and (path / "session.json").exists()


def _inside(path: Path) -> list[Path]:
    if not path.is_dir() or _is_session(path):
        return [path]
    inside = [one for one in path.iterdir() if not one.name.startswith(".")]
    found = sorted(one for one in inside if _is_session(one) or one.suffix.lower() in IN_FOLDERS)
    return found or ([path] if any(any(path.rglob(pattern)) for pattern in RECORDING_FOLDERS) else [])


def _check_usable(path: Path, session: Session) -> None:
    if not session.usable.vouched_bins():
        found = f"{session.seconds:.1f} s of {len(session.header.labels)} channels"
        raise RigFault(
            f"{path}: nothing in it is usable: found {found}, all of them dead, NaN or not vouched for by the signal "
            "chain; leave it out"
        )


def _check_normaliser(path: Path, header: SessionHeader, asked: NormaliserSettings | None) -> None:
    if asked is not None and header.chain["normaliser"] != asdict(asked):
        made = header.chain["normaliser"]["kind"]
        raise OperatorFault(
            f"{path} was made by a normaliser {made} of other settings than the {asked.kind} asked for; "
            "name its NWB file of MUA instead"
        )


def _check_alike(path: Path, session: Session, first_path: Path, first: Session) -> None:
    header, expected = session.header, first.header
    if header.bin_rate_hz != expected.bin_rate_hz or header.rate_hz != expected.rate_hz:
        raise OperatorFault(
            f"{path}: found {header.rate_hz:g} samples and {header.bin_rate_hz:g} bins a second, expected "
            f"{expected.rate_hz:g} and {expected.bin_rate_hz:g} as in {first_path}; train on one kind at a time"
        )
    if header.chain != expected.chain:
        raise RigFault(
            f"{path} was made by another signal chain than {first_path}: {_differing(header.chain, expected.chain)}; "
            "run `phosphene mua` on both"
        )
    for what, of_this, of_first in (
        ("channels", len(header.labels), len(expected.labels)),
        ("participant", header.participant, expected.participant),
        ("labels or positions", header.array.sha256()[:12], expected.array.sha256()[:12]),
    ):
        if of_this != of_first:
            raise OperatorFault(
                f"{path} is of another array or participant than {first_path}: found {what} {of_this}, "
                f"expected {of_first}; train on one of them"
            )


def _differing(chain: dict[str, Any], expected: dict[str, Any]) -> str:
    keys = [key for key in {**chain, **expected} if chain.get(key) != expected.get(key)]
    return ", ".join(f"found {key} {chain.get(key)}, expected {expected.get(key)}" for key in keys)


def _check_once(found: list[Path], sessions: list[Session]) -> None:
    """A recording that is there twice, or beside the MUA made of it, would be trained on and held out at once."""
    seen: dict[Any, Path] = {}
    twins = Counter((session.header.date, session.stored.shape) for session in sessions)
    for path, session in zip(found, sessions, strict=True):
        likeness = session.header.date, session.stored.shape
        middle = session.stored[len(session.stored) // 2 :][:COMPARED_BINS]
        if twins[likeness] == 1 or not middle.any():
            continue
        same = seen.setdefault((*likeness, sha256(np.ascontiguousarray(middle)).digest()), path)
        if same is not path:
            raise OperatorFault(f"{same} and {path} are one recording; name it once")
