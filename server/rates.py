"""How often somebody may: a bucket for each, which fills at a rate and holds a burst. Nothing here waits."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST = 256  # buckets; of those beyond, the one that was not used for longest goes


class Rates:
    """`per_s` in the long run and `burst` at once; `clock` any steady clock in seconds."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # what is left, and since when

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_s(self, who: Hashable) -> float:
        """0 where `who` may once more, which is then counted; else for how long not."""
        now = self._clock()
        left, since = self._buckets.pop(who, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) * self._per_s)
        may = left >= 1
        self._buckets[who] = (left - may, now)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        return 0.0 if may else (1 - left) / self._per_s
