"""The `paper` preset trains: one step of all 328 million weights, on any machine with 8 GB."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.networks.masked_autoencoder import PRESETS
from training.batches import Batch, assemble
from training.learner import Learner, learning_rate
from training.processes import launch
from training.settings import SETTINGS


class Noise:
    """A session of noise, as many windows as are asked for."""

    class header:
        name = "noise"

    def windows(self, first_bins: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(int(first_bins[0]))
        return rng.standard_normal((1, 96, length), np.float32), np.ones((1, 96), bool)


def batch(windows: int) -> Batch:
    rngs = (np.random.default_rng(k) for k in range(2))
    asked = [(k % 2, k) for k in range(windows)]
    return assemble([Noise(), Noise()], asked, PRESETS["paper"], SETTINGS["paper"], *rngs)  # type: ignore[list-item]


@pytest.mark.timeout(900)  # a minute or two on two idle cores
def test_a_step_in_micro_batches_moves_every_weight():
    settings = replace(SETTINGS["paper"], batch=2, micro_batch=1)
    learner = Learner(launch(settings, accelerator="cpu"), PRESETS["paper"], settings)
    before = {name: one.detach().flatten()[:64].clone() for name, one in learner.network.named_parameters()}
    losses, _ = learner.learn(batch(2), 0, learning_rate(0, settings))
    assert 0.9 < losses["training"] < 1.5  # of noise whose variance is 1, by a network that knows nothing
    assert 0.9 < losses["correlation"] < 1.1
    assert np.isfinite(losses["cross_session"])
    still = {name for name, one in learner.network.named_parameters() if torch.equal(one.flatten()[:64], before[name])}
    # rows of sessions that were not in the batch, and nothing else
    assert still <= {"reconstructor.sessions.weight"}
