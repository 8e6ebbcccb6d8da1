"""Losses against NumPy, and the laws that masks must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.losses import CORRELATED, correlation, moving, reconstruction


@pytest.fixture
def signals() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return tuple(torch.from_numpy(rng.standard_normal((3, 5, 32)).astype(np.float32)) for _ in range(2))


@pytest.fixture
def usable() -> torch.Tensor:
    usable = torch.ones(3, 5, dtype=torch.bool)
    usable[1, 3] = False
    return usable


@pytest.fixture
def masked(usable: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).random((3, 5, 4)) < 0.6) & usable[:, :, None]


def test_reconstruction_is_the_mean_over_masked_patches(signals, masked):
    rebuilt, window = signals
    error = ((rebuilt - window) ** 2).view(3, 5, 4, 8).mean(-1).numpy()
    assert float(reconstruction(rebuilt, window, masked)) == pytest.approx(error[masked.numpy()].mean(), rel=1e-6)


def test_correlation_is_pearsons(signals, usable, masked):
    rebuilt, window = signals
    mask = masked.numpy().repeat(8, axis=-1)
    expected = {
        "channel": [np.corrcoef(rebuilt[b, c], window[b, c])[0, 1] for b, c in np.argwhere(usable.numpy())],
        "masked": [
            np.corrcoef(rebuilt[b, c][mask[b, c]], window[b, c][mask[b, c]])[0, 1]
            for b, c in np.argwhere(masked.any(-1).numpy())
        ],
        "window": [np.corrcoef(rebuilt[b, usable[b]].ravel(), window[b, usable[b]].ravel())[0, 1] for b in range(3)],
    }
    assert expected.keys() == set(CORRELATED)
    for over, values in expected.items():
        found = correlation(rebuilt, window, usable, masked, over)
        assert float(found) == pytest.approx(1 - np.mean(values), abs=1e-5), over
        assert int(moving(window, usable, masked, over).sum()) == len(values)


@pytest.mark.parametrize("over", CORRELATED)
def test_unusable_channels_and_garbage_in_them_do_not_count(signals, over: str):
    rebuilt, window = signals
    rebuilt.requires_grad_()
    usable = torch.ones(3, 5, dtype=torch.bool)
    usable[:, 2] = False
    masked = usable[:, :, None].expand(3, 5, 4)
    spoiled = window.clone()
    spoiled[:, 2] = torch.nan
    losses = (
        lambda window: reconstruction(rebuilt, window, masked),
        lambda window: correlation(rebuilt, window, usable, masked, over),
    )
    for loss in losses:
        value = loss(spoiled)
        assert value.item() == pytest.approx(loss(window).item())
        (gradient,) = torch.autograd.grad(value, rebuilt)
        assert gradient.isfinite().all()
        assert not gradient[:, 2].any()


@pytest.mark.parametrize("over", CORRELATED)
def test_pieces_add_up_to_the_whole(signals, usable, masked, over: str):
    rebuilt, window = signals
    patches, count = masked.sum(), moving(window, usable, masked, over).sum()
    pieces = [slice(0, 1), slice(1, 3)]
    cut = sum(reconstruction(rebuilt[p], window[p], masked[p], patches) for p in pieces)
    assert float(cut) == pytest.approx(float(reconstruction(rebuilt, window, masked)), rel=1e-6)
    cut = sum(correlation(rebuilt[p], window[p], usable[p], masked[p], over, count) for p in pieces)
    assert float(cut) == pytest.approx(float(correlation(rebuilt, window, usable, masked, over)), rel=1e-6)


@pytest.mark.parametrize("over", CORRELATED)
def test_a_still_channel_and_a_constant_reconstruction_are_finite(over: str):
    flat = torch.zeros(2, 3, 32, requires_grad=True)
    usable, masked = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 3, 4, dtype=torch.bool)
    for window, expected in ((torch.zeros(2, 3, 32), 0.0), (torch.randn(2, 3, 32), 1.0)):
        loss = correlation(flat, window, usable, masked, over)  # what stands still can correlate with nothing
        (gradient,) = torch.autograd.grad(loss, flat)
        assert loss.item() == pytest.approx(expected)
        assert gradient.isfinite().all()


def test_with_nothing_to_rebuild_losses_are_zero(signals):
    rebuilt, window = signals
    usable, masked = torch.zeros(3, 5, dtype=torch.bool), torch.zeros(3, 5, 4, dtype=torch.bool)
    assert float(reconstruction(rebuilt, window, masked)) == 0
    assert float(correlation(rebuilt, window, usable, masked)) == 0
