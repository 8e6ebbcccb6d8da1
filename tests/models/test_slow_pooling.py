"""Slow directions of pooled tokens: what is learned from rest, and the same as a graph, however few channels work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from models.export import IN_POOLING, FoldedProbe, export_onnx, reference
from models.half import halve
from models.int8 import quantize_int8
from models.networks.masked_autoencoder import PRESETS, Encoder, build, pool
from models.networks.slow_pooling import Embedder, Slow
from models.runtime import ort
from training.evaluation.slow import SlowMap
from training.readout import balanced_accuracy, fit
from training.resting import Pairs
from training.slow_pooling import learn, steady

CHANNELS, BINS, KEPT, READ = 32, 128, 2, 4  # slow directions of the tokens and of the window's statistics; of both
ROWS = np.arange(600), np.arange(600, 1200)  # of the windows of pairs
PROBES = {"prestimulus": FoldedProbe(np.pad([1.5, -0.5, 0.7, 0.3], (0, 64)), 0.2)}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build(replace(PRESETS["nano"], channels=CHANNELS, bins=BINS)).encoder.eval()


def windows(size: np.ndarray, seed: int) -> np.ndarray:
    """A rhythm of this size in each window, over noise; its phase says nothing."""
    rng, place = np.random.default_rng(seed), np.random.default_rng(99).standard_normal(CHANNELS)
    phase = rng.uniform(0, 2 * np.pi, len(size))[:, None] + 2 * np.pi * 25 * np.arange(BINS) / 1000
    noise = rng.standard_normal((len(size), CHANNELS, BINS))
    return (size[:, None, None] * place[:, None] * np.cos(phase)[:, None] + noise).astype(np.float32)


@pytest.fixture(scope="module")
def slow(encoder: Encoder) -> Slow:
    """Of pairs of windows whose rhythm has one size in both."""
    size = np.exp(0.5 * np.random.default_rng(1).standard_normal(600))
    first, second = (windows(size, seed).astype(np.float16) for seed in (2, 3))
    usable, session = np.ones((1200, CHANNELS), bool), np.tile(np.repeat([0, 1], 300), 2)
    return learn(encoder, Pairs(np.concatenate([first, second]), usable, session, *ROWS), KEPT)


def embedded(encoder: Encoder, slow: Slow, seen: np.ndarray, usable: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Embedder(encoder, slow).eval()(torch.from_numpy(seen), torch.from_numpy(usable)).numpy()


def test_the_slow_direction_is_the_size_of_the_rhythm_and_the_mean_follows(encoder: Encoder, slow: Slow):
    size, usable = np.exp(0.5 * np.random.default_rng(4).standard_normal(200)), np.ones((200, CHANNELS), bool)
    seen = windows(size, 5)
    found = embedded(encoder, slow, seen, usable)
    assert found.shape == (200, READ + encoder.config.width)
    for first in (0, KEPT):  # of the tokens, and of the window's statistics
        assert abs(np.corrcoef(found[:, first], np.log(size))[0, 1]) > 0.85
    with torch.no_grad():
        mean = pool(*encoder(torch.from_numpy(seen), torch.from_numpy(usable)))
    assert np.allclose(found[:, READ:], mean, atol=1e-6)


def test_electrodes_that_are_lost_cost_little(encoder: Encoder, slow: Slow):
    """Three of 32 random ones, about as many as ten of 96, others in each window; learned with all."""
    rng = np.random.default_rng(6)
    state = rng.standard_normal(3000)
    told, seen = rng.random(3000) < 1 / (1 + np.exp(-3 * state)), windows(np.exp(0.5 * state), 7)
    usable = np.ones((3000, CHANNELS), bool)
    whole = embedded(encoder, slow, seen, usable)[:, :READ].astype(np.float64)
    np.put_along_axis(usable, np.argsort(rng.random(usable.shape), axis=1)[:, :3], False, axis=1)
    seen[~usable] = np.nan
    less = embedded(encoder, slow, seen, usable)[:, :READ].astype(np.float64)
    readout, test = fit(whole[:1000], told[:1000]), slice(1000, None)
    accuracy, without = (
        balanced_accuracy(told[test], readout.probability(one[test]) > readout.prevalence) for one in (whole, less)
    )
    assert accuracy > 0.7
    assert accuracy - without < 0.02


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_the_graph_gives_what_torch_gives(encoder: Encoder, slow: Slow, precision: str):
    seen, usable = windows(np.linspace(0.2, 3, 8), 8), np.ones((8, CHANNELS), bool)
    usable[1, :5] = False
    seen[1, :5] = np.nan  # of channels that are not usable nothing is read
    usable[2] = False
    seen[3, 0, 7] = np.nan  # of a usable one it makes everything unknown
    model = export_onnx(encoder, PROBES, slow)
    if precision != "float32":
        model = (
            quantize_int8(model, seen[4:], usable[4:], (IN_POOLING,))
            if precision == "int8"
            else halve(model, (IN_POOLING,))
        )
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = reference(encoder, PROBES, seen, usable, slow)
    names = ["embedding", "prestimulus"]
    found = {name: [] for name in names}
    for window, mask in zip(seen, usable, strict=True):
        for name, value in zip(names, session.run(names, {"window": window[None], "usable": mask[None]}), strict=True):
            found[name].append(value[0])
    for name in names:
        value, truth = np.array(found[name]), expected[name]
        assert np.array_equal(np.isnan(value), np.isnan(truth))
        assert np.isnan(value[[2, 3]]).all()
        assert np.isfinite(np.delete(value, [2, 3], axis=0)).all()
        scale = np.nanmax(np.abs(truth))
        assert np.nanmax(np.abs(value - truth)) < {"float32": 1e-5, "float16": 0.01, "int8": 0.05}[precision] * scale


def test_what_is_pooled_stays_float32(encoder: Encoder, slow: Slow):
    tried = windows(np.linspace(0.2, 3, 8), 8), np.ones((8, CHANNELS), bool)
    graph = onnx.load_from_string(quantize_int8(export_onnx(encoder, PROBES, slow), *tried, (IN_POOLING,))).graph
    kinds = {"quantised": 0, "exact": 0}
    for node in graph.node:
        if "MatMul" in node.op_type:
            kinds["exact" if node.name.startswith(IN_POOLING) else "quantised"] += 1
            assert node.op_type == ("MatMul" if node.name.startswith(IN_POOLING) else "MatMulInteger")
    assert kinds == {"quantised": 1 + 4 * encoder.config.depth, "exact": 21}
    half = onnx.load_from_string(halve(export_onnx(encoder, PROBES, slow), (IN_POOLING,))).graph
    rounded = {value for node in half.node if node.op_type == "Cast" for value in node.output}
    products = [node for node in half.node if node.op_type == "MatMul"]
    assert len(products) == 22 + 4 * encoder.config.depth
    for node in products:
        assert node.name.startswith(IN_POOLING) == rounded.isdisjoint(node.input)


def test_few_noisy_pairs_are_shrunk_until_what_is_slow_stays_so():
    """One slow number among 300 that are noise, in 450 pairs: unshrunk, the directions are slow only where they were
    learned."""
    rng, session = np.random.default_rng(10), np.repeat(np.arange(9), 100)
    state, place = rng.standard_normal(900), rng.standard_normal(300) / np.sqrt(300)
    first, second = (2 * state[:, None] * place + rng.standard_normal((900, 300)) for _ in range(2))
    learned, new = slice(0, 450), slice(450, None)
    plain = SlowMap.learned(first[learned], second[learned], session[learned])
    rows = np.arange(450)
    known = Pairs(np.empty(0), np.empty(0), np.tile(session[learned], 2), rows, rows + 450)
    found = steady(np.concatenate([first[learned], second[learned]]), known)
    told = [abs(np.corrcoef(one(first[new])[:, 0], state[new])[0, 1]) for one in (plain, found)]
    assert told[0] < 0.5 < told[1]
