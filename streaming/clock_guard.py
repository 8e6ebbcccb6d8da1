"""Refractory and rate once more, on the machine's own clock: a stream that stalls or is doubled can lie about time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from streaming.limits import Budget

MINUTE_S = 60.0


class ClockGuard:
    """The moments of the last minute's pulses, in seconds of the monotonic clock; earlier runs' among them."""

    def __init__(self, moments: Iterable[float] = ()) -> None:
        self._fired = deque(sorted(moments))

    def add(self, now: float) -> None:
        """A pulse leaves now."""
        while self._fired and now - self._fired[0] >= MINUTE_S:
            self._fired.popleft()
        self._fired.append(now)

    def free_from(self, budget: Budget) -> float:
        """From which moment on neither bars a pulse, if none is added; `why_not` names what does before."""
        fired, most = self._fired, budget.pulses_per_minute
        rested = fired[-1] + budget.refractory_s if fired else -math.inf
        return max(rested, fired[-most] + MINUTE_S) if len(fired) >= most else rested

    def why_not(self, budget: Budget, now: float) -> str:
        """The sentence where a pulse now would break refractory or rate; empty where it would not."""
        fired = self._fired
        while fired and now - fired[0] >= MINUTE_S:
            fired.popleft()
        if fired and now - fired[-1] < budget.refractory_s:
            return f"the stream runs faster than the clock: {now - fired[-1]:.3f} s since the last pulse"
        if len(fired) >= budget.pulses_per_minute:
            return "the stream runs faster than the clock: this minute's pulses are spent"
        return ""

    def in_minute(self, now: float) -> int:
        """How many pulses the last minute had."""
        return sum(now - at < MINUTE_S for at in self._fired)
