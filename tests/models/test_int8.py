"""int8 where it costs nothing: a product stays float32 where its other side would round to nothing."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from models.export import export_onnx
from models.int8 import quantize_int8, wasted
from models.networks.masked_autoencoder import Encoder
from tests.models.bundles import encoder, probes, windows


def embedding(model: bytes) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    seen, usable = windows(16, seed=3)
    return np.concatenate(
        [
            session.run(["embedding"], {"window": w[None], "usable": u[None]})[0]
            for w, u in zip(seen, usable, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def one_far_beyond_the_rest() -> Encoder:
    """The same function, but one of the numbers that the first gated layer reads is 10 000 times as large, and what
    multiplies it as much smaller."""
    changed = copy.deepcopy(encoder())
    first = changed.blocks[0]
    with torch.no_grad():
        first.norm2.weight[0] *= 1e4
        first.mlp.gate_up.weight[:, 0] /= 1e4
    return changed


def test_all_products_by_weights_are_quantised_where_nothing_is_lost() -> None:
    model = export_onnx(encoder(), dict(probes()))
    assert wasted(model, *windows(8)) == []
    kinds = [node.op_type for node in onnx.load_from_string(quantize_int8(model, *windows(8))).graph.node]
    assert kinds.count("MatMulInteger") == 1 + 4 * encoder().config.depth
    assert "MatMul" not in kinds


def test_a_product_that_would_multiply_zeros_stays_exact(
    one_far_beyond_the_rest: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = export_onnx(one_far_beyond_the_rest, dict(probes()))
    plain = embedding(model)
    np.testing.assert_allclose(plain, embedding(export_onnx(encoder(), dict(probes()))), atol=1e-3)
    left = wasted(model, *windows(8))
    assert len(left) == 1
    quantised = quantize_int8(model, *windows(8))
    assert [node.name for node in onnx.load_from_string(quantised).graph.node if node.op_type == "MatMul"] == left
    monkeypatch.setattr("models.int8.NOTHING_LEFT", 1.0)
    blind = quantize_int8(model, *windows(8))
    off, off_blind = (np.abs(embedding(one) - plain).mean() for one in (quantised, blind))
    assert off < off_blind / 2
