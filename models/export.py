"""Encoder and probes to ONNX: a self-contained float32 file; large weights in a file of their own.

Opset 23 keeps RMSNormalization and Attention as single operators (8 % faster than their decomposition). A probe is a
scaler, a logistic regression and Platt's calibration; all three are affine in the embedding up to the last sigmoid, so
they fold into one weight vector per probe. It is multiplied and summed, not a MatMul, and so stays float32 in the int8
file (int8.py), as the nodes of a learned pooling do, told by their names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.external_data_helper import set_external_data
from torch import Tensor, nn

from models.networks.fewer_electrodes import Reader
from models.networks.slow_pooling import Embedder, Slow
from models.quiet import quiet

OPSET = 23
LARGE_TENSOR, ALIGNED = 8192, 64  # bytes; what is smaller, probes too, stays in the model
IN_POOLING = "pooling/"  # begins the names of the nodes that stay float32


@dataclass(frozen=True, slots=True)
class FoldedProbe:
    """probability = sigmoid(weight . embedding + bias)."""

    weight: NDArray[np.float64]
    bias: float


class LiveModel(nn.Module):
    """What runs live: window and usable channels to embedding and probabilities, in the order of `probes`."""

    def __init__(self, encoder: Reader, probes: dict[str, FoldedProbe], slow: Slow | None = None) -> None:
        super().__init__()
        self.embedder = Embedder(encoder, slow)
        self.names = tuple(probes)
        for name, probe in probes.items():
            self.register_buffer(f"{name}_weight", torch.tensor(probe.weight, dtype=torch.float32))
            self.register_buffer(f"{name}_bias", torch.tensor(probe.bias, dtype=torch.float32))

    def forward(self, window: Tensor, usable: Tensor) -> tuple[Tensor, ...]:
        embedding = self.embedder(window, usable)
        # an int8 product has no NaN, so what came in is looked at once more
        total = torch.where(usable[:, :, None], window, 0.0).sum(dim=(1, 2))
        embedding = torch.where((total - total == 0)[:, None], embedding, torch.nan)
        readouts = ((getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")) for name in self.names)
        return embedding, *(torch.sigmoid((embedding * weight).sum(dim=1) + bias) for weight, bias in readouts)


def export_onnx(encoder: Reader, probes: dict[str, FoldedProbe], slow: Slow | None = None) -> bytes:
    """The float32 model with a dynamic batch."""
    model = LiveModel(encoder, probes, slow).eval()
    config = encoder.config
    example = (torch.zeros(2, encoder.reads, config.bins), torch.ones(2, encoder.reads, dtype=torch.bool))
    batch = torch.export.Dim("batch", min=1, max=4096)
    with quiet():
        program = torch.onnx.export(
            model,
            example,
            input_names=["window", "usable"],
            output_names=["embedding", *probes],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch}),
            verbose=False,
        )
    proto = program.model_proto
    del proto.graph.value_info[:]  # shapes of intermediate values: the quantiser chokes on them, nobody else reads them
    proto.doc_string = ""
    for node in proto.graph.node:
        if any(one.key == "namespace" and "SlowPooling" in one.value for one in node.metadata_props):
            node.name = IN_POOLING + node.name
    for node in proto.graph.node:  # stack traces of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    return proto.SerializeToString()


def split_weights(model: bytes, file: str) -> tuple[bytes, bytes]:
    """The same model with the weights of its main graph in a file of this name, and what that file holds."""
    proto, parts, at = onnx.load_from_string(model), [], 0
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) < LARGE_TENSOR:
            continue
        parts.append(tensor.raw_data + bytes(-len(tensor.raw_data) % ALIGNED))
        set_external_data(tensor, file, at, len(tensor.raw_data))
        tensor.ClearField("raw_data")
        at += len(parts[-1])
    return proto.SerializeToString(), b"".join(parts)


@torch.no_grad()
def reference(
    encoder: Reader,
    probes: dict[str, FoldedProbe],
    windows: NDArray[np.float32],
    usable: NDArray[np.bool_],
    slow: Slow | None = None,
) -> dict[str, NDArray[np.float32]]:
    """What torch gives for the same windows: the golden outputs."""
    model = LiveModel(encoder, probes, slow).eval()
    outputs = model(torch.from_numpy(windows), torch.from_numpy(usable))
    return {name: value.numpy() for name, value in zip(("embedding", *probes), outputs, strict=True)}
