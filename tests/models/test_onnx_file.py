"""External tensor data is found wherever ONNX allows a tensor, and nothing else is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import onnx_file
from models.errors import BundleFault
from models.onnx_file import check_weights
from tests.models import bundles


def inside() -> TensorProto:
    return numpy_helper.from_array(np.ones(3, np.float32), "weights")


def outside() -> TensorProto:
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[3])
    onnx.external_data_helper.set_external_data(_with_raw(tensor), "secret.bin")
    tensor.ClearField("raw_data")
    return tensor


def _with_raw(tensor: TensorProto) -> TensorProto:
    tensor.raw_data = b"\0" * 12
    return tensor


def only_location() -> TensorProto:
    return TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)


def sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(3, dtype=np.int64), "indices")
    return helper.make_sparse_tensor(tensor, indices, [3])


def graph(nodes: list, **fields: object) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", [], [], **fields)


def constant(**attribute: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], **attribute)


def listed(field: str, *values: object) -> onnx.NodeProto:
    node = onnx.NodeProto(op_type="Custom")
    attribute = node.attribute.add(name="many")
    getattr(attribute, field).extend(values)
    return node


def nested(inner: onnx.GraphProto) -> onnx.GraphProto:
    return graph([helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=graph([]))])


def model(of: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(of)


def with_function(tensor: TensorProto) -> onnx.ModelProto:
    function = helper.make_function("d", "f", [], ["c"], [constant(value=tensor)], [])
    return helper.make_model(graph([]), functions=[function])


def with_function_default(tensor: TensorProto) -> onnx.ModelProto:
    function = helper.make_function("d", "f", [], [], [], [])
    function.attribute_proto.append(helper.make_attribute("a", tensor))
    return helper.make_model(graph([]), functions=[function])


def with_training(tensor: TensorProto) -> onnx.ModelProto:
    made = model(graph([]))
    made.training_info.add().initialization.CopyFrom(graph([], initializer=[tensor]))
    return made


PLACES = {
    "initializer": lambda t: model(graph([], initializer=[t])),
    "sparse initializer": lambda t: model(graph([], sparse_initializer=[sparse(t)])),
    "constant": lambda t: model(graph([constant(value=t)])),
    "sparse constant": lambda t: model(graph([constant(sparse_value=sparse(t))])),
    "list of tensors": lambda t: model(graph([listed("tensors", t)])),
    "list of sparse tensors": lambda t: model(graph([listed("sparse_tensors", sparse(t))])),
    "list of graphs": lambda t: model(graph([listed("graphs", graph([], initializer=[t]))])),
    "branch of an If": lambda t: model(nested(graph([constant(value=t)]))),
    "branch of a branch": lambda t: model(nested(nested(graph([], initializer=[t])))),
    "function": with_function,
    "function's default": with_function_default,
    "training info": with_training,
}


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused_wherever_it_hides(place: str):
    check_weights(PLACES[place](inside()).SerializeToString(), "m.onnx")
    for hidden in (outside(), only_location()):
        with pytest.raises(BundleFault, match=r"m\.onnx keeps tensors in other files"):
            check_weights(PLACES[place](hidden).SerializeToString(), "m.onnx")


PLACE = {"location": "model.weights", "offset": "64", "length": "12"}


def beside(**changes: str | None) -> bytes:
    """A model whose one initializer lies in another file, as it says."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (PLACE | changes).items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return model(graph([], initializer=[tensor])).SerializeToString()


def test_initializers_may_lie_in_the_file_that_the_bundle_names():
    check_weights(beside(), "m.onnx", "model.weights", 76)
    check_weights(beside(offset=None, length=None), "m.onnx", "model.weights", 0)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (beside(location="../model.weights"), 76),
        (beside(location="/etc/passwd"), 76),
        (beside(location="./model.weights"), 76),
        (beside(location="model.weights\0"), 76),
        (beside(location=None), 76),
        (beside(), 75),
        (beside(offset="-64"), 76),
        (beside(length="-1"), 76),
        (beside(offset="99999999999999999999"), 76),
    ],
)
def test_no_other_file_and_nothing_beyond_its_end(content: bytes, size: int):
    with pytest.raises(BundleFault, match=r"m\.onnx keeps a tensor in bytes"):
        check_weights(content, "m.onnx", "model.weights", size)


@pytest.mark.parametrize("said", [{"checksum": "a"}, {"basepath": "/"}, {"offset": "a"}, {"length": "1e3"}])
def test_what_external_data_must_not_say(said: dict[str, str]):
    with pytest.raises(BundleFault, match="not a readable ONNX model"):
        check_weights(beside(**said), "m.onnx", "model.weights", 10_000)


def test_a_place_that_is_told_twice_is_refused():
    """One reader takes the first, another the last."""
    proto = onnx.load_from_string(beside())
    proto.graph.initializer[0].external_data.add(key="location", value="secret.bin")
    with pytest.raises(BundleFault, match="'location', expected each of location, offset, length once"):
        check_weights(proto.SerializeToString(), "m.onnx", "model.weights", 76)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "initializer"])
def test_only_initializers_may_lie_in_another_file(place: str):
    hidden = outside()
    hidden.external_data[0].value = "model.weights"
    with pytest.raises(BundleFault, match="only initializers may lie there"):
        check_weights(PLACES[place](hidden).SerializeToString(), "m.onnx", "model.weights", 76)


def test_places_are_all_the_places():
    """Every field of the ONNX schema from which a TensorProto can be reached is walked."""
    schema: dict[str, dict[int, str]] = {}
    open_ends = [onnx.ModelProto.DESCRIPTOR]
    while open_ends:
        message = open_ends.pop()
        held = [field for field in message.fields if field.message_type is not None]
        schema[message.name] = {field.number: field.message_type.name for field in held}
        open_ends += [field.message_type for field in held if field.message_type.name not in schema]
    reaching = {"TensorProto"}
    while more := {kind for kind, held in schema.items() if reaching & set(held.values())} - reaching:
        reaching |= more

    def ours(name: str) -> str:
        return {"TrainingInfoProto": "Training"}.get(name, name.removesuffix("Proto"))

    expected = {
        ours(kind): {number: ours(child) for number, child in schema[kind].items() if child in reaching}
        for kind in reaching
    }
    assert expected == onnx_file._CHILDREN


def test_our_own_exports_pass():
    for content in bundles.model_files():
        check_weights(content, "model.onnx")


@pytest.mark.parametrize("content", [b"\xff" * 40, b"not a model", bytes([0x3A, 0x7F, 1]), b"\x0b"])
def test_what_is_no_model_is_refused(content: bytes):
    with pytest.raises(BundleFault, match="not a readable ONNX model"):
        check_weights(content, "m.onnx")


def test_bottomless_nesting_is_refused():
    def wrap(field: int, content: bytes) -> bytes:
        size, digits = len(content), b""
        while size > 0x7F:
            digits, size = digits + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([field << 3 | 2]) + digits + bytes([size]) + content

    content = b""
    for _ in range(40):
        content = wrap(1, wrap(5, wrap(6, content)))  # a node's attribute's graph
    with pytest.raises(BundleFault, match="nested deeper"):
        check_weights(wrap(7, content), "m.onnx")
