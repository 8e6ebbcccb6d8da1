"""Where the decode thread runs: a core of its own, and ahead of everything that is not real-time. Linux only.

Asked for by settings, and measured by `phosphene bench placement`. Only the decoding is placed, and what liblsl starts
for the event stream, which is looked for between chunks; its threads of the broadband stream stay with the rest of the
process.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from models.errors import OperatorFault


@dataclass(frozen=True, slots=True)
class Placement:
    """`core` 0-based, None: any. `priority` of SCHED_FIFO, 1 to 99, None: not real-time."""

    core: int | None = None
    priority: int | None = None

    def check(self) -> None:
        """Tries it, on a thread of its own.

        Raises:
            OperatorFault: another system, a core that there is not, or a priority that this user may not have.
        """
        problem: list[OperatorFault] = []

        def attempt() -> None:
            try:
                with self.held():
                    pass
            except OperatorFault as fault:
                problem.append(fault)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        if problem:
            raise problem[0]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The calling thread, for as long as the block lasts. Raises as `check`."""
        if self.core is None and self.priority is None:
            yield
            return
        if not hasattr(os, "sched_setaffinity"):
            raise OperatorFault("placement: found no Linux, expected it: leave decode_core and decode_priority out")
        cores, policy, parameter = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
        try:
            self._take(cores)
            yield
        finally:
            os.sched_setscheduler(0, policy, parameter)
            os.sched_setaffinity(0, cores)

    def _take(self, cores: set[int]) -> None:
        if self.core is not None:
            if self.core not in cores:
                listed = ", ".join(map(str, sorted(cores)))
                raise OperatorFault(f"decode_core: found {self.core}, expected one that this process may use: {listed}")
            os.sched_setaffinity(0, {self.core})
        if self.priority is not None:
            lowest, highest = os.sched_get_priority_min(os.SCHED_FIFO), os.sched_get_priority_max(os.SCHED_FIFO)
            if not lowest <= self.priority <= highest:
                raise OperatorFault(f"decode_priority: found {self.priority}, expected {lowest} to {highest}")
            try:
                # threads that are started meanwhile are not real-time
                os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(self.priority))
            except PermissionError:
                raise OperatorFault(
                    "decode_priority: this user may not have it; give it LimitRTPRIO in the service's unit, or rtprio "
                    "in limits.conf, or leave it out"
                ) from None


ANYWHERE = Placement()
