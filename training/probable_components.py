"""Probabilistic principal components of windows (Tipping and Bishop 1999), and what they say of values not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

Windows = NDArray[np.float32]
Flags = NDArray[np.bool_]
LEAST_NOISE = 1e-6  # of z: channels that stand still have none, and nothing divides by 0


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Of flattened windows: `mean`, and the covariance's `values` and `vectors` (in columns), the largest first."""

    mean: NDArray[np.float64]
    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    @classmethod
    def fit(cls, windows: Windows, usable: Flags) -> Spectrum:
        """Each mean and covariance over the windows in which the channels that it is of are usable."""
        there = np.repeat(usable, windows.shape[2], axis=1).astype(np.float32)
        flat = np.where(there > 0, windows.reshape(len(windows), -1), 0)
        mean = flat.sum(axis=0) / there.sum(axis=0).clip(min=1)
        centred = (flat - mean) * there
        covariance = (centred.T @ centred) / (there.T @ there).clip(min=1)
        values, vectors = eigh(covariance.astype(np.float64))
        return cls(mean.astype(np.float64), values[::-1], vectors[:, ::-1])


@dataclass(frozen=True, eq=False)
class Components:
    """Probabilistic principal components of flattened windows (Tipping and Bishop 1999): the hidden values' mean given
    the seen ones, so that no linear guess is better where that model holds."""

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]  # (values, k), each as long as its component's standard deviation beyond the noise
    noise: float

    @classmethod
    def of(cls, spectrum: Spectrum, k: int) -> Components:
        noise = max(LEAST_NOISE, float(spectrum.values[k:].mean()))
        axes = spectrum.vectors[:, :k] * np.sqrt(np.maximum(spectrum.values[:k] - noise, 0))
        return cls(spectrum.mean, axes, noise)

    def fill(self, windows: Windows, usable: Flags, hidden: Flags) -> Windows:
        filled = windows.astype(np.float64).reshape(len(windows), -1)
        seen = (~hidden & usable[:, :, None]).reshape(len(windows), -1)
        for row, known in zip(filled, seen, strict=True):
            axes = self.axes[known]
            factor = cho_factor(axes.T @ axes + self.noise * np.eye(axes.shape[1]))
            row[~known] = self.mean[~known] + self.axes[~known] @ cho_solve(
                factor, axes.T @ (row[known] - self.mean[known])
            )
        return filled.reshape(windows.shape).astype(np.float32)
