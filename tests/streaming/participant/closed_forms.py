"""How well perception can be predicted at all: ideal observers in closed form, for the participant without lapses.

O1 knows the state, O4 only electrode and current, O5 only the current. All answer "perceived" where its probability is
above the prevalence π, which is the rule that is best in balanced accuracy. What O2 (the window) and O3 (the window and
2 s before) can do depends on the anatomy: `window_observer`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.participant.trials import PSYCHOMETRIC_CURRENTS_UA

Array = NDArray[np.float64]


def balanced_accuracy(probability: Array, weight: Array | None = None) -> float:
    """Balanced accuracy, in percent, expected of "perceived iff p > π" when `probability` is the truth.

    `weight` says how often each case occurs; equally by default.
    """
    weight = np.full(probability.shape, 1.0) if weight is None else np.broadcast_to(weight, probability.shape)
    weight = weight / weight.sum()
    prevalence = np.sum(weight * probability)
    says = probability > prevalence
    hits = np.sum(weight * probability * says) / prevalence
    passes = np.sum(weight * (1 - probability) * ~says) / (1 - prevalence)
    return float(50 * (hits + passes))


def effective_beta(beta_state: float, reliability: float) -> float:
    """The slope that is left when the state is read with reliability ρ²: β ρ / √(1 + (π/8) β² (1 - ρ²))."""
    return float(beta_state * np.sqrt(reliability / (1 + np.pi / 8 * beta_state**2 * (1 - reliability))))


def at_threshold(beta_state: float, reliability: float = 1.0) -> float:
    """BA* at the 50 % current, E σ(β|z|) over a normal z: O1, or an observer who reads the state with ρ²."""
    z, weight = _normal_grid()
    return balanced_accuracy(_logistic(effective_beta(beta_state, reliability) * z), weight)


def with_ignition(beta_state: float, ignition: float, loading: float = 1.0) -> float:
    """BA* at the 50 % current of who sees u = a s + κ y + n, n standard normal: the better of two densities."""
    z, weight = _normal_grid()
    u = np.arange(-9.0, 10.0, 0.01)[:, None]
    perceived = _logistic(beta_state * z)
    density = {y: np.exp(-((u - loading * z - ignition * y) ** 2) / 2) / np.sqrt(2 * np.pi) for y in (0, 1)}
    yes, no = (density[1] * perceived * weight).sum(1), (density[0] * (1 - perceived) * weight).sum(1)
    return float(50 * np.sum(np.maximum(yes / yes.sum(), no / no.sum())))


@dataclass(frozen=True, slots=True)
class PsychometricBounds:
    """BA* in percent over six currents and electrodes of different thresholds."""

    state_known: float  # O1
    electrode_and_current: float  # O4
    current_only: float  # O5


def psychometric(
    beta_current: float, beta_state: float, median_threshold_ua: float = 20.0, spread: float = 0.4
) -> PsychometricBounds:
    """The bounds of a psychometric session without lapses, thresholds lognormal over electrodes."""
    z, weight = _normal_grid()
    log_current = np.log(PSYCHOMETRIC_CURRENTS_UA)[:, None, None]
    log_threshold = np.log(median_threshold_ua) + spread * z[:, None]
    state_known = _logistic(beta_current * (log_current - log_threshold) + beta_state * z)  # (current, electrode, s)
    electrode_and_current = state_known @ weight
    current_only = electrode_and_current @ weight
    return PsychometricBounds(
        balanced_accuracy(state_known, weight[:, None] * weight),
        balanced_accuracy(electrode_and_current, weight),
        balanced_accuracy(current_only),
    )


def _logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _normal_grid() -> tuple[Array, Array]:
    """Points and weights of a standard normal variable, fine enough for integrands with steps."""
    z = np.linspace(-6, 6, 601)
    weight = np.exp(-(z**2) / 2)
    return z, weight / weight.sum()
