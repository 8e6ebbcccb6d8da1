"""Hit rates and what may be said of them: intervals in closed form where there is one, else by resampling. Pure.

Wilson's interval for a rate (Wilson 1927), Newcombe's hybrid score interval for a difference of two (Newcombe 1998,
method 10). Both take trials for independent. Differences between arms are also resampled within strata of electrode and
current, so that an arm never gains by easier stimuli.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streaming.scoring import wilson

RESAMPLES = 4000


def newcombe(hits: int, trials: int, other_hits: int, other_trials: int) -> list[float]:
    """95 % interval of the difference of two independent rates, first less second."""
    if not trials or not other_trials:
        return [-1.0, 1.0]
    p, q = hits / trials, other_hits / other_trials
    (pl, pu), (ql, qu) = wilson(hits, trials), wilson(other_hits, other_trials)
    return [p - q - math.hypot(p - pl, qu - q), p - q + math.hypot(pu - p, q - ql)]


def rate(hits: NDArray[np.bool_]) -> dict[str, object]:
    """A rate with its interval, as results hold it."""
    n, k = len(hits), int(hits.sum())
    return {"trials": n, "hits": k, "rate": k / n if n else None, "interval": wilson(k, n)}


def stratified(values: NDArray[np.float64], strata: Sequence[object], weights: dict[object, float]) -> float:
    """Mean of each stratum, weighted; strata without values are left out."""
    total = used = 0.0
    for stratum, weight in weights.items():
        mine = values[[s == stratum for s in strata]]
        if len(mine):
            total, used = total + weight * float(mine.mean()), used + weight
    return total / used if used else math.nan


class Arms:
    """Answers of several arms, stratum by stratum, and bootstrap samples of each arm's stratified rate.

    Every arm is resampled within its own strata; a stratum weighs as much as it has trials in all arms together, so
    that arms are compared at equal electrode and current.
    """

    def __init__(
        self, arms: dict[str, tuple[NDArray[np.float64], list[object]]], seed: int = 0, resamples: int = RESAMPLES
    ) -> None:
        everywhere = [stratum for _, strata in arms.values() for stratum in strata]
        weights = {stratum: everywhere.count(stratum) / len(everywhere) for stratum in dict.fromkeys(everywhere)}
        self.rate: dict[str, float] = {}
        self.samples: dict[str, NDArray[np.float64]] = {}
        for place, (name, (values, strata)) in enumerate(arms.items()):
            self.rate[name] = stratified(values, strata, weights)
            rng = np.random.default_rng([seed, place])
            total, used = np.zeros(resamples), 0.0
            for stratum, weight in weights.items():
                mine = values[[s == stratum for s in strata]]
                if len(mine):
                    total += weight * mine[rng.integers(len(mine), size=(resamples, len(mine)))].mean(axis=1)
                    used += weight
            self.samples[name] = total / used if used else np.full(resamples, math.nan)

    def lift(self, arm: str, over: str) -> dict[str, object]:
        """Difference of stratified rates."""
        return _with_interval(self.rate[arm] - self.rate[over], self.samples[arm] - self.samples[over])

    def ratio_of_lifts(self, arm: str, best: str, over: str) -> dict[str, object]:
        """(arm - over) / (best - over), the trials of `over` drawn once for both."""
        ours, theirs = (self.samples[name] - self.samples[over] for name in (arm, best))
        lift, best_lift = (self.rate[name] - self.rate[over] for name in (arm, best))
        found = lift / best_lift if best_lift else math.nan
        return _with_interval(found, ours / np.where(theirs == 0, np.nan, theirs))

    def saved(self, arm: str, over: str) -> dict[str, object]:
        """The share of stimulations that `arm` saves for the same number of percepts: 1 - rate(over) / rate(arm)."""
        return _with_interval(
            1 - self.rate[over] / self.rate[arm] if self.rate[arm] else math.nan,
            1 - self.samples[over] / np.where(self.samples[arm] == 0, np.nan, self.samples[arm]),
        )


def _with_interval(value: float, samples: NDArray[np.float64]) -> dict[str, object]:
    known = samples[np.isfinite(samples)]
    if not len(known) or not math.isfinite(value):
        return {"value": None, "interval": None}
    low, high = np.percentile(known, [2.5, 97.5])
    return {"value": float(value), "interval": [float(low), float(high)]}
