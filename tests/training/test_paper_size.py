"""The `paper` preset trains: one step of all 328 million weights, on any machine with 8 GB."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.networks.masked_autoencoder import PRESETS
from training.learner import Learner
from training.processes import launch
from training.settings import SETTINGS
from training.step_time import noise_batch, step_time


@pytest.mark.timeout(900)  # a minute or two on two idle cores
def test_a_step_in_micro_batches_moves_every_weight():
    settings = replace(SETTINGS["paper"], batch=2, micro_batch=1)
    learner = Learner(launch(settings, accelerator="cpu"), PRESETS["paper"], settings)
    before = {name: one.detach().flatten()[:64].clone() for name, one in learner.network.named_parameters()}
    losses, _ = learner.learn(noise_batch("paper", 2), 0, settings.rate)
    assert 0.9 < losses["training"] < 1.5  # of noise whose variance is 1, by a network that knows nothing
    assert 0.9 < losses["correlation"] < 1.1
    assert np.isfinite(losses["cross_session"])
    still = {name for name, one in learner.network.named_parameters() if torch.equal(one.flatten()[:64], before[name])}
    # rows of sessions that were not in the batch, and nothing else
    assert still <= {"reconstructor.sessions.weight"}


def test_a_step_is_timed_and_its_work_counted():
    found = step_time("nano", 0.0, accelerator="cpu")
    assert found["steps"] == 1
    assert found["device"] == "cpu"
    assert found["windows_a_second"] == pytest.approx(SETTINGS["nano"].batch / found["seconds_a_step"])
    assert 0 < found["share_of_one_large_product"] < 1
    assert found["days_for_a_million_steps"] == pytest.approx(found["seconds_a_step"] * 1e6 / 86_400)


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_a_gpu_trains_the_papers_size():
    found = step_time("paper", 20.0, accelerator="cuda")
    assert found["device"] != "cpu"
    assert found["steps"] >= 2
    assert found["memory_gb"] > 328e6 * 16 / 1e9  # weights, gradients and AdamW's two moments
