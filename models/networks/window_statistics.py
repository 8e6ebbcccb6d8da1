"""What anybody could compute of a window without a network: means, ln variances, and how patterns move together.

Part of what the default reading of a bundle is made of (`slow_pooling`), and the rivals that an encoder is held against
(training/evaluation/features.py): the same functions, so that a rival is given what is served.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALES = (1, 4, 16)  # bins that are averaged before a variance is taken
STEP_BINS = 8  # components are looked at every so often: 25 Hz is five such steps
COMPONENTS = 12
LAGS = 5  # steps, so up to 40 ms
TURNS = 4
FURTHEST_Z = 6.0  # reached by 15 bins in 10 000 of simulated broadband
TINY = 1e-6


def averaged(window: Tensor, bins: int) -> Tensor:
    """(n, channels, length) to (n, channels, length // bins)."""
    length = window.shape[2] // bins * bins
    return window[:, :, :length].unflatten(2, (-1, bins)).mean(dim=3)


def log_variance(window: Tensor, scales: tuple[int, ...] = SCALES) -> Tensor:
    """ln of each channel's variance over the window after averaging over so many bins, (n, scales · channels). But for
    the first, scales of which a window has less than two are left out."""
    kept = scales_of(window.shape[2], scales)
    return torch.cat([(_variance(averaged(window, scale)) + TINY).log() for scale in kept], dim=1)


def scales_of(length: int, scales: tuple[int, ...] = SCALES) -> list[int]:
    return [scale for k, scale in enumerate(scales) if k == 0 or length // scale > 1]


def movements(window: Tensor, usable: Tensor, patterns: Tensor) -> Tensor:
    """Means, ln variances and lagged covariances of `patterns` (channels, components; orthonormal) within each window,
    (n, …). Of channels that are not `usable` the window is 0; how strong the patterns are is told by those that are, by
    least squares: with every electrode lost a pattern would seem weaker, and leak into the others."""
    seen = usable[:, :, None] * patterns
    course = unmixed(seen.transpose(1, 2) @ patterns) @ (seen.transpose(1, 2) @ averaged(window, STEP_BINS))
    mean = course.mean(dim=2)
    course = course - mean[:, :, None]
    components, steps = course.shape[1:]
    found = [mean, (_variance(course) + TINY).log()]
    i, j = torch.triu_indices(components, components)
    for lag in range(min(LAGS, steps - 1) + 1):
        together = course[:, :, : steps - lag] @ course[:, :, lag:].transpose(1, 2) / (steps - lag)
        found.append(together.flatten(1) if lag else together[:, i, j])
    return torch.cat(found, dim=1)


def unmixed(overlap: Tensor) -> Tensor:
    """The inverse of matrices (n, k, k) between 0 and 1, by Newton's iteration (Schulz 1933), which exports to ONNX as
    an inverse does not. Of what is not seen at all it makes no more than 2 ** TURNS."""
    one = torch.eye(overlap.shape[1], dtype=overlap.dtype)
    found = one.expand_as(overlap)
    for _ in range(TURNS):
        found = found @ (2 * one - overlap @ found)
    return found


def statistics(window: Tensor, usable: Tensor, patterns: Tensor) -> tuple[Tensor, Tensor]:
    """All of them, (n, features), and which of them are known, (n, features) bool: those of a channel that is not
    `usable` (n, channels) are not. What is further from 0 than any neuron brings it counts as that far: the remains of
    an artifact at one electrode would otherwise be all that a variance says."""
    window = torch.where(usable[:, :, None], window, 0.0).clamp(-FURTHEST_Z, FURTHEST_Z)
    by_channel = torch.cat([window.mean(dim=2), log_variance(window)], dim=1)
    moved = movements(window, usable, patterns)
    known = usable.repeat(1, by_channel.shape[1] // usable.shape[1])
    return torch.cat([by_channel, moved], dim=1), torch.cat([known, torch.ones_like(moved, dtype=torch.bool)], dim=1)


def _variance(values: Tensor) -> Tensor:
    return (values - values.mean(dim=2, keepdim=True)).square().mean(dim=2)
