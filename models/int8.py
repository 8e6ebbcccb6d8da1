"""The same model in int8: weights rounded once, activations scaled by the range of each window, products of both only.

A single range for all that a product multiplies is wasted where a few numbers are far beyond the rest: a step of it
is then larger than nearly all of them. The first gated layer of an encoder trained with Muon is of this kind (one
number of 66 among a median of 0.015): in int8 it moved every probability by 0.07, left in float32 by 0.002, for 0.2
ms. Such products are found by looking at windows and stay as they are. So does a learned pooling: it squares what the
encoder gives, and a square of noise is not nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.quiet import quiet
from models.runtime import ort

PRODUCTS = ("MatMul", "Gemm")
STEPS = 255  # of a range
NOTHING_LEFT = 0.9  # of the numbers, rounded to zero


def quantize_int8(
    model: bytes, windows: NDArray[np.float32], usable: NDArray[np.bool_], exact: tuple[str, ...] = ()
) -> bytes:
    """`windows` (n, channels, bins) and `usable` (n, channels) are what it is tried on; nodes whose names begin like
    one of `exact` stay float32."""
    proto = onnx.load_from_string(model)
    kept = [node.name for node in proto.graph.node if node.name.startswith(exact)] if exact else []
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "int8.onnx"
        quantize_dynamic(
            proto,
            target,
            op_types_to_quantize=list(PRODUCTS),
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*kept, *wasted(model, windows, usable)],
        )
        return target.read_bytes()


def wasted(model: bytes, windows: NDArray[np.float32], usable: NDArray[np.bool_]) -> list[str]:
    """Names of the products by weights whose other side would round to nothing."""
    proto = onnx.load_from_string(model)
    weights = {tensor.name for tensor in proto.graph.initializer}
    products = [node for node in proto.graph.node if node.op_type in PRODUCTS and node.input[1] in weights]
    names = sorted({node.input[0] for node in products} - {one.name for one in proto.graph.input})
    lost = dict(zip(names, map(_lost, _between(proto, names, windows, usable)), strict=True))
    return [node.name for node in products if lost.get(node.input[0], 0.0) > NOTHING_LEFT]


def _lost(values: NDArray[np.float32]) -> float:
    """Share of the numbers below half a step of their range."""
    return float((np.abs(values) < (values.max() - values.min()) / STEPS / 2).mean())


def _between(proto: ModelProto, names: list[str], windows: NDArray[np.float32], usable: NDArray[np.bool_]) -> Any:
    """What the model computes on the way, by name."""
    told = ModelProto()
    told.CopyFrom(proto)
    del told.graph.output[:]
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(told.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, {"window": windows, "usable": usable})
