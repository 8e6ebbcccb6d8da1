"""Losses against NumPy, and the laws that masks must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.losses import correlation, reconstruction


@pytest.fixture
def signals() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return tuple(torch.from_numpy(rng.standard_normal((3, 5, 32)).astype(np.float32)) for _ in range(2))


def test_reconstruction_is_the_mean_over_masked_patches(signals):
    rebuilt, window = signals
    masked = torch.from_numpy(np.random.default_rng(1).random((3, 5, 4)) < 0.6)
    error = ((rebuilt - window) ** 2).view(3, 5, 4, 8).mean(-1).numpy()
    assert float(reconstruction(rebuilt, window, masked)) == pytest.approx(error[masked.numpy()].mean(), rel=1e-6)


def test_correlation_is_pearsons(signals):
    rebuilt, window = signals
    usable = torch.ones(3, 5, dtype=torch.bool)
    usable[1, 3] = False
    expected = [np.corrcoef(rebuilt[b, c], window[b, c])[0, 1] for b, c in np.argwhere(usable.numpy())]
    assert float(correlation(rebuilt, window, usable)) == pytest.approx(1 - np.mean(expected), abs=1e-5)


def test_unusable_channels_and_garbage_in_them_do_not_count(signals):
    rebuilt, window = signals
    rebuilt.requires_grad_()
    usable = torch.ones(3, 5, dtype=torch.bool)
    usable[:, 2] = False
    masked = usable[:, :, None].expand(3, 5, 4)
    spoiled = window.clone()
    spoiled[:, 2] = torch.nan
    for loss, chosen in ((reconstruction, masked), (correlation, usable)):
        value = loss(rebuilt, spoiled, chosen)
        assert value.item() == pytest.approx(loss(rebuilt, window, chosen).item())
        (gradient,) = torch.autograd.grad(value, rebuilt)
        assert gradient.isfinite().all()
        assert not gradient[:, 2].any()


def test_a_still_channel_and_a_constant_reconstruction_are_finite():
    flat = torch.zeros(2, 3, 32, requires_grad=True)
    usable = torch.ones(2, 3, dtype=torch.bool)
    for window in (torch.zeros(2, 3, 32), torch.randn(2, 3, 32)):
        loss = correlation(flat, window, usable)
        (gradient,) = torch.autograd.grad(loss, flat)
        assert loss.item() == pytest.approx(1.0)
        assert gradient.isfinite().all()
