"""Does an ONNX file carry all its weights itself? Asked before the runtime sees it.

A tensor in an ONNX file may point at another file ("external data"), and ONNX Runtime then reads that file, even for a
model loaded from bytes and even from inside a sparse constant. A bundle is hashed file by file, so a model that reads
anything else is refused. The check walks the protobuf wire format itself, along the few fields that can hold a tensor,
so that serving needs no `onnx` package.
"""

from __future__ import annotations

from collections.abc import Iterator

from models.errors import BundleFault

# message -> {field number: message it holds}, the ways from ModelProto to TensorProto in onnx.proto
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto; data_location 0 is "inside this file"
_DEEPEST = 64  # nested graphs; a real encoder has 1


def refuse_external_data(model: bytes, where: str) -> None:
    """
    Raises:
        BundleFault: a tensor anywhere in `model` lies in another file, or the bytes are not an ONNX model.
    """
    try:
        external = _has_external(memoryview(model), "Model", 0)
    except (IndexError, ValueError) as error:
        raise BundleFault(f"{where} is not a readable ONNX model: {error}; export the bundle again") from error
    if external:
        raise BundleFault(f"{where} keeps tensors in other files, expected all inside; export it as one file")


def _has_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError(f"graphs nested deeper than {_DEEPEST}")
    for field, value in _fields(message):
        if kind == "Tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)):
            return True
        child = _CHILDREN[kind].get(field)
        if child is None:
            continue
        if not isinstance(value, memoryview):
            raise ValueError(f"field {field} of {kind} is not a message")
        if _has_external(value, child, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field number and value: an int for varints, bytes for everything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield field, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("cut short")
        yield field, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
