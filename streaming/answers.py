"""Evoked predictions and the reports that answer them, matched by trial while the session runs. Pure: time is what
stands on predictions and reports, the clock of their samples.

Every prediction ends in one count, every report in one:

    prediction    scored · unanswered (no report within `answer_s`) · not vouched for (null, for which its flags say the
                  reason) · withdrawn (a late marker changed what it rested on) · repeated (another trial of its number
                  began before its report) · without a trial number
    report        matched · doubled (the first one stands) · alone (no prediction within `answer_s`) · without a number

A report may come before its prediction: a button is pressed before the window has ended. It must lie behind the
onset. Without a number nothing is guessed from the order of events.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import Any

from streaming.events import Report
from streaming.pipeline import EVOKED_START_BINS
from streaming.predictions import Prediction
from streaming.scoring import Score, Tally
from streaming.signal.settings import BIN_RATE_HZ

ANSWER_S = 10.0
WINDOW_BINS = 128  # of most bundles
SLACK_S = 0.002
HELD = 256  # trials, and reports, that wait


@dataclass(frozen=True, slots=True)
class Counts:
    """Where predictions and reports went, and how many `wait` and are `held`. `early` reports are among the matched."""

    scored: int = 0
    waiting: int = 0
    unanswered: int = 0
    not_vouched: int = 0
    withdrawn: int = 0
    repeated: int = 0
    unnumbered: int = 0
    other_model: int = 0
    reports_matched: int = 0
    reports_early: int = 0
    reports_held: int = 0
    reports_doubled: int = 0
    reports_alone: int = 0
    reports_unnumbered: int = 0


@dataclass(slots=True)
class _Trial:
    """A prediction that was made. `probability` is None where there is nothing to score: its report is taken in."""

    onset: float
    seq: int
    probability: float | None
    answered: bool = False


class Answers:
    """Of one model; another bundle begins a new one.

    Args:
        model: name@version whose predictions are scored.
        threshold: of "yes"; see Tally.
        answer_s: how long after the onset a report is waited for.
        window_bins: how long the windows are, by whose end the onset is known, to half a millisecond.
    """

    def __init__(
        self, model: str, threshold: float = 0.5, answer_s: float = ANSWER_S, window_bins: int = WINDOW_BINS
    ) -> None:
        self.model = model
        self._tally = Tally(threshold)
        self._answer_s = answer_s
        self._window_ends_s = (EVOKED_START_BINS + window_bins) / BIN_RATE_HZ  # after the onset
        self._trials: OrderedDict[int, _Trial] = OrderedDict()  # in order of onset
        self._early: OrderedDict[int, tuple[float, bool]] = OrderedDict()  # reports that came before their prediction
        self._counts = Counts()

    def predicted(self, prediction: Prediction) -> None:
        """A prediction of evoked mode; of another mode, nothing happens."""
        if prediction.mode != "evoked":
            return
        onset, trial = prediction.sample_time - self._window_ends_s, prediction.trial
        self._forget(prediction.sample_time)
        if prediction.model != self.model:
            self._count(other_model=1)
            return
        if trial is None:
            self._count(unnumbered=1)
            return
        self._drop(trial, repeated=1)
        self._trials[trial] = made = _Trial(onset, prediction.seq, prediction.probability)
        if made.probability is None:
            self._count(not_vouched=1)
        if trial in self._early and self._fits(made, self._early[trial][0]):
            self._count(reports_early=1)
            self._match(made, self._early.pop(trial)[1])
        while len(self._trials) > HELD:
            self._drop(next(iter(self._trials)), unanswered=1)

    def reported(self, report: Report, time: float) -> None:
        """The participant's answer, and when it was given."""
        trial = report.trial
        self._forget(time)
        if trial is None:
            self._count(reports_unnumbered=1)
            return
        made = self._trials.get(trial)
        if made is not None and self._fits(made, time):
            if made.answered:
                self._count(reports_doubled=1)
            else:
                self._match(made, report.perceived)
        elif trial in self._early:
            self._count(reports_doubled=1)
        else:
            self._early[trial] = time, report.perceived
            if len(self._early) > HELD:
                self._early.popitem(last=False)
                self._count(reports_alone=1)

    def withdraw(self, first_seq: int, last_seq: int) -> None:
        """The predictions first_seq to last_seq are revoked: a late marker changed what they rested on."""
        taken = self._tally.withdraw(first_seq, last_seq)
        self._count(scored=-taken, withdrawn=taken)
        for made in self._trials.values():
            if first_seq <= made.seq <= last_seq and made.probability is not None and not made.answered:
                made.probability = None
                self._count(withdrawn=1)

    def score(self) -> Score:
        """Of the newest trials that have both a probability and a report."""
        return self._tally.score()

    def counts(self) -> Counts:
        """As of now."""
        waiting = sum(made.probability is not None and not made.answered for made in self._trials.values())
        return replace(self._counts, waiting=waiting, reports_held=len(self._early))

    def to_dict(self) -> dict[str, Any]:
        """For /v1/status, as plain JSON types."""
        return {"model": self.model, **self.score().to_dict(), "counts": asdict(self.counts())}

    def _fits(self, made: _Trial, time: float) -> bool:
        return -SLACK_S <= time - made.onset <= self._answer_s

    def _match(self, made: _Trial, perceived: bool) -> None:
        made.answered = True
        self._count(reports_matched=1)
        if made.probability is not None:
            self._tally.add(made.probability, perceived, made.seq)
            self._count(scored=1)

    def _drop(self, trial: int, **reason: int) -> None:
        made = self._trials.pop(trial, None)
        if made is not None and made.probability is not None and not made.answered:
            self._count(**reason)

    def _forget(self, now: float) -> None:
        """What has waited for too long."""
        before = now - self._answer_s
        for trial in [trial for trial, made in self._trials.items() if made.onset < before]:
            self._drop(trial, unanswered=1)
        for trial in [trial for trial, (time, _) in self._early.items() if time < before]:
            del self._early[trial]
            self._count(reports_alone=1)

    def _count(self, **more: int) -> None:
        self._counts = replace(self._counts, **{name: getattr(self._counts, name) + by for name, by in more.items()})
