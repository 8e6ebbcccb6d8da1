"""What a running mean of log odds is worth as a probability, found on sessions that come before the experiment.

A bundle's probability is calibrated for one window of the instrument that it was fitted on. The gate compares a running
mean over half a second, and at level A it reads another instrument: neither is what the calibration was made for. Two
numbers put it right, `slope` and `offset` of the log odds, fitted by logistic regression to the running mean before
each trial of calibration sessions. A mean of log odds times a slope is the mean of log odds times that slope, so they
are applied to each window, in front of the engine, which stays what it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.decoder import Decoded, Decoder
from models.errors import OperatorFault
from models.manifest import Manifest
from training.closed_loop import Rig, log_odds, mean_odds

LEAST_TRIALS = 20
BLANK_FROM_S = 0.0005  # before the onset: the last window that counts ends before it


@dataclass(frozen=True, slots=True)
class BeforeTrial:
    """The log odds of the last window before a trial, their running mean, and the answer."""

    odds: float
    mean_odds: float
    perceived: bool


@dataclass(frozen=True, slots=True)
class Recalibration:
    """`means` are the recalibrated running means before each calibration trial, as probabilities: how they spread says
    which threshold is passed how often. Areas under the curve are of one window and of the running mean."""

    slope: float
    offset: float
    trials: int
    auc_window: float
    auc_mean: float
    means: tuple[float, ...]

    def p_on(self, share: float) -> float:
        """The threshold above which the mean lies for `share` of the time, above one half as a threshold must be."""
        return min(max(float(np.quantile(self.means, 1 - share)), 0.51), 0.99)

    def after(self, p: float) -> float:
        """A probability of the bundle's, recalibrated."""
        return float(_sigmoid(self.slope * log_odds(p) + self.offset))

    def before(self, p: float) -> float:
        """The bundle's probability that is recalibrated to `p`."""
        return float(_sigmoid((math.log(p / (1 - p)) - self.offset) / self.slope))


def before_trials(rig: Rig, seconds: float, smoothing_s: float) -> list[BeforeTrial]:
    """Walk a rig whose session has a schedule of its own, and look at the moments before its trials."""
    seen: list[tuple[float, float | None]] = []
    while not seen or seen[-1][0] < seconds:
        prediction = rig.look()
        known = prediction.probability if prediction.full_history else None
        seen.append((prediction.sample_time, known))
    times = np.array([at for at, _ in seen])
    means = [mean for _, mean in mean_odds(seen, smoothing_s)]
    rate = rig.session.participant.settings.rate_hz
    found = []
    for one in rig.session.participant.delivered:
        last = int(np.searchsorted(times, one.onset_sample / rate - BLANK_FROM_S, side="right")) - 1
        if last >= 0 and (probability := seen[last][1]) is not None and (mean := means[last]) is not None:
            found.append(BeforeTrial(log_odds(probability), mean, one.perceived))
    return found


def recalibration(trials: Iterable[BeforeTrial]) -> Recalibration:
    """Raises OperatorFault: too few trials, or one kind of answer only."""
    held = list(trials)
    odds, means = (np.array([getattr(one, name) for one in held], float) for name in ("odds", "mean_odds"))
    answers = np.array([one.perceived for one in held], bool)
    if len(held) < LEAST_TRIALS or not 0 < answers.sum() < len(answers):
        raise OperatorFault(
            f"calibration: found {len(held)} trials, {int(answers.sum())} perceived; expected at least {LEAST_TRIALS} "
            "of both kinds; calibrate for longer"
        )
    fitted = LogisticRegression(C=1e6).fit(means[:, None], answers)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope <= 0:
        raise OperatorFault(
            f"calibration: the decoder's probability falls where percepts rise (slope {slope:.2f} over {len(held)} "
            "trials): it knows nothing of this state; name another bundle, or calibrate for longer"
        )
    return Recalibration(
        slope=slope,
        offset=offset,
        trials=len(held),
        auc_window=float(roc_auc_score(answers, odds)),
        auc_mean=float(roc_auc_score(answers, means)),
        means=tuple(_sigmoid(slope * means + offset).tolist()),
    )


class Recalibrated:
    """A decoder whose prestimulus log odds go through slope and offset; else the one that it wraps."""

    def __init__(self, decoder: Decoder, slope: float, offset: float) -> None:
        self._decoder, self._slope, self._offset = decoder, slope, offset
        self.n_channels, self.n_bins = decoder.n_channels, decoder.n_bins

    @property
    def name(self) -> str:
        return self._decoder.name

    @property
    def provider(self) -> str:
        return self._decoder.provider

    @property
    def precision(self) -> str:
        return self._decoder.precision

    @property
    def manifest(self) -> Manifest:
        return self._decoder.manifest

    def step(self, window: NDArray[np.float32], usable: NDArray[np.bool_]) -> Decoded:
        decoded = self._decoder.step(window, usable)
        p = decoded.prestimulus
        if p is None or not 0 < p < 1:
            return decoded
        return Decoded(
            decoded.embedding, float(_sigmoid(self._slope * math.log(p / (1 - p)) + self._offset)), decoded.evoked
        )


def _sigmoid(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.asarray(x))))
