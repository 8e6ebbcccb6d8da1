"""Bundles that mean harm, or are only broken: each is refused with a BundleFault, and nothing else comes out."""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models import bundle as bundle_module
from models.bundle import GOLDEN, LARGEST_MANIFEST, MANIFEST, Bundle, read_manifest, seal, verify
from models.errors import BundleFault, Fault
from models.onnx_decoder import open_bundle
from models.onnx_file import check_operators, check_weights
from server.bundles import check_servable
from tests.models.bundles import CHANNELS, manifest, model_files, small_bundle

QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, one in inner for place in places(one, (*way, key)))]


def said(call: Callable[[], object], fault: type[Fault] = BundleFault) -> str:
    """The sentence that refuses it; empty where it is taken. Anything else that is raised fails the test."""
    try:
        call()
    except fault as refusal:
        return str(refusal)
    return ""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundles"))


def test_a_manifest_that_says_anything_at_any_place(whole: Path) -> None:
    sound = json.loads((whole / MANIFEST).read_text())
    everywhere = [place for place in places(sound) if place]
    kept = (whole / MANIFEST).read_bytes()
    refused = 0

    @QUICK
    @given(
        st.sampled_from(everywhere), JSON | st.sampled_from([-1, 0, 2**31, 2**63, 1e308, float("nan"), "../x", [], {}])
    )
    def change(place: tuple[Any, ...], value: Any) -> None:
        nonlocal refused
        fields = copy.deepcopy(sound)
        inner = fields
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        (whole / MANIFEST).write_text(json.dumps(fields))
        refused += said(open_but_for_the_model, Fault) != ""

    def open_but_for_the_model() -> None:
        seal(whole)
        found = verify(whole)
        found.golden()
        check_servable(found.manifest)

    try:
        change()
    finally:
        (whole / MANIFEST).write_bytes(kept)
    assert refused > 50


@QUICK
@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_for_a_manifest(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder)
        (path / MANIFEST).write_bytes(content)
        assert said(lambda: read_manifest(path))
        said(lambda: seal(path))  # any JSON object can be sealed


def test_golden_vectors_with_any_harm(whole: Path) -> None:
    found = verify(whole)
    content = found.files[GOLDEN]

    @QUICK
    @given(st.integers(0, len(content) - 1), st.binary(max_size=8), st.integers(0, 400))
    def harm(at: int, put: bytes, cut: int) -> None:
        broken = content[:at] + put + content[at + cut :]
        said(Bundle(whole, found.manifest, {GOLDEN: broken}).golden)

    harm()


def packed(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


def pickled() -> bytes:
    return packed(windows=npy(np.array([Harm()], dtype=object)))


def headed(shape: bytes) -> bytes:
    """Vectors whose header claims this shape, of as many characters as the true one."""
    small = npy(np.zeros((2, CHANNELS, 128), np.float32))
    assert len(shape) == len(b"(2, 12, 128)")
    return packed(windows=small.replace(b"(2, 12, 128)", shape))


def test_golden_vectors_that_unpickle_or_unpack_without_end(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify(whole)
    claims_much, not_closed = headed(b"(9999999999)"), headed(b"(2, 12, 128 ")
    cut = packed(windows=b"\x93NUMPY\x03\x00")
    for content in (pickled(), claims_much, not_closed, cut, packed(), b""):
        with pytest.raises(BundleFault, match=r"golden\.npz cannot be read"):
            Bundle(whole, found.manifest, {GOLDEN: content}).golden()
    monkeypatch.setattr(bundle_module, "LARGEST_GOLDEN", 10_000)
    bomb = packed(windows=b"\0" * 20_000)
    assert len(bomb) < 500
    with pytest.raises(BundleFault, match=r"it unpacks to 20000 bytes, expected at most 10000"):
        Bundle(whole, found.manifest, {GOLDEN: bomb}).golden()


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices with a path are POSIX's")
def test_files_that_have_no_end(tmp_path: Path) -> None:
    whole = small_bundle(tmp_path)
    for name in ("golden.npz", MANIFEST):
        (whole / name).unlink()
        os.mkfifo(whole / name)
        with pytest.raises(BundleFault, match="is no plain file"):
            verify(whole)
        (whole / name).unlink()
        (whole / name).symlink_to("/dev/zero")
        with pytest.raises(BundleFault, match="is no plain file"):
            verify(whole)
        (whole / name).unlink()
        with (whole / name).open("wb") as hole:
            hole.truncate(LARGEST_MANIFEST + 1)
    with pytest.raises(BundleFault, match=r"manifest\.json has 4194305 bytes, expected at most"):
        verify(whole)


# The model ----------------------------------------------------------------------------------------------------------


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_for_a_model(content: bytes) -> None:
    for check in (check_weights, check_operators):
        said(lambda check=check: check(content, "m.onnx"))


def test_a_model_with_any_harm() -> None:
    content = model_files()[0]
    head = content[:2000] + content[-2000:]

    @QUICK
    @given(st.integers(0, len(head) - 1), st.binary(max_size=6), st.integers(0, 40))
    def harm(at: int, put: bytes, cut: int) -> None:
        broken = head[:at] + put + head[at + cut :]
        said(lambda: check_weights(broken, "m.onnx", "model.weights", 100))
        said(lambda: check_operators(broken, "m.onnx"))

    harm()


def custom(domain: str, inside: bool = False) -> bytes:
    """Our own model, with one operator more."""
    model = onnx.load_from_string(model_files()[0])
    node = helper.make_node("Anything", ["window"], ["more"], domain=domain)
    if inside:
        branch = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("more", TensorProto.FLOAT, None)])
        node = helper.make_node("If", ["usable"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("domain", ["evil.example", "com.microsoft", "ai.onnx.ml", "ai.onnx.contrib"])
def test_custom_operators_are_refused_before_the_runtime_sees_them(tmp_path: Path, domain: str) -> None:
    whole = small_bundle(tmp_path, **{"model.int8.onnx": custom(domain)})
    with pytest.raises(BundleFault, match=rf"uses an operator of '{domain}', expected ONNX's own alone"):
        open_bundle(whole)
    with pytest.raises(BundleFault, match="uses an operator of"):
        check_operators(custom(domain, inside=True), "m.onnx")
    for content in model_files():
        check_operators(content, "m.onnx")


@pytest.mark.parametrize("content", [b"", b"garbage", model_files()[0][:3000], model_files()[0][:-100]])
def test_a_model_that_is_cut_or_none_does_not_open(tmp_path: Path, content: bytes) -> None:
    whole = small_bundle(tmp_path, **{"model.int8.onnx": content})
    with pytest.raises(BundleFault):
        open_bundle(whole)


def test_the_tests_bundle_is_sound(whole: Path) -> None:
    assert verify(whole).manifest.full_name == manifest().full_name
    assert open_bundle(whole).n_channels == CHANNELS
