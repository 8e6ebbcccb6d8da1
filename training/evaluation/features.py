"""What a linear readout can be given instead of an embedding. Pure functions of windows (n, channels, bins), z units.

The rivals are what a sceptic would try before a network: the power of each channel, and how the spontaneous patterns of
the array move together. In the simulated participant the state also scales a travelling wave, so that both are near to
what the ideal observer uses; a network has to earn its place against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks import window_statistics
from models.networks.window_statistics import COMPONENTS, movements
from training.slow_pooling import leading_patterns
from training.trials import Trials

Windows = NDArray[np.float32]
Features = NDArray[np.floating[Any]]


def blanked(trials: Trials) -> Windows:
    """The windows with unusable channels at 0, which is a channel's mean."""
    return np.where(trials.usable[:, :, None], trials.windows, np.float32(0)).astype(np.float32)


def raw(windows: Windows) -> Features:
    """All of it, (n, channels x bins)."""
    return windows.reshape(len(windows), -1)


def log_variance(windows: Windows, scales: tuple[int, ...] = (1,)) -> Features:
    """ln of each channel's variance over the window, after averaging over so many bins, (n, scales x channels)."""
    return window_statistics.log_variance(torch.from_numpy(windows), scales).numpy()


@dataclass(frozen=True, eq=False)
class SpontaneousComponents:
    """The patterns over channels, (channels, components), in which resting activity varies most."""

    patterns: NDArray[np.float32]

    @classmethod
    def fitted(cls, rest: Windows, components: int = COMPONENTS) -> SpontaneousComponents:
        return cls(leading_patterns(torch.from_numpy(rest), components))

    def features(self, windows: Windows) -> Features:
        """Means, ln variances and lagged covariances of the components within each window."""
        window = torch.from_numpy(windows)
        usable = torch.ones(window.shape[:2], dtype=torch.bool)
        return movements(window, usable, torch.from_numpy(self.patterns)).numpy()


TINY = 1e-6


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
