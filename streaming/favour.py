"""Is the state the one that a trial waits for? Pure: probabilities in, how much it is and for how long it has been.

A state is entered at `p_on` and left below `p_off`, so that it does not flicker between the two, and counts once it has
lasted some predictions. A window of 128 ms reads a state of seconds badly; where asked for, what is compared is the
probability of the running mean of the log odds (docs/experiment.md). It counts time in samples, so that a skipped
window costs what it would have told and no more, and begins anew behind every null.
"""

from __future__ import annotations

import math

from streaming.plan import Trial

LEAST_ODDS = 1e-6  # beyond them one window would rule the mean for many time constants


class Favour:
    """What one run has seen of the state. `forgets`: the time constant of the mean, in samples; 0: each prediction by
    itself."""

    def __init__(self, p_on: float, p_off: float, forgets: float) -> None:
        self._p_on, self._p_off, self._forgets = p_on, p_off, forgets
        self._log_odds: tuple[float, int] | None = None  # the running mean, and the moment that it belongs to
        self.probability: float | None = None  # the newest, smoothed
        self.inside = False  # the state was entered, and not left
        self.dwell = 0  # for so many predictions in a row

    def push(self, trial: Trial | None, probability: float | None, now: int) -> float:
        """How much the state is the one that the trial's arm waits for, 0 where that is not known."""
        mean = self.probability = self._smooth(probability, now)
        if trial is None or mean is None:
            self.inside, self.dwell = False, 0
            return 0.0
        favour = 1.0 - mean if trial.arm == "unfavourable" else mean
        if favour >= self._p_on:
            self.inside = True
        elif favour < self._p_off:
            self.inside = False
        self.dwell = self.dwell + 1 if self.inside else 0
        return favour

    def leave(self) -> None:
        """It was answered: the next trial's state must be entered by itself."""
        self.inside, self.dwell = False, 0

    def begin(self) -> None:
        """Nothing that was seen before counts."""
        self.leave()
        self._log_odds = None

    def _smooth(self, probability: float | None, now: int) -> float | None:
        """The probability of the running mean of the log odds; None for what is none, which ends the mean."""
        if not (isinstance(probability, float) and 0.0 <= probability <= 1.0):  # nor for NaN
            self._log_odds = None
            return None
        if self._forgets == 0:
            return probability
        bounded = min(max(probability, LEAST_ODDS), 1.0 - LEAST_ODDS)
        odds = math.log(bounded / (1.0 - bounded))
        if self._log_odds is not None:
            mean, at = self._log_odds
            odds += math.exp(-(now - at) / self._forgets) * (mean - odds)
        self._log_odds = odds, now
        return 1.0 / (1.0 + math.exp(-odds))
