"""O2, O3 and O4: what a window of level A can tell at best, by someone who knows the participant by heart.

With s taken as constant over the window, everything is linear and Gaussian given s: a Kalman filter over the rhythms x
gives the likelihood of the window for each of 41 values of s, and Bayes does the rest. The noise is AR(1) in time, so
differencing whitens it (the state holds x now and one bin ago); its covariance over electrodes is whitened too, and all
but the few directions in which x, s and the response lie drop out of the likelihood ratio.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from streaming.participant.anatomy import Anatomy
from streaming.participant.latent import (
    N_RHYTHM,
    PRESTIMULUS_BINS,
    prestimulus_sd,
    rhythm_dynamics,
    state_autocovariance,
)
from streaming.participant.level_a import NOISE_KEEP, noise_correlation
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import (
    IGNITION_ONSET_MS,
    Delivered,
    ignition_course,
    percept_probability,
    response,
)

Array = NDArray[np.float64]

WINDOW_FIRST_BIN = 170
WINDOW_BINS = 128
BEFORE_BINS = 16 * WINDOW_BINS  # the 2 s before the stimulus that O3 sees as well
STATES = np.linspace(-4, 4, 41)
PRIOR = np.exp(-(STATES**2) / 2) / np.exp(-(STATES**2) / 2).sum()


class WindowObserver:
    """The ideal observer of one participant's windows of 128 bins."""

    def __init__(self, settings: ParticipantSettings, anatomy: Anatomy) -> None:
        self.settings, self.anatomy = settings, anatomy
        whiten = np.linalg.inv(np.linalg.cholesky(noise_correlation(anatomy)))
        self._whiten = (whiten / anatomy.noise_uv).T
        seen = (anatomy.scale_uv[:, None] * np.column_stack([anatomy.rhythm, anatomy.wave, anatomy.state])).T
        seen = np.vstack([seen, anatomy.scale_uv * anatomy.ignition]) @ self._whiten
        left, size, _ = np.linalg.svd(seen.T, full_matrices=False)
        self._basis = left[:, size > 1e-9 * size[0]]  # the directions in which anything happens
        seen = seen @ self._basis
        self._rhythm, self._wave = seen[:N_RHYTHM].T, seen[N_RHYTHM : 2 * N_RHYTHM].T
        self._state, self._ignition = seen[-2], seen[-1]
        self._mean = np.asarray([(s + anatomy.truth.state_offset) * self._state for s in STATES])
        self._filters = [self._filter(s + anatomy.truth.state_offset) for s in STATES]

    def log_likelihood(self, windows_uv: NDArray[np.float32], expected: Array | None = None) -> Array:
        """ln p(window | s) up to a constant, (n, 41), for windows (n, 128, 96) in µV.

        `expected` (n, 128, directions) is what a response is known to add, whitened.
        """
        seen = (windows_uv - self.anatomy.resting_uv) @ self._whiten @ self._basis
        if expected is not None:
            seen = seen - expected
        out = np.empty((len(seen), len(STATES)))
        for k in range(len(STATES)):
            out[:, k] = self._kalman(seen - self._mean[k], *self._filters[k])
        return out

    def stimulus_only(self, delivered: list[Delivered]) -> Array:
        """P(perceived | electrode, current), (n,): O4, who has never heard of a window."""
        return np.asarray(self._percept_given_state(delivered, 0.0) @ PRIOR)

    def prestimulus(self, believed: Array, delivered: list[Delivered]) -> Array:
        """P(perceived | belief, electrode, current), (n,), before the answer can be seen: O2 of the pre-stimulus
        question by the `belief` of the last 128 ms, O3 by that of the last 2 s."""
        apart = _lags(np.arange(-PRESTIMULUS_BINS, 0), np.arange(-WINDOW_BINS, 0)) / prestimulus_sd()
        return np.asarray((believed * self._percept_given_state(delivered, apart)).sum(1))

    def belief(self, before_uv: NDArray[np.float32]) -> Array:
        """p(s in the last 128 bins | all), (n, 41), for (n, k · 128, 96) in µV that end before the stimulus.

        The rhythms are forgotten between pieces of 128 bins and s is taken for a Markov chain: a lower bound.
        """
        belief = np.broadcast_to(PRIOR, (len(before_uv), len(STATES)))
        step = _transition(WINDOW_BINS)
        for first in range(0, before_uv.shape[1], WINDOW_BINS):
            if first:
                belief = belief @ step
            belief = belief * _likelihood(self.log_likelihood(before_uv[:, first : first + WINDOW_BINS]))
            belief = belief / belief.sum(1, keepdims=True)
        return belief

    def probability(
        self, windows_uv: NDArray[np.float32], delivered: list[Delivered], before: Array | None = None
    ) -> Array:
        """P(perceived | window, electrode, current), (n,): O2; with the belief from the 2 s `before` it is O3."""
        log = {y: self._given_percept(windows_uv, delivered, y) for y in (False, True)}
        scale = np.maximum(log[False], log[True]).max(1, keepdims=True)
        likelihood = {y: np.exp(value - scale) for y, value in log.items()}
        if before is None:
            apart = _lags(np.arange(-PRESTIMULUS_BINS, 0), WINDOW_FIRST_BIN + np.arange(WINDOW_BINS))
            believed = np.broadcast_to(PRIOR, likelihood[True].shape)
        else:
            apart = _lags(np.arange(-PRESTIMULUS_BINS, 0), np.arange(-WINDOW_BINS, 0))
            believed = before
            onward = _transition(WINDOW_FIRST_BIN + WINDOW_BINS)
            likelihood = {y: value @ onward.T for y, value in likelihood.items()}
        perceived = self._percept_given_state(delivered, apart / prestimulus_sd())
        yes = (believed * likelihood[True] * perceived).sum(1)
        no = (believed * likelihood[False] * (1 - perceived)).sum(1)
        return np.asarray(yes / (yes + no))

    def state_estimate(self, windows_uv: NDArray[np.float32]) -> Array:
        """E[s | window] for windows without a response, (n,)."""
        posterior = PRIOR * _likelihood(self.log_likelihood(windows_uv))
        return np.asarray(posterior @ STATES / posterior.sum(1))

    def _given_percept(self, windows_uv: NDArray[np.float32], delivered: list[Delivered], perceived: bool) -> Array:
        """ln p(window | s, y), (n, 41); the unknown onset of an ignition is summed over."""
        in_window = slice(WINDOW_FIRST_BIN, WINDOW_FIRST_BIN + WINDOW_BINS)
        responses = [response(self.settings, self.anatomy, one) for one in delivered]
        space = np.array([pattern[0] for _, pattern in responses]) * self.anatomy.scale_uv @ self._whiten @ self._basis
        course = np.array([time_course[in_window, 0] for time_course, _ in responses])
        evoked = course[:, :, None] * space[:, None]
        if not (perceived and self.settings.ignition):
            return self.log_likelihood(windows_uv, evoked)
        late = [ignition_course(ms)[in_window, None] for ms in np.linspace(*IGNITION_ONSET_MS, 7)]
        size = self.settings.ignition * self._ignition
        each = [self.log_likelihood(windows_uv, evoked + shape * size) for shape in late]
        return np.asarray(logsumexp(each, axis=0) - np.log(len(each)))

    def _percept_given_state(self, delivered: list[Delivered], covariance: float) -> Array:
        """P(perceived | s in a window), (n, 41): the pre-stimulus state given that one is N(r s, 1 - r²)."""
        points, weight = np.polynomial.hermite_e.hermegauss(15)
        before = covariance * STATES[:, None] + np.sqrt(1 - covariance**2) * points + self.anatomy.truth.state_offset
        current = np.array([d.stimulation.current_ua for d in delivered])[:, None, None]
        threshold = self.anatomy.threshold_ua[[(d.stimulation.electrode or 1) - 1 for d in delivered]][:, None, None]
        return np.asarray(percept_probability(self.settings, current, threshold, before) @ weight / weight.sum())

    def _filter(self, state: float) -> tuple[Array, list[Array], list[Array], Array]:
        """First and later loadings, gains by bin, inverse Cholesky factors of the innovations; ln det by bin."""
        a, n = rhythm_dynamics(), N_RHYTHM
        loading = self._rhythm + np.exp(self.anatomy.state_on_wave * state) * self._wave
        nothing = np.zeros_like(loading)
        kick = np.sqrt(1 - NOISE_KEEP**2)
        first, later = np.hstack([loading, nothing]), np.hstack([loading, -NOISE_KEEP * loading]) / kick
        move = np.block([[a, np.zeros((n, n))], [np.eye(n), np.zeros((n, n))]])
        noise = np.zeros((2 * n, 2 * n))
        noise[:n, :n] = np.eye(n) - a @ a.T
        covariance = np.block([[np.eye(n), a], [a.T, np.eye(n)]])
        gains, roots, log_det = [], [], np.empty(WINDOW_BINS)
        for t in range(WINDOW_BINS):
            g = later if t else first
            innovation = np.eye(len(g)) + g @ covariance @ g.T
            root = np.linalg.inv(np.linalg.cholesky(innovation))
            gain = covariance @ g.T @ root.T @ root
            gains.append(move @ gain)
            roots.append(root)
            log_det[t] = -2 * np.log(np.diag(root)).sum()
            covariance = move @ (covariance - gain @ g @ covariance) @ move.T + noise
        return np.stack([first, later]), gains, roots, log_det

    def _kalman(self, seen: Array, loading: Array, gains: list[Array], roots: list[Array], log_det: Array) -> Array:
        """ln p of whitened windows (n, 128, directions) under one filter, (n,)."""
        a = rhythm_dynamics()
        n = N_RHYTHM
        state = np.zeros((len(seen), 2 * n))
        total = np.full(len(seen), -0.5 * log_det.sum())
        kick = np.sqrt(1 - NOISE_KEEP**2)
        for t in range(WINDOW_BINS):
            value = (seen[:, t] - NOISE_KEEP * seen[:, t - 1]) / kick if t else seen[:, 0]
            surprise = value - state @ loading[min(t, 1)].T
            total -= 0.5 * np.sum((surprise @ roots[t].T) ** 2, axis=1)
            state = np.hstack([state[:, :n] @ a.T, state[:, :n]]) + surprise @ gains[t].T
        return total


def _likelihood(log_likelihood: Array) -> Array:
    return np.asarray(np.exp(log_likelihood - log_likelihood.max(1, keepdims=True)))


def _lags(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Covariance of the mean of s over two stretches of bins."""
    return float(state_autocovariance(np.abs(one[:, None] - other[None])).mean())


def _transition(bins: int) -> Array:
    """p(s there | s here), (41, 41), so many bins later."""
    keep = float(state_autocovariance(np.array(bins)))
    p = np.exp(-((STATES[None] - keep * STATES[:, None]) ** 2) / (2 * (1 - keep**2)))
    return np.asarray(p / p.sum(1, keepdims=True))
