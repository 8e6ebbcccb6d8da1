"""A session on disk: what it says of itself, its numbers, memory-mapped, and the windows that training draws from it.

A directory: `session.json`; `z.npy` float32 (bins, channels); which channels are usable, as runs (`stretches.Usable`),
`usable_from.npy` int64 (runs,) and `usable.npy` bool (runs, channels). Where the normaliser needs statistics, which
hang on what is held out, the envelope is kept instead (`envelope.npy`, microvolts) and normalised as it is read.

Numbers are float32 and not float16, though that would halve them (an hour of 96 channels takes 1.4 GB): the same
samples then give training and the service the same bits, and a difference between the two is a bug, not a rounding.
Written in order, block by block, into a draft that is renamed when it is whole: memory does not hang on the length, a
full disk raises where it happens, and a kill leaves no half session.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.chunk import ArrayMap
from streaming.pipeline import EVOKED_START_BINS
from streaming.signal.normaliser import Statistics
from streaming.signal.settings import BIN_RATE_HZ
from training.stretches import Stretches, Usable, UsableRuns

FORMAT = 2  # of the directory; 1 kept a flag for every bin and channel


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
    """What a session says of itself; `date` is the ISO day that orders the held-out split. `numbers`: what became z,
    the `envelope` of the signal chain or spike `counts`; `chain`: how, its settings or those of the counts."""

    name: str
    date: str
    participant: str
    labels: tuple[str, ...]
    positions: tuple[tuple[float, float], ...] | None
    rate_hz: float  # of the broadband that it was made from; of counts, their bin rate
    chain: dict[str, Any]
    trials: tuple[Trial, ...] = ()
    bin_rate_hz: float = BIN_RATE_HZ
    numbers: str = "envelope"

    @property
    def array(self) -> ArrayMap:
        return ArrayMap(self.labels, self.positions)


@dataclass(frozen=True, eq=False)
class Session:
    """`stored` is z or, where the normaliser needs `statistics`, the envelope in microvolts; they make z of it as it is
    read, bin by bin. (bins, channels), memory-mapped. A plain array of `usable` becomes runs."""

    header: SessionHeader
    stored: NDArray[np.float32]
    usable: Usable
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.usable, Usable):
            object.__setattr__(self, "usable", Usable.of(np.asarray(self.usable)))

    @property
    def z(self) -> NDArray[np.float32]:
        """The whole session, (bins, channels)."""
        return self._normalised(self.stored, self.usable) if needs_statistics(self.header.chain) else self.stored

    @property
    def seconds(self) -> float:
        return len(self.usable) / self.header.bin_rate_hz

    def windows(self, first_bins: NDArray[np.int64], length: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Windows (n, channels, length) that start at `first_bins`; the channels usable throughout, (n, channels)."""
        windows = np.empty((len(first_bins), self.usable.shape[1], length), np.float32)
        raw = not needs_statistics(self.header.chain)
        for window, first in zip(windows, first_bins, strict=True):
            bins = slice(first, first + length)
            window[:] = (self.stored[bins] if raw else self._normalised(self.stored[bins], self.usable[bins])).T
        return windows, self.usable.throughout(first_bins, length)

    def _normalised(self, stored: NDArray[np.float32], usable: Any) -> NDArray[np.float32]:
        assert self.statistics is not None  # `freeze` comes first
        return frozen_z(stored, np.asarray(usable), self.statistics, self.header.chain["normaliser"]["floor_uv"])

    def allowed(self, length: int, first: int = 0, end: int | None = None) -> Stretches:
        """First bins of all windows inside [first, end) that hold no bin without a usable channel."""
        return self.usable.windows(length, first, end)

    def trial_bins(self, probe: str, length: int) -> NDArray[np.int64]:
        """First bin of each trial's window: the last whole one before the artifact, or the evoked one."""
        onsets = np.array([trial.onset_s for trial in self.header.trials])
        if probe == "evoked":
            return np.rint(onsets * BIN_RATE_HZ).astype(np.int64) + EVOKED_START_BINS
        blank_from = onsets - self.header.chain["blank_before_s"]
        return np.floor(blank_from * BIN_RATE_HZ + 1e-6).astype(np.int64) - length


def needs_statistics(chain: dict[str, Any]) -> bool:
    """Whether this chain normalises by a median and MAD that are fitted beforehand."""
    return chain["normaliser"]["kind"] in ("robust_frozen", "robust_session")


def frozen_z(
    envelope_uv: NDArray[np.float32], usable: NDArray[np.bool_], statistics: Statistics, floor_uv: float
) -> NDArray[np.float32]:
    """What the normaliser that serves makes of bins (…, channels) by fixed statistics: no bin depends on another, so
    that windows can be normalised as they are drawn. 0 where not usable."""
    scale = np.maximum((1.4826 * statistics.mad_uv).astype(np.float32), np.float32(floor_uv))
    return np.where(usable, (envelope_uv - statistics.median_uv).astype(np.float32) / scale, np.float32(0))


# On disk -------------------------------------------------------------------------------------------------------------


def stored_as(chain: dict[str, Any]) -> str:
    return "envelope.npy" if needs_statistics(chain) else "z.npy"


def write_session(folder: Path, header: SessionHeader, stored: NDArray[np.float32], usable: NDArray[np.bool_]) -> Path:
    """Writes `folder/NAME` and returns it; `stored` as in `Session`. One of that name is replaced."""
    shutil.rmtree(folder / header.name, ignore_errors=True)
    return write_blocks(folder, header, len(stored), [(stored, usable)])


def write_blocks(
    folder: Path,
    header: SessionHeader,
    bins: int,
    blocks: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]],
    about: dict[str, Any] | None = None,
) -> Path:
    """Writes `folder/NAME` of blocks (stored, usable), `bins` rows in all, and returns it; `about` goes into
    `source.json`. Who comes second finds the session there and leaves it.

    Raises:
        OperatorFault: the disk is full, or may not be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / header.name
    draft = Path(tempfile.mkdtemp(prefix=f".{header.name}.", suffix=".draft", dir=folder))
    shape = (bins, len(header.labels))
    try:
        runs, written = UsableRuns(shape[1]), 0
        with (draft / stored_as(header.chain)).open("wb") as file:
            layout = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, layout)
            for stored, usable in blocks:  # written, not mapped: a mapping of a full disk ends the process, unsaid
                file.write(np.ascontiguousarray(stored, "<f4").data)
                runs.push(usable)
                written += len(stored)
            file.flush()
            os.fsync(file.fileno())
        assert written == bins
        found = runs.finish()
        np.save(draft / "usable_from.npy", found.firsts)
        np.save(draft / "usable.npy", found.rows)
        if about is not None:
            (draft / "source.json").write_text(json.dumps(about))
        (draft / "session.json").write_text(json.dumps({"format": FORMAT} | asdict(header)))
        if not (target / "session.json").exists():
            os.replace(draft, target)
    except OSError as error:
        if (target / "session.json").exists():
            return target
        raise OperatorFault(_unwritable(folder, header.name, shape, error)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _unwritable(folder: Path, name: str, shape: tuple[int, int], error: OSError) -> str:
    needs = f"{shape[0] * shape[1] * 4 / 1e9:.2g} GB"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free / 1e9
        return f"{folder}: the disk is full: found {free:.2g} GB, {name} needs {needs}; make room, then run it again"
    return f"{folder}: the session {name} ({needs}) cannot be written ({error}); make room, or name another folder"


def read_session(path: Path) -> Session:
    """A cached session.

    Raises:
        RigFault: the directory is not one, or is one of another version.
    """
    try:
        fields = json.loads((path / "session.json").read_text())
        if (version := fields.pop("format", 1)) != FORMAT:
            raise ValueError(f"found format {version}, expected {FORMAT}")
        fields["trials"] = tuple(Trial(**trial) for trial in fields["trials"])
        fields["labels"] = tuple(fields["labels"])
        positions = fields["positions"]
        fields["positions"] = None if positions is None else tuple((float(x), float(y)) for x, y in positions)
        header = SessionHeader(**fields)
        names = (stored_as(header.chain), "usable_from.npy", "usable.npy")
        stored, firsts, rows = (_map(path / name) for name in names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RigFault(f"{path} is not a cached session: {error}; make the cache again") from error
    usable = Usable(firsts, rows, len(stored))
    if stored.shape != usable.shape or stored.shape[1:] != (len(header.labels),) or len(firsts) != len(rows):
        raise RigFault(f"{path} holds MUA {stored.shape} and usable {usable.shape} for {len(header.labels)} channels")
    return Session(header, stored, usable)


def _map(path: Path) -> NDArray[Any]:
    """The array of a file, memory-mapped; one without numbers cannot be, and need not."""
    array = np.load(path, mmap_mode="r") if path.stat().st_size > 128 else np.load(path)
    return array.view(np.ndarray)  # slices of a memmap cost ten times those of an array
