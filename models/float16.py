"""A float32 model with float16 in its matrix products: half the file, and the tensor cores of a GPU.

Norms, softmax, sums and probes stay float32, as in the int8 file. ONNX Runtime has no float16 products for x86
processors: there it computes them in float32 of the rounded numbers, so that nothing is gained but the size.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PRODUCTS = ("MatMul", "Gemm")
LARGEST = float(np.finfo(np.float16).max)


def halve(model: bytes, exact: tuple[str, ...] = ()) -> bytes:
    """The same interface; weights and what they multiply are rounded to float16, but for nodes whose names begin with
    one of `exact`."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    weights = {one.name: one for one in graph.initializer}
    products = [node for node in graph.node if node.op_type in PRODUCTS and not node.name.startswith(exact)]
    others = {name for node in graph.node if node not in products for name in node.input}
    halved: dict[str, str] = {}  # float32 value -> its float16 one
    nodes = []
    for node in graph.node:
        if node not in products:
            nodes.append(node)
            continue
        for k, name in enumerate(node.input):
            if name not in halved:
                halved[name] = f"{name}_float16"
                if name in weights:
                    rounded = numpy_helper.to_array(weights[name]).clip(-LARGEST, LARGEST).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(rounded, halved[name]))
                else:
                    nodes.append(helper.make_node("Cast", [name], [halved[name]], to=TensorProto.FLOAT16))
            node.input[k] = halved[name]
        (out,) = node.output
        node.output[0] = f"{out}_product"
        nodes += [node, helper.make_node("Cast", [f"{out}_product"], [out], to=TensorProto.FLOAT)]
    kept = [one for one in graph.initializer if one.name not in halved or one.name in others]
    for field, values in ((graph.node, nodes), (graph.initializer, kept)):
        copies = [type(one).FromString(one.SerializeToString()) for one in values]  # clearing takes the originals
        del field[:]
        field.extend(copies)
    return bytes(proto.SerializeToString())
