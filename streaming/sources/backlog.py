"""Is what arrives now also what was sampled now? Judged by counting, because stamps can lie.

After a pause a sender may stamp old samples "now": after a stop of 5 s, 151800 samples came within 2 s and none was
older than 52 ms by its stamp. So the gauge counts: `lead` is the stream's own time (samples / rate, lost ones included)
minus the arrival clock. A steady stream keeps its lead. One that rises above its best by 10 ms in 100 ms runs faster
than 1.1 times its rate, which only old samples can; one that fell 100 ms below its best is behind by that much. 100 ms
is the largest chunk that LSL practice allows, so that chunks that come in parts are not taken for a backlog.
"""

from __future__ import annotations

from collections import deque

STALE_S = 0.25  # stamps so far from the arrival clock, or so much in one pull, are not "now"
WINDOW_S = 0.1
SLACK_S = 0.001  # arrivals are no more exact than that
FASTEST = 1.1  # times the nominal rate
RATE_WINDOW_S = 10.0
RATE_ERROR = 0.005
DECAY = 1e-3  # the best lead is forgotten at this rate, so that a clock 0.1 % slow is not taken for a stream behind


class BacklogGauge:
    """State: the best lead so far, and the best as it was at each arrival of the last 100 ms."""

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._best = float("-inf")
        self._history: deque[tuple[float, float]] = deque()  # (arrival, best lead then), one entry older than WINDOW_S

    def push(self, next_sample: int, rows: int, newest_time: float, arrival: float) -> bool:
        """True while the samples up to `next_sample`, `rows` of them in this pull, must not be decoded as now."""
        lead = next_sample / self.rate_hz - arrival
        while len(self._history) > 1 and arrival - self._history[1][0] >= WINDOW_S - SLACK_S:
            self._history.popleft()
        if self._history:
            self._best -= DECAY * (arrival - self._history[-1][0])
        behind = self._best - lead > WINDOW_S
        self._best = max(self._best, lead)
        self._history.append((arrival, self._best))
        since, best_then = self._history[0]
        span = arrival - since
        fast = span >= WINDOW_S - SLACK_S and lead - best_then > (FASTEST - 1.0) * span
        stale = abs(arrival - newest_time) > STALE_S
        return fast or behind or stale or rows > STALE_S * self.rate_hz


class RateGauge:
    """Measures the rate over every ten seconds of the arrival clock. State: since when, and how many samples."""

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._since: float | None = None
        self._samples = 0

    def push(self, rows: int, arrival: float) -> float | None:
        """The measured rate where ten seconds are over and it is more than half a percent off, else None."""
        if self._since is None:
            self._since = arrival
            return None
        self._samples += rows
        span = arrival - self._since
        if span < RATE_WINDOW_S:
            return None
        measured_hz = self._samples / span
        self._since, self._samples = arrival, 0
        return measured_hz if abs(measured_hz - self.rate_hz) > RATE_ERROR * self.rate_hz else None
