"""Ways to foretell an answer. Each is a function of the rows it may learn from; it foretells every trial. Pure.

    Linear          scaler and logistic regression on fixed features, as in the paper
    components      the same on principal components of the very trials it learns from
    network         a small network on windows and labels
    by_prior        rates of session and electrode

`Foretold.threshold` is the prevalence among the trials learned from, at which a percept is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from training.evaluation.features import Features, PrincipalComponents, Windows
from training.evaluation.splits import Rows
from training.evaluation.supervised import log_odds, supervised
from training.evaluation.without_cortex import prior
from training.readout import Readout, balanced_accuracy, fit, permuted
from training.trials import Trials

Labels = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Foretold:
    """P(perceived) of each trial, (n,), and above what a percept is called."""

    probability: NDArray[np.float64]
    threshold: float


Predictor = Callable[[Rows], Foretold]


@dataclass(frozen=True, eq=False)
class Linear:
    """On `features` (n, …); `free` ones are read without penalty beside them: what is known of the stimulus."""

    features: Features
    labels: Labels
    free: Features | None = None

    def __call__(self, training: Rows) -> Foretold:
        readout = self._fit(training)
        seen = self.features if self.free is None else np.hstack([self.features, self.free])
        return Foretold(readout.probability(seen), readout.prevalence)

    def _fit(self, training: Rows) -> Readout:
        known = None if self.free is None else self.free[training]
        return fit(self.features[training], self.labels[training], free=known)

    def by_chance(self, training: Rows, test: Rows, repeats: int) -> NDArray[np.float64]:
        """Balanced accuracy on `test` of fits to permuted labels, at the penalty that the true ones chose."""
        c = self._fit(training).c
        luck = permuted(self.features[training], self.labels[training], c, repeats)
        seen, told = self.features[test], self.labels[test]
        return np.array([balanced_accuracy(told, one.probability(seen) > one.prevalence) for one in luck])


def components(flat: Features, labels: Labels, n: int) -> Predictor:
    """On `n` principal components, or as many as the trials allow."""

    def predict(training: Rows) -> Foretold:
        return Linear(PrincipalComponents.fitted(flat[training], n).features(flat), labels)(training)

    return predict


def network(windows: Windows, labels: Labels, seed: int = 0) -> Predictor:
    """Balanced while learning; the prevalence is put back afterwards."""

    def predict(training: Rows) -> Foretold:
        prevalence = float(labels[training].mean())
        odds = log_odds(supervised(windows[training], labels[training], seed), windows).astype(np.float64)
        odds += np.log(prevalence / (1 - prevalence))
        return Foretold(expit(odds), prevalence)

    return predict


def by_prior(trials: Trials) -> Predictor:
    def predict(training: Rows) -> Foretold:
        return Foretold(prior(trials, training), float(trials.perceived[training].mean()))

    return predict
