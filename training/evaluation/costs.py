"""How much work a step is, in units whose time is known or measured (`plan.measure`)."""

from __future__ import annotations

from dataclasses import dataclass

from training.evaluation.settings import Measures
from training.evaluation.steps import Step
from training.trials import TRAINING_PART

FITTED = 400  # trials of a measured fit
# Seconds of one core: of a simulated second, normalised; of an encoded window (of rest: in bfloat16) and a step of
# pretraining (`tiny`, one token a channel); of a fit with cross-validation to 400 trials, by the number of features
TYPICAL = {
    "simulated": 0.005, "encoded": 0.006, "rest encoded": 0.003, "trained": 0.75,
    "fit 2": 0.03, "fit 384": 0.3, "fit 768": 0.6, "fit 12288": 1.0,
}  # fmt: skip
OVERHEAD_S = 0.5  # of any step: reading, writing


@dataclass(frozen=True)
class Size:
    """About how many trials a protocol has: to learn from, in so many sessions, and altogether."""

    learning: int
    sessions: int
    altogether: int


def cost_s(step: Step, costs: dict[str, float] = TYPICAL) -> float:
    return OVERHEAD_S + sum(amount * costs[kind] for kind, amount in step.amounts.items())


def fits(features: int, trials: Size, measures: Measures, few: bool, by_each_session: bool) -> dict[str, float]:
    """How many fits to 400 trials an outcome amounts to."""
    size = min((2, 384, 768, 12_288), key=lambda one: abs(one - features))

    def work(n: float) -> float:  # measured: 2080 trials take four times as long as 400, of 768 features or of 12 288
        return float(n / FITTED)

    total = work(TRAINING_PART * trials.learning)
    if by_each_session:
        each = trials.learning / trials.sessions
        total += trials.sessions * (work(trials.learning - each) + work(TRAINING_PART * each))
    if few:
        training = TRAINING_PART * trials.learning
        total += sum(min(measures.draws, training // n) * work(n) for n in measures.labels)
    return {f"fit {size}": total}
