"""What pulses took, and from which moment on there is room for the next. Pure.

Moments are samples of the engine's running count, in which NEVER and ALWAYS are moments, too. Each limit answers
beforehand, from when on it allows a pulse if none is added: so a prediction that comes meanwhile is held against a
number. `clock_guard.py` does this once more, on the machine's clock and by arithmetic of its own.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from streaming.limits import Pattern
from streaming.plan import Trial

NEVER, ALWAYS = math.inf, -math.inf  # as moments from which on something may be


class Dose(NamedTuple):
    """What one pulse takes from the budgets, as the device delivers it."""

    electrode: int
    charge_uc: float
    duration_s: float

    @classmethod
    def of(cls, pattern: Pattern) -> Dose:
        return cls(pattern.electrode, pattern.train_charge_uc, pattern.pulse.duration_s)


@dataclass(slots=True)
class Progress:
    """How far the plan is, and what its pulses took.

    The real one lives as long as the run, through every disarming; shadow begins with a new one each time.
    """

    day_uc: dict[int, float] = field(default_factory=dict)  # by electrode
    next_trial: int = 0
    waits_s: list[float] = field(default_factory=list)  # that favourable trials needed
    pulses: int = 0
    last_pulse: int | None = None
    moments: deque[int] = field(default_factory=deque)  # of the last minute
    trains: deque[tuple[int, int, float]] = field(default_factory=deque)  # (moment, electrode, seconds), last minute

    def add(self, moment: int, trial: Trial, dose: Dose, waited_s: float) -> None:
        """A sham takes its place in the rates, so that arms stay alike; it takes no charge."""
        self.next_trial += 1
        self.pulses += 1
        self.last_pulse = moment
        self.moments.append(moment)
        if trial.arm == "favourable":
            self.waits_s.append(waited_s)
        if not trial.sham:
            self.trains.append((moment, dose.electrode, dose.duration_s))
            self.day_uc[dose.electrode] = self.day_uc.get(dose.electrode, 0.0) + dose.charge_uc

    def forget(self, before: int) -> None:
        while self.moments and self.moments[0] <= before:
            self.moments.popleft()
        while self.trains and self.trains[0][0] <= before:
            self.trains.popleft()

    def rested_from(self, refractory: int) -> float:
        """The moment from which on the last pulse is `refractory` samples old."""
        return ALWAYS if self.last_pulse is None else self.last_pulse + refractory

    def rate_allows_from(self, most: int, minute: int) -> float:
        """The moment from which on the last minute holds fewer than `most` pulses, if none is added."""
        return self.moments[-most] + minute if len(self.moments) >= most else ALWAYS

    def session_allows_from(self, most: int) -> float:
        """A session's pulses do not come back."""
        return ALWAYS if self.pulses < most else NEVER

    def duty_allows_from(self, dose: Dose, most_s: float, minute: int) -> float:
        """The moment from which on the electrode's trains of the last minute leave room for the dose."""
        trains = [(moment, seconds) for moment, of, seconds in self.trains if of == dose.electrode]
        moments = [ALWAYS, *(moment + minute for moment, _ in trains)]  # at which the first n have left the minute
        left_s = (sum(seconds for _, seconds in trains[n:]) for n in range(len(moments)))
        return next((at for at, s in zip(moments, left_s, strict=True) if s + dose.duration_s <= most_s), NEVER)

    def day_allows_from(self, dose: Dose, most_uc: float) -> float:
        """A day's charge does not come back."""
        return ALWAYS if self.day_uc.get(dose.electrode, 0.0) + dose.charge_uc <= most_uc else NEVER
