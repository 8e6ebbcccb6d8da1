"""What a linear readout can be given instead of an embedding. Pure functions of windows (n, channels, bins), z units.

The rivals are what a sceptic would try before a network: the power of each channel, and how the spontaneous patterns of
the array move together. In the simulated participant the state also scales a travelling wave, so that both are near to
what the ideal observer uses; a network has to earn its place against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.trials import Trials

Windows = NDArray[np.float32]
Features = NDArray[np.floating[Any]]

SCALES = (1, 4, 16)  # bins that are averaged before a variance is taken
STEP_BINS = 8  # components are looked at every so often: 25 Hz is five such steps
COMPONENTS = 12
LAGS = 5  # steps, so up to 40 ms
TINY = 1e-6


def blanked(trials: Trials) -> Windows:
    """The windows with unusable channels at 0, which is a channel's mean."""
    return np.where(trials.usable[:, :, None], trials.windows, np.float32(0)).astype(np.float32)


def raw(windows: Windows) -> Features:
    """All of it, (n, channels x bins)."""
    return windows.reshape(len(windows), -1)


def log_variance(windows: Windows, scales: tuple[int, ...] = (1,)) -> Features:
    """ln of each channel's variance over the window, after averaging over so many bins, (n, channels x scales)."""
    return np.hstack([np.log(_averaged(windows, scale).var(axis=2) + TINY) for scale in scales]).astype(np.float64)


def _averaged(windows: Windows, bins: int) -> Windows:
    n, channels, length = windows.shape
    return windows[:, :, : length // bins * bins].reshape(n, channels, -1, bins).mean(axis=3)


@dataclass(frozen=True, eq=False)
class SpontaneousComponents:
    """The patterns over channels, (channels, components), in which resting activity varies most."""

    patterns: NDArray[np.float64]

    @classmethod
    def fitted(cls, rest: Windows, components: int = COMPONENTS) -> SpontaneousComponents:
        """Principal components of `rest`, averaged over 8 ms."""
        smooth = _averaged(rest, STEP_BINS).swapaxes(1, 2).reshape(-1, rest.shape[1]).astype(np.float64)
        _, vectors = np.linalg.eigh(np.cov(smooth, rowvar=False))
        return cls(vectors[:, ::-1][:, :components])

    def features(self, windows: Windows) -> Features:
        """Means, ln variances and lagged covariances of the components within each window."""
        course = np.einsum("nct,ck->nkt", _averaged(windows, STEP_BINS), self.patterns)
        mean = course.mean(axis=2)
        course = course - mean[:, :, None]
        steps = course.shape[2]
        columns = [mean, np.log(course.var(axis=2) + TINY)]
        for lag in range(min(LAGS, steps - 1) + 1):
            together = np.einsum("nit,njt->nij", course[:, :, : steps - lag], course[:, :, lag:]) / (steps - lag)
            i, j = np.triu_indices(len(together[0])) if lag == 0 else np.indices(together[0].shape).reshape(2, -1)
            columns.append(together[:, i, j])
        return np.hstack(columns)


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Centre (features,) and directions (features, components) of flattened windows."""

    centre: NDArray[np.float32]
    directions: NDArray[np.float32]

    @classmethod
    def fitted(cls, flat: Features, components: int) -> PrincipalComponents:
        """Fewer than asked for where there are fewer trials. By the method of snapshots (Sirovich 1987): with fewer
        trials than features, the eigenvectors of their products give the same directions."""
        centre = flat.mean(axis=0)
        away = flat - centre
        components = min(components, len(flat) - 1)
        size, u = np.linalg.eigh((away @ away.T).astype(np.float64))
        size, u = size[-components:][::-1], u[:, -components:][:, ::-1]
        return cls(centre, (away.T @ (u / np.sqrt(np.maximum(size, TINY)))).astype(np.float32))

    def features(self, flat: Features) -> Features:
        """(n, components), float64."""
        return ((flat - self.centre) @ self.directions).astype(np.float64)
