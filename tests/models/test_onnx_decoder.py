"""The running bundle against torch, and every way in which it must refuse to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Golden, verify
from models.errors import BundleFault
from models.export import reference
from models.manifest import Precision
from models.onnx_decoder import OnnxDecoder, open_bundle
from models.runtime import ort
from tests.models import bundles
from tests.models.bundles import BINS, CHANNELS, small_bundle, windows


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def decoder(path: Path) -> OnnxDecoder:
    return open_bundle(path, precision="float32")


def test_matches_torch(decoder: OnnxDecoder):
    shown, usable = windows(16, seed=3)
    expected = reference(bundles.encoder(), dict(bundles.probes()), shown, usable)
    for i, (window, channels) in enumerate(zip(shown, usable, strict=True)):
        decoded = decoder.step(window, channels)
        assert np.allclose(decoded.embedding, expected["embedding"][i], atol=1e-5)
        assert decoded.prestimulus == pytest.approx(expected["prestimulus"][i], abs=1e-5)
        assert decoded.evoked == pytest.approx(expected["evoked"][i], abs=1e-5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_weights_in_a_file_of_their_own_give_the_same_numbers(tmp_path: Path, path: Path, precision: str):
    split = bundles.split_bundle(tmp_path)
    one, other = open_bundle(split, precision=precision), open_bundle(path, precision=precision)
    shown, usable = windows(4, seed=3)
    for window, channels in zip(shown, usable, strict=True):
        found, expected = one.step(window, channels), other.step(window, channels)
        assert np.array_equal(found.embedding, expected.embedding)
        assert (found.prestimulus, found.evoked) == (expected.prestimulus, expected.evoked)
    assert (split / "model.onnx").stat().st_size < 0.5 * (path / "model.onnx").stat().st_size


def test_weights_are_read_once_and_what_was_hashed_is_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    split = bundles.split_bundle(tmp_path)
    bundle = verify(split)
    (split / "model.weights").write_bytes(bytes(len(bundle.files["model.weights"])))  # after it was hashed
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.weights").write_bytes(b"another")
    decoder = OnnxDecoder(bundle, "cpu", "float32")
    assert decoder.check_golden(bundle).holds


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda split: (split / "model.weights").write_bytes(b"short"), "has sha256"),
        (lambda split: (split / "model.weights").unlink(), "cannot be read"),
    ],
)
def test_weights_that_are_not_those_that_were_exported(tmp_path: Path, change, says: str):
    split = bundles.split_bundle(tmp_path)
    change(split)
    with pytest.raises(BundleFault, match=says):
        open_bundle(split)


def test_weights_that_the_manifest_does_not_name_are_not_looked_for(tmp_path: Path):
    precisions = {name: one.model_copy() for name, one in bundles.manifest().precisions.items()}
    with pytest.raises(BundleFault, match="keeps tensors in other files"):
        open_bundle(bundles.split_bundle(tmp_path, precisions=precisions), precision="float32")


def test_the_file_takes_batches(path: Path):
    shown, usable = windows(7, seed=4)
    session = ort.InferenceSession(bundles.model_files()[0], providers=["CPUExecutionProvider"])
    whole = session.run(None, {"window": shown, "usable": usable})
    for i in range(7):
        for all_of_it, one in zip(whole, session.run(None, {"window": shown[i : i + 1], "usable": usable[i : i + 1]})):  # noqa: B905
            assert np.allclose(all_of_it[i], one[0], atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@given(
    mask=st.lists(st.booleans(), min_size=CHANNELS, max_size=CHANNELS),
    garbage=st.sampled_from([np.nan, np.inf, 1e9]),
)
@settings(max_examples=25, deadline=None)
def test_unusable_channels_do_not_matter(path: Path, precision: str, mask: list[bool], garbage: float):
    running = _cached(path, precision)
    window, usable = windows(1, seed=5)[0][0], np.array(mask)
    spoiled = np.where(usable[:, None], window, np.float32(garbage))
    clean, dirty = running.step(window, usable), running.step(spoiled, usable)
    assert np.array_equal(clean.embedding, dirty.embedding, equal_nan=True)
    assert np.array_equal([clean.prestimulus, clean.evoked], [dirty.prestimulus, dirty.evoked], equal_nan=True)
    assert np.isfinite(clean.embedding).all() == usable.any()


_running: dict[tuple[Path, str], OnnxDecoder] = {}


def _cached(path: Path, precision: str) -> OnnxDecoder:
    if (path, precision) not in _running:
        _running[path, precision] = open_bundle(path, precision=precision)  # type: ignore[arg-type]
    return _running[path, precision]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_no_usable_channel_is_nan_and_leaves_no_trace(path: Path, precision: str):
    running, (shown, usable) = _cached(path, precision), windows(2)
    before = running.step(shown[1], usable[1])
    nothing = running.step(shown[0], np.zeros(CHANNELS, bool))
    assert np.isnan(nothing.embedding).all()
    assert np.isnan([nothing.prestimulus, nothing.evoked]).all()
    after = running.step(shown[1], usable[1])
    assert np.array_equal(before.embedding, after.embedding)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_not_finite_in_a_usable_channel_is_never_hidden(path: Path, precision: str):
    running, (shown, usable) = _cached(path, precision), windows(1)
    shown[0, 3, 17] = np.nan
    decoded = running.step(shown[0], usable[0])
    assert np.isnan(decoded.embedding).any()
    assert np.isnan(decoded.prestimulus)


def test_inputs_are_left_alone_and_results_are_copies(decoder: OnnxDecoder):
    shown, usable = windows(2)
    kept = shown.copy()
    first = decoder.step(shown[0], usable[0])
    embedding = first.embedding.copy()
    decoder.step(shown[1], usable[1])
    assert np.array_equal(first.embedding, embedding)
    assert np.array_equal(shown, kept)


def test_says_what_runs(path: Path):
    running = open_bundle(path)
    assert (running.name, running.provider, running.precision) == ("small@1", "cpu", "int8")
    assert (running.n_channels, running.n_bins) == (CHANNELS, BINS)
    assert running.choice.startswith("int8: golden vectors hold here (off by ")
    assert open_bundle(path, precision="float32").choice.startswith("float32: as asked")


def test_where_int8_is_unsound_float32_runs_and_says_so(tmp_path: Path):
    """As on a CPU whose int8 products saturate: here the tolerance is what no int8 model can hold."""
    tight = {
        "float32": Precision(file="model.onnx", probability_tolerance=1e-3, embedding_tolerance=1e-3),
        "int8": Precision(file="model.int8.onnx", probability_tolerance=1e-9, embedding_tolerance=1e-9),
    }
    running = open_bundle(small_bundle(tmp_path, precisions=tight))
    assert running.precision == "float32"
    assert "int8 is unsound on this CPU" in running.choice
    with pytest.raises(BundleFault, match="golden vectors of int8 do not hold"):
        open_bundle(tmp_path / "small" / "1", precision="int8")


@pytest.mark.parametrize("spoil", ["probability", "embedding", "nan", "evoked", "prestimulus"])
def test_golden_vectors_that_do_not_hold(tmp_path: Path, path: Path, spoil: str):
    golden = verify(path).golden()
    embedding, probabilities = golden.embedding.copy(), {k: v.copy() for k, v in golden.probabilities.items()}
    if spoil in probabilities:  # a NaN in either is too far, whichever is compared first
        probabilities[spoil][2] = np.nan
    elif spoil == "probability":
        probabilities["evoked"][2] += 0.1
    else:
        embedding[0, 5] = np.nan if spoil == "nan" else embedding[0, 5] + 0.5 * np.abs(embedding).max()
    wrong = Golden(golden.windows, golden.usable, embedding, probabilities)
    with pytest.raises(BundleFault, match="golden vectors of float32 do not hold on cpu"):
        open_bundle(small_bundle(tmp_path, **{"golden.npz": wrong.to_bytes()}))


def test_a_graph_of_other_shape_is_refused(tmp_path: Path):
    only_one = small_bundle(tmp_path, probes={"evoked": bundles.manifest().probes["evoked"]})
    with pytest.raises(BundleFault, match=r"has outputs .*, expected"):
        open_bundle(only_one, precision="float32")


def test_what_is_no_model_is_refused(tmp_path: Path):
    with pytest.raises(BundleFault, match=r"model\.onnx"):
        open_bundle(small_bundle(tmp_path, **{"model.onnx": b""}), precision="float32")


def test_other_shapes_are_our_bug(decoder: OnnxDecoder):
    with pytest.raises(ValueError, match="expected"):
        decoder.step(np.zeros((CHANNELS, BINS + 1), np.float32), np.ones(CHANNELS, bool))


def test_the_shipped_bundle_runs_and_is_small():
    shipped = Path(__file__).parents[2] / "models" / "bundles" / "default"
    newest = max(shipped.iterdir(), key=lambda version: int(version.name))
    assert sum(file.stat().st_size for file in newest.glob("*.onnx")) <= 15e6
    running = open_bundle(newest)
    assert running.manifest.participant == "simulated"
    assert (running.n_channels, running.n_bins) == (96, 128)
