"""An encoder of fewer electrodes is the encoder with the others lost, in torch and as a graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.export import FoldedProbe, export_onnx, reference
from models.networks.fewer_electrodes import FewerElectrodes, spread
from models.networks.masked_autoencoder import PRESETS, Encoder, build, pool
from models.runtime import ort

CHANNELS, BINS = 20, 128
KEPT = [1, 4, 5, 12, 19]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build(replace(PRESETS["nano"], channels=CHANNELS, bins=BINS)).encoder.eval()


def windows(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    usable = torch.from_numpy(rng.random((n, CHANNELS)) > 0.2)
    usable[:, KEPT[0]] = True
    return torch.from_numpy(rng.standard_normal((n, CHANNELS, BINS)).astype(np.float32)), usable


@torch.no_grad()
def test_it_is_the_encoder_with_the_others_lost(encoder: Encoder):
    window, usable = windows(6)
    only = torch.zeros(CHANNELS, dtype=torch.bool)
    only[KEPT] = True
    latents, visible = FewerElectrodes(encoder, KEPT).eval()(window, usable)
    every, seen = encoder(window, usable & only)
    assert latents.shape == (6, len(KEPT) * encoder.config.patches, encoder.config.width)
    assert torch.allclose(pool(latents, visible), pool(every, seen), atol=1e-5)


def test_the_graph_takes_the_whole_window(encoder: Encoder):
    fewer, probes = FewerElectrodes(encoder, KEPT).eval(), {"prestimulus": FoldedProbe(np.ones(64), 0.1)}
    window, usable = (one.numpy() for one in windows(3))
    session = ort.InferenceSession(export_onnx(fewer, probes), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [CHANNELS, BINS]
    expected = reference(fewer, probes, window, usable)
    found = session.run(["embedding", "prestimulus"], {"window": window, "usable": usable})
    assert np.allclose(found[0], expected["embedding"], atol=1e-5)
    assert np.allclose(found[1], expected["prestimulus"], atol=1e-5)


def test_spread_leaves_nobody_far_away():
    grid = np.array([(x, y) for x in range(10) for y in range(10)], float)
    rng = np.random.default_rng(0)

    def farthest(chosen) -> float:
        return float(np.sqrt(np.square(grid[:, None] - grid[chosen]).sum(axis=2)).min(axis=1).max())

    for n in (1, 4, 25, 50, 100):
        chosen = spread(grid, n)
        assert len(set(chosen)) == n
        assert chosen == sorted(chosen)
        if 1 < n < 100:
            assert farthest(chosen) <= np.median([farthest(rng.choice(100, n, replace=False)) for _ in range(50)])
    for n in (0, 101):
        with pytest.raises(ValueError, match="expected 1 to 100"):
            spread(grid, n)
