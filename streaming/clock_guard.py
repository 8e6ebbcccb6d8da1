"""Refractory, rate and duty once more, on the machine's own clock: a stream that stalls or is doubled can lie about
time, and what earlier runs did stands in no stream."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from streaming.budgets import Dose
from streaming.limits import Budget

MINUTE_S = 60.0
FASTER = "the stream runs faster than the clock, or the service began anew"


class Train(NamedTuple):
    """One pulse, at a moment in seconds of the monotonic clock; electrode None: it may have been any."""

    moment: float
    electrode: int | None
    duration_s: float


class ClockGuard:
    """The last minute's pulses, earlier runs' among them, and the last one however long ago: refractory may be an
    hour."""

    def __init__(self, trains: Iterable[Train] = ()) -> None:
        self._fired = deque(sorted(trains, key=lambda train: train.moment))

    def add(self, now: float, dose: Dose) -> None:
        """A pulse leaves now."""
        while self._fired and now - self._fired[0].moment >= MINUTE_S:
            self._fired.popleft()
        self._fired.append(Train(now, dose.electrode, dose.duration_s))

    def free_from(self, budget: Budget, dose: Dose) -> float:
        """From which moment on none of them bars the dose, if no pulse is added; `why_not` names what does before."""
        fired, most = self._fired, budget.pulses_per_minute
        rested = fired[-1].moment + budget.refractory_s if fired else -math.inf
        rate = fired[-most].moment + MINUTE_S if len(fired) >= most else -math.inf
        return max(rested, rate, self._duty_free_from(budget, dose))

    def why_not(self, budget: Budget, dose: Dose, now: float) -> str:
        """The sentence where the dose now would break refractory, rate or duty; empty where it would not."""
        fired = self._fired
        if fired and now - fired[-1].moment < budget.refractory_s:
            return f"{FASTER}: {now - fired[-1].moment:.3f} s since the last pulse"
        if self.in_minute(now) >= budget.pulses_per_minute:
            return f"{FASTER}: this minute's pulses are spent"
        if now < self._duty_free_from(budget, dose):
            return f"{FASTER}: this electrode's share of the minute is spent"
        return ""

    def in_minute(self, now: float) -> int:
        """How many pulses the last minute had."""
        return sum(now - train.moment < MINUTE_S for train in self._fired)

    def _duty_free_from(self, budget: Budget, dose: Dose) -> float:
        """From which moment on the electrode's trains of the last minute leave room for the dose: when the newest that
        does not fit beside it and those after it is a minute old."""
        left_s = budget.duty * MINUTE_S + 1e-9 - dose.duration_s  # rounding bars nothing that the engine allows
        for train in reversed(self._fired):
            if train.electrode is None or train.electrode == dose.electrode:
                left_s -= train.duration_s
                if left_s < 0:
                    return train.moment + MINUTE_S
        return -math.inf
