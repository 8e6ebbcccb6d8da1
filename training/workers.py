"""Work spread over processes of this machine, its results in the order of the jobs."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

Work = TypeVar("Work")
Done = TypeVar("Done")


def in_order(work: Callable[[Work], Done], jobs: Sequence[Work], cores: int) -> Iterator[Done]:
    """In order. Processes are begun anew, not forked: ONNX Runtime has threads. Ctrl-C is the parent's to answer."""
    if cores <= 1 or len(jobs) == 1:
        yield from map(work, jobs)
        return
    with ExitStack() as stack:
        with _ctrl_c_held():
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(min(cores, len(jobs))))
        yield from pool.imap(work, jobs)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """What begins meanwhile never hears Ctrl-C, from its first import; one that comes meanwhile is answered at the end.
    Windows has no such mask: there everybody hears it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
