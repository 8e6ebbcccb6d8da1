"""What was hidden from what was seen: the masked autoencoder against the mean, interpolation and principal components.

All are given the same windows (n, channels, bins) of z, which channels are `usable` (n, channels), and what is `hidden`
(n, channels, bins), as many tokens in each window; they give the windows back, filled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.masked_autoencoder import MaskedAutoencoder
from training.probable_components import Components, Spectrum

Windows = NDArray[np.float32]
Flags = NDArray[np.bool_]
Seen = tuple[Windows, Flags]  # windows and which of their channels are usable
RESAMPLES = 2000
COMPONENTS = (1, 2, 4, 8, 16, 32, 64, 128)  # and all but one, where there are few: the whole covariance
APART = 30  # windows: more than overlap
MOST = 150  # windows to choose by


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


def hide_tokens(shape: tuple[int, int, int], share: float, patch_bins: int, seed: int = 0) -> Flags:
    """In each window this share of its patches, anywhere: what a masked autoencoder is trained to fill in."""
    rng, (n, channels, bins) = np.random.default_rng(seed), shape
    place = np.argsort(rng.random((n, channels * bins // patch_bins)), axis=1).argsort(axis=1)
    hidden = place < round(share * place.shape[1])
    return np.repeat(hidden, patch_bins, axis=1).reshape(shape)


@torch.no_grad()
def rebuilt(network: MaskedAutoencoder, windows: Windows, usable: Flags, hidden: Flags) -> Windows:
    """What the network makes of the tokens that are not hidden; the session is the one that it was trained on."""
    config = network.encoder.config
    kept = ~hidden.reshape(len(hidden), config.tokens, config.patch_bins).any(axis=2)
    keep = torch.from_numpy(np.nonzero(kept)[1].reshape(len(kept), -1))
    session = torch.zeros(len(windows), dtype=torch.long)
    window, alive = torch.from_numpy(windows), torch.from_numpy(usable)
    parts = [slice(k, k + 64) for k in range(0, len(windows), 64)]
    return np.concatenate([network(window[at], alive[at], keep[at], session[at])[0].numpy() for at in parts])


@dataclass(frozen=True)
class Task:
    """What is hidden of windows of a shape, and the axis along which a straight line is drawn through what is not."""

    hide: Callable[[tuple[int, int, int]], Flags]
    line_axis: int


def filled_in(
    network: MaskedAutoencoder, training: Seen, test: Seen, groups: NDArray[np.int64], tasks: dict[str, Task]
) -> dict[str, Any]:
    """What each task hides of the test windows, by each way: `explained`. Fitted on the training windows alone; as
    many components as fill in their last fifth best, fitted on what lies before."""
    (windows, usable), cut = test, 4 * len(training[0]) // 5
    late = tuple(part[cut + APART :] for part in training)
    late = tuple(part[:: max(1, len(late[0]) // MOST)] for part in late)
    early, whole = Spectrum.fit(*(part[:cut] for part in training)), Spectrum.fit(*training)
    mean = whole.mean.reshape(windows.shape[1:]).mean(axis=1, keepdims=True).astype(np.float32)
    found = {}
    for name, task in tasks.items():
        components = Components.of(whole, _best(early, late, task.hide(late[0].shape)))
        hidden = task.hide(windows.shape)
        filled = {
            "mae": rebuilt(network, windows, usable, hidden),
            "mean": np.broadcast_to(mean, windows.shape),
            "interpolation": interpolated(windows, usable, hidden, task.line_axis),
            "pca": components.fill(windows, usable, hidden),
        }
        scores = explained(windows, usable, hidden, filled, groups)
        found[name] = {"components": components.axes.shape[1], "windows": len(windows), "ways": scores}
    return found


def _best(spectrum: Spectrum, late: Seen, hidden: Flags) -> int:
    scored, most = hidden & late[1][:, :, None], len(spectrum.values) - 1
    wrong = {
        k: ((Components.of(spectrum, k).fill(*late, hidden) - late[0]) ** 2)[scored].mean()
        for k in sorted({min(k, most) for k in COMPONENTS})
    }
    return min(wrong, key=wrong.__getitem__)


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
    n = len(errors["mean"])
    draws = np.random.default_rng(seed).multinomial(n, [1 / n] * n, RESAMPLES)
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
