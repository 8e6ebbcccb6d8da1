"""A float32 model with half precision in its matrix products and attentions: half the file, and a GPU's tensor cores.

float16 keeps eleven bits of a number, bfloat16 eight and float32's range. Norms, sums and probes stay float32, as in
the int8 file. ONNX Runtime has no products of either kind for x86 processors. Of float16 it computes them in float32
of the rounded numbers, so that nothing is gained but the size; a bfloat16 file it refuses. `emulate` spells out for it
what a GPU does with one: what is multiplied is rounded, summed in float32, and the result is rounded again.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

PRODUCTS = ("MatMul", "Gemm", "Attention")
LARGEST = float(np.finfo(np.float16).max)
Half = Literal["float16", "bfloat16"]
TYPES: dict[Half, int] = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def halve(model: bytes, exact: tuple[str, ...] = (), half: Half = "float16") -> bytes:
    """The same interface; weights and what they multiply are rounded to `half`, but for nodes whose names begin with
    one of `exact`. A mask of attention stays what it is."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    weights = {one.name: one for one in graph.initializer}
    products = [node.op_type in PRODUCTS and not node.name.startswith(exact) for node in graph.node]
    others = {name for node, one in zip(graph.node, products, strict=True) if not one for name in node.input}
    halved: dict[str, str] = {}  # float32 value -> its half one
    nodes: list[NodeProto] = []
    for node, one in zip(graph.node, products, strict=True):
        if not one:
            nodes.append(node)
            continue
        for k, name in enumerate(_multiplied(node)):
            if name not in halved:
                halved[name] = f"{name}_{half}"
                if name in weights:
                    graph.initializer.append(_rounded(numpy_helper.to_array(weights[name]), halved[name], half))
                else:
                    nodes.append(helper.make_node("Cast", [name], [halved[name]], to=TYPES[half]))
            node.input[k] = halved[name]
        (out,) = node.output
        node.output[0] = f"{out}_product"
        nodes += [node, helper.make_node("Cast", [f"{out}_product"], [out], to=TensorProto.FLOAT)]
    kept = [one for one in graph.initializer if one.name not in halved or one.name in others]
    return _rebuilt(proto, nodes, kept)


def emulate(model: bytes) -> bytes:
    """Of a bfloat16 model of `halve` one that a CPU runs: each product in float32, of the rounded numbers, and rounded.
    Sums may be of another order than a GPU's."""
    proto = onnx.load_from_string(model)
    widened: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        if node.op_type not in PRODUCTS or not node.output[0].endswith("_product"):
            nodes.append(node)
            continue
        for k, name in enumerate(_multiplied(node)):
            if name not in widened:
                widened[name] = f"{name}_widened"
                nodes.append(helper.make_node("Cast", [name], [widened[name]], to=TensorProto.FLOAT))
            node.input[k] = widened[name]
        (out,) = node.output
        node.output[0] = f"{out}_wide"
        nodes += [node, helper.make_node("Cast", [f"{out}_wide"], [out], to=TensorProto.BFLOAT16)]
    return _rebuilt(proto, nodes, list(proto.graph.initializer))


def _multiplied(node: NodeProto) -> list[str]:
    """Of attention queries, keys and values: what follows is its mask."""
    return list(node.input[:3] if node.op_type == "Attention" else node.input)


def _rounded(values: NDArray[np.float32], name: str, half: Half) -> TensorProto:
    if half == "float16":
        return numpy_helper.from_array(values.clip(-LARGEST, LARGEST).astype(np.float16), name)
    raw = np.ascontiguousarray(values, np.float32).view(np.uint32)
    nearest = (raw + 0x7FFF + (raw >> 16 & 1)) >> 16  # the upper half, ties to even
    return helper.make_tensor(name, TensorProto.BFLOAT16, values.shape, nearest.astype("<u2").tobytes(), raw=True)


def _rebuilt(proto: ModelProto, nodes: list[NodeProto], weights: list[TensorProto]) -> bytes:
    for field, values in ((proto.graph.node, nodes), (proto.graph.initializer, weights)):
        copies = [type(one).FromString(one.SerializeToString()) for one in values]  # clearing takes the originals
        del field[:]
        field.extend(copies)
    return bytes(proto.SerializeToString())
