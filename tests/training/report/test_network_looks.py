"""Saliency and reconstructions of networks whose answers are known."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.networks.masked_autoencoder import PRESETS, build
from training.report.rebuilt import Rebuilt, load_autoencoder, rebuild, scored
from training.report.saliency import gradient_times_input, occlusion, saliency

RNG = np.random.default_rng(0)
N, CHANNELS, BINS = 120, 24, 16
WEIGHT = torch.zeros(CHANNELS)
WEIGHT[[3, 7, 11]] = torch.tensor([6.0, -3.0, 1.5])


def linear(windows: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
    """Log odds that rest on three electrodes' means."""
    return (torch.where(usable, windows.mean(dim=2), 0.0) * WEIGHT).sum(dim=1)


WINDOWS = RNG.standard_normal((N, CHANNELS, BINS)).astype(np.float32) + RNG.standard_normal((N, CHANNELS, 1)).astype(
    np.float32
)
USABLE = np.ones((N, CHANNELS), bool)
USABLE[::5, 3] = False


def test_both_ways_give_a_linear_readout_its_terms():
    terms = np.where(USABLE, WINDOWS.mean(axis=2), 0) * WEIGHT.numpy()
    assert np.allclose(gradient_times_input(linear, WINDOWS, USABLE), terms, atol=1e-5)
    assert np.allclose(occlusion(linear, WINDOWS, USABLE), terms, atol=1e-5)


def test_the_map_names_the_electrodes_that_decide_and_their_loss_proves_it():
    odds = linear(torch.from_numpy(WINDOWS), torch.from_numpy(USABLE)).numpy()
    perceived = RNG.random(N) < 1 / (1 + np.exp(-odds))
    found = saliency(linear, WINDOWS, USABLE, perceived, occluded=10)
    assert np.argsort(-found.by_electrode)[:3].tolist() == [3, 7, 11]
    assert set(np.flatnonzero(found.by_electrode)) == {3, 7, 11} == set(np.flatnonzero(found.occluded))
    assert found.numbers["agreement"] > 0.99
    assert found.numbers["share_of_top"] == pytest.approx(1)
    auc = {name: one["value"] for name, one in found.numbers["auc_without"].items()}
    assert auc["none"] == auc["least"] > 0.85
    assert auc["most"] == 0.5
    assert found.numbers["removed"] == CHANNELS // 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = replace(PRESETS["nano"], channels=CHANNELS, bins=BINS, patch_bins=4, sessions=2)
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("checkpoint") / "best.safetensors"
    about = {"network": asdict(config), "training": {}, "sessions": {}}
    save_file(build(config).state_dict(), file, metadata={"json": json.dumps(about)})
    return file


def test_three_quarters_are_hidden_and_what_is_hidden_is_not_looked_at(checkpoint: Path):
    network = load_autoencoder(checkpoint)
    found = rebuild(network, WINDOWS[:8], USABLE[:8])
    assert found.masked.shape == (8, CHANNELS, 4)
    assert (~found.masked & USABLE[:8, :, None]).sum(axis=(1, 2)).tolist() == [CHANNELS * 4 // 4] * 8
    assert not found.masked[0, 3].any()  # unusable: nothing to rebuild
    changed = WINDOWS[:8] + 100 * found.masked.repeat(4, axis=2)
    assert np.array_equal(rebuild(network, changed.astype(np.float32), USABLE[:8]).rebuilt, found.rebuilt)


def test_scores_of_reconstructions_whose_error_is_known():
    window = np.broadcast_to(np.linspace(-1, 1, BINS, dtype=np.float32), (40, CHANNELS, BINS)).copy()
    masked = RNG.random((40, CHANNELS, 4)) < 0.5
    masked[:, :, [0, 3]] = False
    found = scored(Rebuilt(window, masked, window + 0.1))
    hidden = masked.repeat(4, axis=2)
    assert found["mse"]["network"] == pytest.approx(0.01, rel=1e-3)
    assert found["mse"]["rest"] == pytest.approx(np.mean(window[hidden] ** 2), rel=1e-5)
    assert found["mse"]["line"] == pytest.approx(0, abs=1e-6)  # every channel is one
    assert found["mse"]["neighbours"] == pytest.approx(0, abs=1e-6)  # and they are all alike
    assert found["correlation"] == pytest.approx(1)
    assert found["masked_bins"] == hidden.sum()
    noise = RNG.standard_normal(window.shape).astype(np.float32)
    of_noise = scored(Rebuilt(noise, masked, np.zeros_like(noise) + 1e-3 * noise))["mse"]
    assert of_noise["line"] > of_noise["neighbours"] > 0.9 * of_noise["rest"]
