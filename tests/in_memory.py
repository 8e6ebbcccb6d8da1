"""A folder in memory, for what must not wait for the disk of whatever machine runs the tests.

A disk that takes a quarter of a second for a row disarms, as it must. No test is about that disk: those of full and
slow disks have one of their own.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/dev/shm")


@contextlib.contextmanager
def in_memory(mib: int = 32) -> Iterator[Path]:
    """`mib`: how much it must hold. Where there is less, it is an ordinary temporary folder."""
    there = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > mib * 2**20
    with tempfile.TemporaryDirectory(
        prefix="phosphene-", dir=MEMORY if there else None, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
