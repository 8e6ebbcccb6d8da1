"""What pretraining minimises over a window: error on the masked patches, and lack of correlation with the signal.

Both are means over a batch. Where a batch is cut over micro-batches and processes, each piece divides its sum by the
`total` of the whole, so that the pieces add up to what the whole batch would have given.
"""

from __future__ import annotations

import torch
from torch import Tensor

CORRELATED = ("channel", "masked", "window")  # over what a correlation is taken, see `correlation`


def reconstruction(rebuilt: Tensor, window: Tensor, masked: Tensor, total: Tensor | None = None) -> Tensor:
    """Mean squared error over the masked patches. The target keeps its level, which carries the state.

    Args:
        rebuilt, window: (batch, channels, bins).
        masked: (batch, channels, patches) bool; unusable channels are never masked, so never count.
        total: masked patches of the whole batch, where this is a piece of one.
    """
    batch, channels, patches = masked.shape
    error = (rebuilt.float() - torch.where(masked.any(-1, keepdim=True), window, 0.0)).square()
    per_patch = error.view(batch, channels, patches, -1).mean(dim=-1)
    return torch.where(masked, per_patch, 0.0).sum() / (masked.sum() if total is None else total).clamp(min=1)


def correlation(
    rebuilt: Tensor, window: Tensor, usable: Tensor, masked: Tensor, over: str = "channel", total: Tensor | None = None
) -> Tensor:
    """1 - mean Pearson correlation of every signal that moves at all.

    Args:
        rebuilt, window: (batch, channels, bins).
        usable: (batch, channels) bool.
        masked: (batch, channels, patches) bool.
        over: a signal is a usable "channel" over all bins of its window, its "masked" bins alone, or all usable
            channels and bins of a "window" in one.
        total: moving signals of the whole batch (`moving`), where this is a piece of one.
    """
    x, y = (_signals(one, over) for one in (rebuilt, window))
    weight = _signals(_counted(window, usable, masked, over), over)
    x, y = (_centred(one, weight) for one in (x, y))
    floor = 1e-6 * x.shape[-1]
    r = (x * y).sum(-1) / ((x.square().sum(-1) + floor) * (y.square().sum(-1) + floor)).sqrt()
    moves = _moves(y, weight)
    return torch.where(moves, 1 - r, 0.0).sum() / (moves.sum() if total is None else total).clamp(min=1)


def moving(window: Tensor, usable: Tensor, masked: Tensor, over: str = "channel") -> Tensor:
    """Which signals `correlation` counts, (batch, channels) or (batch, 1): those that do not stand still."""
    weight = _signals(_counted(window, usable, masked, over), over)
    return _moves(_centred(_signals(window, over), weight), weight)


def _counted(window: Tensor, usable: Tensor, masked: Tensor, over: str) -> Tensor:
    """(batch, channels, bins) bool: what a signal consists of."""
    if over == "masked":
        return masked.repeat_interleave(window.shape[-1] // masked.shape[-1], dim=-1)
    return usable[:, :, None].expand_as(window)


def _signals(values: Tensor, over: str) -> Tensor:
    return values.flatten(1)[:, None] if over == "window" else values


def _centred(values: Tensor, weight: Tensor) -> Tensor:
    """float32, 0 outside of `weight`, mean 0 inside."""
    values = torch.where(weight, values.float(), 0.0)
    mean = values.sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(weight, values - mean, 0.0)


def _moves(centred: Tensor, weight: Tensor) -> Tensor:
    return centred.square().sum(-1) > 1e-6 * weight.sum(-1).clamp(min=1)
