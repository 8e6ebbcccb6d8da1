"""A recording under way: a folder beside its target that only ever grows, from which the file is made afterwards.

    S.nwb.part/header.json      what the stream says, the chain, the clock; written once, whole
               log.jsonl        markers, stretches of samples, problems; a line each, in the order in which they came
               bins.mua         one record per final bin: its number, valid, usable channels, envelope
               broadband.raw    int16 rows, where they are kept

Every write goes straight to the operating system, so that a killed process loses nothing of it; a thread brings it to
the disk each second, so that a power cut loses that second, and the line from the amplifier never waits for a disk. A
torn last record is no record.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault, RigFault
from streaming.events import Report, Stimulation

try:
    import fcntl
except ImportError:  # on Windows nobody is kept from recovering what is still being recorded
    fcntl = None  # type: ignore[assignment]

SYNC_EVERY_S = 1.0
HEADER, LOG, BINS, RAW = "header.json", "log.jsonl", "bins.mua", "broadband.raw"


@dataclass(frozen=True)
class SpoolHeader:
    """`began` is the wall clock at sample 0 (ISO), `lsl_time` the LSL clock there; `scale_uv` (channels,) microvolts
    per count of the broadband kept, None where none is."""

    info: dict[str, Any]
    chain: dict[str, Any]
    began: str
    lsl_time: float
    scale_uv: list[float] | None


def spool_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.part")


def record_type(n_channels: int) -> np.dtype[Any]:
    return np.dtype([("bin", "<i8"), ("valid", "u1"), ("usable", "u1", (n_channels,)), ("uv", "<f4", (n_channels,))])


class Spool:
    """The writing side. Whatever the disk refuses is one RigFault, and what was written stays."""

    def __init__(self, folder: Path, header: SpoolHeader) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        self._failed: OSError | None = None
        self.failed = False
        self._ended = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="spool", daemon=True)
        self.bytes = 0
        with self._refused():
            folder.mkdir()
            self._lock = lock(folder)
            draft = folder / f"{HEADER}.draft"
            draft.write_text(json.dumps(asdict(header)))
            _to_disk(draft)
            os.replace(draft, folder / HEADER)
            for name in (LOG, BINS) if header.scale_uv is None else (LOG, BINS, RAW):
                self._files[name] = (folder / name).open("ab", buffering=0)
            _to_disk(folder)
        self._record = record_type(len(header.info["array"]["labels"]))
        self._stretches: tuple[int, int] = (-1, 0)  # the sample expected next, and rows so far
        self._syncing.start()

    def bins(self, first_bin: int, valid: NDArray[Any], usable: NDArray[Any], envelope_uv: NDArray[Any]) -> None:
        """Final bins: (n,), (n, channels), (n, channels)."""
        records = np.empty(len(valid), self._record)
        records["bin"] = np.arange(first_bin, first_bin + len(valid))
        records["valid"], records["usable"], records["uv"] = valid, usable, envelope_uv
        self._append(BINS, records.tobytes())

    def rows(self, first_sample: int, counts: NDArray[np.int16]) -> None:
        """Broadband (n, channels)."""
        expected, rows = self._stretches
        if first_sample != expected:
            self._log(stretch=[first_sample, rows])
        self._append(RAW, np.ascontiguousarray(counts, "<i2").tobytes())
        self._stretches = first_sample + len(counts), rows + len(counts)

    def marker(self, sample: int, marker: Stimulation | Report, late: bool) -> None:
        """`late`: what the chain made of it was final already."""
        event = "stim" if isinstance(marker, Stimulation) else "report"
        self._log(sample=sample, event=event, fields=asdict(marker), late=late)

    def close(self) -> None:
        self._ended.set()
        self._syncing.join()
        for file in self._files.values():
            file.close()
        with contextlib.suppress(OSError):
            self._lock.close()

    def _log(self, **entry: Any) -> None:
        self._append(LOG, json.dumps(entry).encode() + b"\n")

    def _append(self, name: str, content: bytes) -> None:
        with self._refused():
            if self._failed is not None:
                raise self._failed
            left = memoryview(content)
            while left:  # a disk that fills takes a part, and refuses the next
                left = left[self._files[name].write(left) :]
        self.bytes += len(content)

    def _sync(self) -> None:
        while not self._ended.wait(SYNC_EVERY_S):
            try:
                for file in self._files.values():
                    os.fsync(file.fileno())
            except OSError as error:
                self._failed = error
                return

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise unfinished(self.folder) from None
        except OSError as error:
            self.failed = True
            raise RigFault(
                f"{self.folder} takes no more ({error.strerror}): recording ended, and what came before stays there; "
                f"make room, then: phosphene record --recover {self.folder}"
            ) from error


def unfinished(folder: Path) -> OperatorFault:
    return OperatorFault(
        f"{folder} holds a recording that was not finished; make its file first: phosphene record --recover {folder}"
    )


def lock(folder: Path) -> Any:
    """Held as long as the process lives, however it ends."""
    file = (folder / "lock").open("a")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise OperatorFault(f"{folder} is being recorded at this moment; end that recording first") from None
    return file


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
