"""One engine for one journal, and for one device: a lock of the operating system, which ends with the process, however
that ends."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from models.errors import OperatorFault

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _take(file: int) -> None:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # not where the process id stands: Windows locks reading, too
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """Held from here to `release`, or to the end of the process. The file beside the journal stays: it is the kernel
    that knows who holds it, so there is nothing stale to clean up. `taken` and `mend` are what is said where it is
    held.

    Raises:
        OperatorFault: another engine holds it.
    """

    def __init__(self, path: Path, taken: str = "", mend: str = "name another --journal") -> None:
        self._file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(self._file)
        except OSError:
            holder = os.read(self._file, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            taken = taken or f"journal {path}: another engine writes it"
            raise OperatorFault(f"{taken} (process {holder}); stop that one, or {mend}") from None
        with contextlib.suppress(OSError):  # a full disk keeps nobody from locking; the number is only for people
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._file)
