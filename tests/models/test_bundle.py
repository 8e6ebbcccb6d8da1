"""A bundle that is not what was exported is refused with a sentence that says which part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.bundle import MANIFEST, Golden, find_bundle, read_manifest, seal, verify, versions, write_bundle
from models.errors import BundleFault, OperatorFault
from tests.models.bundles import CHANNELS, manifest, small_bundle, windows


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return small_bundle(tmp_path)


def edit(bundle: Path, **changes: object) -> None:
    fields = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(fields | changes))
    seal(bundle)


def test_round_trip(bundle: Path):
    verified = verify(bundle)
    assert verified.manifest == read_manifest(bundle)
    assert verified.manifest.full_name == "small@1"
    assert set(verified.files) == {"model.onnx", "model.int8.onnx", "golden.npz"}
    shown, usable = windows(4)
    golden = verified.golden()
    assert np.array_equal(golden.windows, shown)
    assert np.array_equal(golden.usable, usable)


def test_unknown_keys_are_ignored(bundle: Path):
    edit(bundle, colour="blue")
    assert verify(bundle).manifest.name == "small"


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx", "golden.npz"])
def test_one_flipped_bit_is_named(bundle: Path, name: str):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleFault, match=rf"{name} has sha256 .* copy the bundle again"):
        verify(bundle)


def test_missing_file_is_named(bundle: Path):
    (bundle / "model.int8.onnx").unlink()
    with pytest.raises(BundleFault, match=r"model\.int8\.onnx cannot be read"):
        verify(bundle)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, "has format 2, expected 1"),
        ({"participant": None}, "participant"),
        ({"files": {}}, "states no sha256 for golden.npz"),
        ({"name": "../up"}, "name"),
        ({"min_usable_channels": 99}, "min_usable_channels 99 of 12"),
    ],
)
def test_incoherent_manifest_is_refused(bundle: Path, changes: dict, says: str):
    edit(bundle, **changes)
    with pytest.raises(BundleFault, match=says):
        verify(bundle)


def test_one_flipped_bit_of_the_manifest_is_refused(bundle: Path):
    """Anywhere in it: names, numbers, tolerances, hashes, the seal itself."""
    file = bundle / MANIFEST
    sound = file.read_bytes()
    assert len(sound) > 1000
    for at in range(len(sound)):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(BundleFault, match=r"manifest\.json"):
            read_manifest(bundle)


@pytest.mark.parametrize("changes", [{"participant": "P2"}, {"min_usable_channels": 1}, {"colour": "blue"}])
def test_a_manifest_edited_by_hand_is_refused(bundle: Path, changes: dict):
    fields = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(fields | changes))
    with pytest.raises(BundleFault, match=r"has manifest_sha256 .*, expected .* copy the bundle again"):
        verify(bundle)


def test_a_manifest_without_its_hash_is_refused_until_sealed(bundle: Path):
    fields = json.loads((bundle / MANIFEST).read_text())
    del fields["manifest_sha256"]
    (bundle / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(BundleFault, match="has manifest_sha256 none"):
        verify(bundle)
    seal(bundle)
    verify(bundle)
    assert [entry.name for entry in bundle.parent.iterdir()] == ["1"]


def test_only_a_manifest_is_sealed(tmp_path: Path):
    for content in ("{", "3"):
        (tmp_path / MANIFEST).write_text(content)
        with pytest.raises(BundleFault, match="not a manifest to be sealed"):
            seal(tmp_path)


def test_files_that_the_manifest_does_not_name_are_refused(bundle: Path):
    (bundle / "model.fp16.onnx").write_bytes(b"x")
    with pytest.raises(BundleFault, match=r"holds model\.fp16\.onnx, which its manifest does not name; take them out"):
        verify(bundle)


def test_files_outside_the_bundle_are_refused(bundle: Path):
    fields = json.loads((bundle / MANIFEST).read_text())
    edit(bundle, files=fields["files"] | {"../../secret": "0" * 64})
    with pytest.raises(BundleFault, match="expected a plain file name"):
        verify(bundle)


def test_golden_of_other_shape_is_refused(tmp_path: Path):
    shown, usable = windows(2)
    wrong = Golden(shown[:, :, :64], usable, np.zeros((2, 64), np.float32), {})
    with pytest.raises(BundleFault, match=r"golden\.npz"):
        verify(small_bundle(tmp_path, **{"golden.npz": wrong.to_bytes()})).golden()


def test_no_manifest(tmp_path: Path):
    with pytest.raises(BundleFault, match=r"manifest\.json cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(BundleFault, match="Invalid JSON"):
        read_manifest(tmp_path)


def test_versions_are_never_rewritten_and_the_highest_is_found(tmp_path: Path, bundle: Path):
    with pytest.raises(OperatorFault, match="never rewritten"):
        small_bundle(tmp_path)
    for version in (2, 10):
        small_bundle(tmp_path, version=version)
    assert versions(tmp_path, "small") == [1, 2, 10]
    assert find_bundle(tmp_path, "small") == tmp_path / "small" / "10"
    assert find_bundle(tmp_path, "small@2") == tmp_path / "small" / "2"
    for name, says in (("small@3", "no version 3"), ("large", "there are: small"), ("../small", "no bundle")):
        with pytest.raises(OperatorFault, match=says):
            find_bundle(tmp_path, name)


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    with pytest.raises(TypeError):
        write_bundle(tmp_path, manifest(), {"model.onnx": b"x", "golden.npz": None})  # type: ignore[dict-item]
    assert not list(tmp_path.rglob("*.onnx"))


def test_reading_a_bundle_needs_no_torch_and_no_onnx(bundle: Path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'sklearn', 'streaming']))\n"
        "from pathlib import Path; from models.onnx_decoder import open_bundle\n"
        f"print(open_bundle(Path({os.fspath(bundle)!r})).n_channels)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(CHANNELS), done.stderr
