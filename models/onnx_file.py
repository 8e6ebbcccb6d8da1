"""Where do the tensors of an ONNX file lie, and whose are its operators? Asked before the runtime sees it.

A tensor in an ONNX file may point at another file ("external data"), and ONNX Runtime then reads that file, even for a
model loaded from bytes and even from inside a sparse constant. A bundle is hashed file by file, so a model that reads
anything but the one file of weights that the bundle names for it is refused. The check walks the protobuf wire format
itself, along the few fields that can hold a tensor, so that serving needs no `onnx` package.

An operator of another domain than ONNX's own would come out of a library that somebody loads, or is one of the
runtime's private ones, of which some (EPContext) name files too. Our exports need neither.
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
_INITIALIZER = ("Model", "Graph", "Tensor")
_KEYS = ("location", "offset", "length")
_DOMAIN = 7  # of NodeProto
_DOMAINS = (b"", b"ai.onnx")  # two names of the same
_DEEPEST = 64  # nested graphs; a real encoder has 1


def check_weights(model: bytes, where: str, file: str | None = None, size: int = 0) -> None:
    """Every tensor lies inside `model`; or, where the bundle names one `file` of `size` bytes for its weights, the
    initializers of the main graph may lie there, and nothing else anywhere.

    Raises:
        BundleFault: a tensor lies elsewhere, or the bytes are not an ONNX model.
    """
    try:
        for tensor, way in _external(memoryview(model), ("Model",)):
            if file is None:
                raise BundleFault(f"{where} keeps tensors in other files, expected all inside; export it as one file")
            location, offset, length = _place(tensor)
            if way != _INITIALIZER:
                raise BundleFault(
                    f"{where} keeps a tensor of {way[-2]} in another file; only initializers may lie there"
                )
            if location != file or not 0 <= offset <= offset + length <= size:
                raise BundleFault(
                    f"{where} keeps a tensor in bytes {offset} to {offset + length} of {location[:80]!r}, expected to "
                    f"find it within the {size} of {file!r}; export the bundle again"
                )
    except (IndexError, ValueError) as error:
        raise BundleFault(f"{where} is not a readable ONNX model: {error}; export the bundle again") from error


def check_operators(model: bytes, where: str) -> None:
    """
    Raises:
        BundleFault: an operator that is not ONNX's own, or the bytes are not an ONNX model.
    """
    try:
        for node, way in _messages(memoryview(model), ("Model",)):
            for field, value in _fields(node) if way[-1] == "Node" else ():
                if field == _DOMAIN and isinstance(value, memoryview) and bytes(value) not in _DOMAINS:
                    raise BundleFault(
                        f"{where} uses an operator of {bytes(value[:80]).decode(errors='replace')!r}, expected ONNX's "
                        "own alone; export it without custom operators"
                    )
    except (IndexError, ValueError) as error:
        raise BundleFault(f"{where} is not a readable ONNX model: {error}; export the bundle again") from error


def _external(message: memoryview, way: tuple[str, ...]) -> Iterator[tuple[memoryview, tuple[str, ...]]]:
    """Tensors that lie in another file, and the messages that led to each."""
    for inner, led in _messages(message, way):
        if led[-1] == "Tensor" and any(
            field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0) for field, value in _fields(inner)
        ):
            yield inner, led


def _messages(message: memoryview, way: tuple[str, ...]) -> Iterator[tuple[memoryview, tuple[str, ...]]]:
    """Every message on the ways to a tensor, with those that led to it."""
    if len(way) > _DEEPEST:
        raise ValueError(f"graphs nested deeper than {_DEEPEST}")
    yield message, way
    for field, value in _fields(message):
        child = _CHILDREN[way[-1]].get(field)
        if child is None:
            continue
        if not isinstance(value, memoryview):
            raise ValueError(f"field {field} of {way[-1]} is not a message")
        yield from _messages(value, (*way, child))


def _place(tensor: memoryview) -> tuple[str, int, int]:
    """File, first byte and number of bytes; 0 where the tensor does not say."""
    said: dict[str, str] = {}
    for field, value in _fields(tensor):
        if field == _EXTERNAL_DATA and isinstance(value, memoryview):
            parts = {part: bytes(text).decode() for part, text in _fields(value) if isinstance(text, memoryview)}
            key = parts.get(1, "")
            if key not in _KEYS or key in said:  # told twice, a reader may believe either
                raise ValueError(f"external data says {key[:40]!r}, expected each of {', '.join(_KEYS)} once")
            said[key] = parts.get(2, "")
    return said.get("location", ""), int(said.get("offset", 0)), int(said.get("length", 0))


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
