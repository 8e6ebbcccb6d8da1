"""What was hidden from what was seen: the masked autoencoder against the mean, interpolation and principal components.

All are given the same windows (n, channels, bins) of z, which channels are `usable` (n, channels), and what is `hidden`
(n, channels, bins), as many tokens in each window; they give the windows back, filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

from models.networks.masked_autoencoder import MaskedAutoencoder

Windows = NDArray[np.float32]
Flags = NDArray[np.bool_]
RESAMPLES = 2000


def hide(shape: tuple[int, int, int], channels: int, bins: int, patch_bins: int, seed: int = 0) -> Flags:
    """In each window (n, channels, bins) so many channels throughout, and so many bins of all channels, drawn anew for
    each; whole patches, so that no token is half hidden."""
    rng, (n, all_channels, all_bins) = np.random.default_rng(seed), shape
    hidden = np.zeros((n, all_channels, all_bins // patch_bins, patch_bins), bool)
    for one in hidden:
        one[rng.permutation(all_channels)[:channels]] = True
        one[:, rng.permutation(all_bins // patch_bins)[: bins // patch_bins]] = True
    return hidden.reshape(shape)


def interpolated(windows: Windows, usable: Flags, hidden: Flags, axis: int) -> Windows:
    """A straight line between the nearest seen values, over channels (axis 1) or bins (axis 2); the last one beyond."""
    seen = ~hidden & usable[:, :, None]
    filled, lines, known = (np.moveaxis(part, axis, -1) for part in (windows.copy(), windows, seen))
    places = np.arange(windows.shape[axis])
    for at in np.ndindex(known.shape[:-1]):
        if known[at].any():
            filled[at] = np.interp(places, places[known[at]], lines[at][known[at]])
    return np.moveaxis(filled, -1, axis)


@dataclass(frozen=True, eq=False)
class Components:
    """Probabilistic principal components of flattened windows (Tipping and Bishop 1999): the hidden values' mean given
    the seen ones, so that no linear readout of that model is better. Covariances are over what is usable in both."""

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]  # (values, k), each as long as its component's standard deviation beyond the noise
    noise: float

    @classmethod
    def fit(cls, windows: Windows, usable: Flags, k: int) -> Components:
        there = np.repeat(usable, windows.shape[2], axis=1).astype(np.float32)
        flat = windows.reshape(len(windows), -1)
        mean = (flat * there).sum(axis=0) / there.sum(axis=0).clip(min=1)
        centred = (flat - mean) * there
        covariance = (centred.T @ centred) / (there.T @ there).clip(min=1)
        values, vectors = eigh(covariance.astype(np.float64))
        values, vectors = values[::-1], vectors[:, ::-1]
        noise = float(values[k:].mean())
        return cls(mean.astype(np.float64), vectors[:, :k] * np.sqrt(np.maximum(values[:k] - noise, 0)), noise)

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


@torch.no_grad()
def rebuilt(network: MaskedAutoencoder, windows: Windows, usable: Flags, hidden: Flags) -> Windows:
    """What the network makes of the tokens that are not hidden, its session unknown."""
    config = network.encoder.config
    kept = ~hidden.reshape(len(hidden), config.tokens, config.patch_bins).any(axis=2)
    keep = torch.from_numpy(np.nonzero(kept)[1].reshape(len(kept), -1))
    unknown = torch.full((len(windows),), config.sessions)
    window, alive = torch.from_numpy(windows), torch.from_numpy(usable)
    parts = [slice(k, k + 256) for k in range(0, len(windows), 256)]
    return np.concatenate([network(window[at], alive[at], keep[at], unknown[at])[0].numpy() for at in parts])


def explained(
    windows: Windows, usable: Flags, hidden: Flags, filled: dict[str, Windows], groups: NDArray[np.int64], seed: int = 0
) -> dict[str, Any]:
    """How much of the hidden values' squared distance from the mean (`filled["mean"]`) each way explains, by 1 - error
    / the mean's error, with its 95 % bootstrap interval over `groups` (n,) of windows, and by how much the masked
    autoencoder is ahead of each, on the same groups."""
    _, group = np.unique(groups, return_inverse=True)
    scored = hidden & usable[:, :, None]
    errors = {
        name: np.bincount(group, np.where(scored, (made - windows) ** 2, 0).sum(axis=(1, 2), dtype=np.float64))
        for name, made in filled.items()
    }
    draws = np.random.default_rng(seed).multinomial(
        len(errors["mean"]), [1 / len(errors["mean"])] * len(errors["mean"]), RESAMPLES
    )
    shares = {name: 1 - (draws @ error) / (draws @ errors["mean"]) for name, error in errors.items()}
    found = {name: 1 - error.sum() / errors["mean"].sum() for name, error in errors.items()}
    return {
        name: {
            "explained": float(found[name]),
            "interval": np.percentile(shares[name], [2.5, 97.5]).tolist(),
            "mae_ahead": float(found["mae"] - found[name]),
            "mae_ahead_interval": np.percentile(shares["mae"] - shares[name], [2.5, 97.5]).tolist(),
        }
        for name in errors
    }
