"""What pretraining minimises: error on the masked patches, and lack of correlation over each channel's window."""

from __future__ import annotations

import torch
from torch import Tensor


def reconstruction(rebuilt: Tensor, window: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error over the masked patches. The target keeps its level, which carries the state.

    Args:
        rebuilt, window: (batch, channels, bins).
        masked: (batch, channels, patches) bool; unusable channels are never masked, so never count.
    """
    batch, channels, patches = masked.shape
    error = (rebuilt - torch.where(masked.any(-1, keepdim=True), window, 0.0)).square()
    per_patch = error.view(batch, channels, patches, -1).mean(dim=-1)
    return torch.where(masked, per_patch, 0.0).sum() / masked.sum()


def correlation(rebuilt: Tensor, window: Tensor, usable: Tensor) -> Tensor:
    """1 - mean Pearson correlation over bins, of every usable channel that moves at all, masked or not.

    Args:
        rebuilt, window: (batch, channels, bins).
        usable: (batch, channels) bool.
    """
    window = torch.where(usable[:, :, None], window, 0.0)
    x, y = (signal.float() - signal.float().mean(dim=-1, keepdim=True) for signal in (rebuilt, window))
    floor = 1e-6 * window.shape[-1]
    r = (x * y).sum(-1) / ((x.square().sum(-1) + floor) * (y.square().sum(-1) + floor)).sqrt()
    counted = usable & (y.square().mean(-1) > 1e-6)
    return 1 - torch.where(counted, r, 0.0).sum() / counted.sum().clamp(min=1)
