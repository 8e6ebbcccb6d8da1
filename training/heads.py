"""New probes on a frozen encoder: the ONNX graph up to the embedding stays as it is, what follows is replaced.

A probe is a weight vector and a bias in front of a sigmoid (models/export.py): no exporter is needed, and no torch.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

EMBEDDING = "embedding"
AXIS = "probes_axis"
Heads = dict[str, tuple[NDArray[np.float64], float]]  # name -> weight (D,), bias


def weights_of(model: bytes) -> dict[str, NDArray[np.float64]]:
    """The weight vector of each probe in a model of ours, by which a new one may be anchored."""
    graph = onnx.load_from_string(model).graph
    named = {f"{output.name}_weight": output.name for output in graph.output if output.name != EMBEDDING}
    return {
        named[one.name]: numpy_helper.to_array(one).astype(np.float64) for one in graph.initializer if one.name in named
    }


def replace_heads(model: bytes, heads: Heads) -> bytes:
    """The model with these probes and no others: probability = sigmoid(weight . embedding + bias), float32."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    (embedding,) = (output for output in graph.output if output.name == EMBEDDING)
    nodes, needed = [], {EMBEDDING}
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    initializers = [one for one in graph.initializer if one.name in needed]
    infos = [one for one in graph.value_info if one.name in needed]
    outputs = [embedding]
    nodes.reverse()
    initializers.append(numpy_helper.from_array(np.array([1], np.int64), AXIS))
    batch = embedding.type.tensor_type.shape.dim[0]
    for name, (weight, bias) in heads.items():
        weights, offset, product, total, score = (f"{name}_{what}" for what in ("weight", "bias", "xw", "sum", "score"))
        initializers.append(numpy_helper.from_array(np.asarray(weight, np.float32), weights))
        initializers.append(numpy_helper.from_array(np.asarray(bias, np.float32), offset))
        nodes += [
            helper.make_node("Mul", [EMBEDDING, weights], [product]),
            helper.make_node("ReduceSum", [product, AXIS], [total], keepdims=0),
            helper.make_node("Add", [total, offset], [score]),
            helper.make_node("Sigmoid", [score], [name]),
        ]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch.dim_param or None]))
    fields = (("node", nodes), ("initializer", initializers), ("value_info", infos), ("output", outputs))
    for field, kept in fields:
        kept = [type(one).FromString(one.SerializeToString()) for one in kept]  # clearing takes the originals with it
        del getattr(graph, field)[:]
        getattr(graph, field).extend(kept)
    return proto.SerializeToString()
