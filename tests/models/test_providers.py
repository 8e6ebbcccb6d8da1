"""What was asked for runs, or nothing does. First without a GPU, where the runtime refuses; then, marked, with one."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models import providers
from models.errors import BundleFault, OperatorFault
from models.export import reference
from models.half import halve
from models.manifest import Precision, PrecisionName, ProviderName
from models.onnx_decoder import open_bundle
from models.providers import NAMES, RUNS, engine_folder
from models.runtime import ort
from tests.models import bundles
from tests.models.bundles import small_bundle, windows

HALVES: tuple[PrecisionName, ...] = ("float16", "bfloat16")


def every_precision(repository: Path) -> Path:
    """The small bundle in all four."""
    float32 = bundles.model_files()[0]
    files = {f"model.{half}.onnx": halve(float32, (), half) for half in HALVES}
    more = {
        half: Precision(file=f"model.{half}.onnx", probability_tolerance=0.02, embedding_tolerance=0.02)
        for half in HALVES
    }
    return small_bundle(repository, precisions=bundles.manifest().precisions | more, **files)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_precision(tmp_path_factory.mktemp("repository"))


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_runtime_without_it_is_refused(path: Path, provider: ProviderName):
    if NAMES[provider] in ort.get_available_providers():
        pytest.skip("this machine has the GPU runtime")
    with pytest.raises(OperatorFault, match=f"asked for {provider}, but ONNX Runtime here has .*gpu extra"):
        open_bundle(path, provider)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_where_the_runtime_would_take_the_cpu_it_is_refused(
    path: Path, provider: ProviderName, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The runtime's own refusal: its Azure provider, which every build has, runs none of these operators."""
    azure = "AzureExecutionProvider"
    if azure not in ort.get_available_providers():
        pytest.skip("this build has no provider that runs nothing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(NAMES, provider, azure)
    monkeypatch.setattr(providers, "_options", lambda *_: {})
    with pytest.raises(OperatorFault, match=f"asked for {provider}, but the CPU would run .*model.onnx or"):
        open_bundle(path, provider, "float32")


class Failing:
    """The runtime of a GPU build on which a session fails like this, or says that it runs on these."""

    def __init__(self, error: Exception | None, runs_on: list[str]) -> None:
        self._error, self._runs_on, self.asked = error, runs_on, dict[str, Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(ort, name)

    def preload_dlls(self) -> None:
        pass

    def get_available_providers(self) -> list[str]:
        return list(NAMES.values())

    def InferenceSession(self, *_: Any, **asked: Any) -> Any:
        self.asked = asked
        if self._error:
            raise self._error
        return SimpleNamespace(get_providers=lambda: self._runs_on)


@pytest.mark.parametrize(
    ("provider", "error", "fault", "says"),
    [
        (
            "tensorrt",
            RuntimeError("Please install TensorRT libraries"),
            OperatorFault,
            "its libraries do not load",
        ),
        ("cuda", Exception("a graph that is none"), BundleFault, "does not load on cuda: a graph that is none"),
        ("cuda", None, OperatorFault, r"asked for cuda, got \['CPUExecutionProvider'\]"),
    ],
)
def test_every_other_way_to_fail_is_one_sentence(
    path: Path, provider, error, fault, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime = Failing(error, ["CPUExecutionProvider"])
    monkeypatch.setattr(providers, "ort", runtime)
    with pytest.raises(fault, match=says):
        open_bundle(path, provider, "float32")
    assert runtime.asked["enable_fallback"] is False
    assert [name for name, _ in runtime.asked["providers"]] == [NAMES[provider]]  # and none behind it


@pytest.mark.parametrize(("provider", "precision"), [("cpu", "bfloat16"), ("cuda", "int8"), ("tensorrt", "int8")])
def test_a_precision_that_a_provider_does_not_run_is_refused(path: Path, provider, precision):
    with pytest.raises(OperatorFault, match=f"asked for {precision} on {provider}, which runs float32, float16, "):
        open_bundle(path, provider, precision)


@pytest.mark.parametrize("precision", RUNS["cpu"])
def test_a_cpu_holds_the_golden_vectors_of_what_it_runs(path: Path, precision: PrecisionName):
    assert open_bundle(path, "cpu", precision).precision == precision


def test_a_cpu_runs_on_one_thread_that_does_not_spin(path: Path):
    options = open_bundle(path, "cpu")._buffers._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_engines_lie_in_a_private_folder_of_model_options_and_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = {"XDG_CACHE_HOME": str(tmp_path)}
    one = engine_folder("ab", {"x": 1}, here)
    assert one.parent == tmp_path / "phosphene" / "tensorrt"
    assert one.stat().st_mode & 0o777 == 0o700
    assert engine_folder("ab", {"x": 1}, here) == one
    others = [engine_folder("cd", {"x": 1}, here), engine_folder("ab", {"x": 2}, here)]
    monkeypatch.setattr(providers, "ort", SimpleNamespace(__version__="0.0"))
    assert len({one, *others, engine_folder("ab", {"x": 1}, here)}) == 4


def test_engines_that_others_could_have_put_there_are_not_loaded(tmp_path: Path):
    here = {"XDG_CACHE_HOME": str(tmp_path)}
    engine_folder("ab", {}, here).chmod(0o777)
    with pytest.raises(OperatorFault, match="expected a folder of ours alone"):
        engine_folder("ab", {}, here)
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorFault, match="set XDG_CACHE_HOME"):
        engine_folder("ab", {}, {"XDG_CACHE_HOME": str(tmp_path / "file")})


# With a GPU ----------------------------------------------------------------------------------------------------------


def gpu(provider: ProviderName) -> None:
    if NAMES[provider] not in ort.get_available_providers():
        pytest.skip(f"this build of ONNX Runtime has no {provider}")
    if provider == "tensorrt":
        pytest.importorskip("tensorrt")


@pytest.mark.gpu
@pytest.mark.timeout(900)  # TensorRT builds an engine the first time
@pytest.mark.parametrize("precision", RUNS["cuda"])
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_holds_the_golden_vectors(path: Path, provider: ProviderName, precision: PrecisionName):
    gpu(provider)
    running = open_bundle(path, provider, precision)  # which refuses if they do not hold, or if one node is the CPU's
    assert (running.provider, running.precision) == (provider, precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", RUNS["cuda"])
def test_a_cuda_graph_gives_the_same_numbers_whatever_is_usable(path: Path, precision: PrecisionName):
    gpu("cuda")
    running = open_bundle(path, "cuda", precision)
    shown, usable = windows(20, seed=3)
    before = [running.step(*one) for one in zip(shown, usable, strict=True)]
    assert running.warm_up()
    for one, window, channels in zip(before, shown, usable, strict=True):
        replayed = running.step(window, channels)
        assert np.array_equal(one.embedding, replayed.embedding)
        assert (one.prestimulus, one.evoked) == (replayed.prestimulus, replayed.evoked)


@pytest.mark.gpu
def test_a_cuda_graph_matches_torch_and_has_no_trace_of_windows_before(path: Path):
    gpu("cuda")
    running = open_bundle(path, "cuda", "float32")
    assert running.warm_up()
    shown, usable = windows(16, seed=4)
    expected = reference(bundles.encoder(), dict(bundles.probes()), shown, usable)["embedding"]
    spoiled = np.where(usable[:, :, None], shown, np.nan).astype(np.float32)
    for k in range(16):
        assert np.isnan(running.step(shown[k], np.zeros_like(usable[k])).embedding).all()
        found = running.step(spoiled[k], usable[k]).embedding
        assert np.abs(found - expected[k]).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.gpu
def test_another_bundle_opens_and_steps_beside_a_captured_one(path: Path):
    """As a swap does: while a graph is captured and replayed here, another thread opens the bundle and steps it."""
    import threading

    gpu("cuda")
    running = open_bundle(path, "cuda", "float32")
    shown, usable = windows(1, seed=5)
    expected, failed = running.step(shown[0], usable[0]).embedding, list[BaseException]()

    def beside() -> None:
        try:
            other = open_bundle(path, "cuda", "float16")
            for _ in range(200):
                other.step(shown[0], usable[0])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=beside)
    thread.start()
    while thread.is_alive():
        running.warm_up()  # as soon as nobody else is at it
        assert np.array_equal(running.step(shown[0], usable[0]).embedding, expected)
    thread.join()
    assert not failed
    assert running.warm_up()


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_the_second_start_finds_the_engine(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gpu("tensorrt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    open_bundle(path, "tensorrt", "float32")
    engines = {file: os.stat(file).st_mtime_ns for file in tmp_path.rglob("*.engine")}
    assert engines
    open_bundle(path, "tensorrt", "float32")
    assert {file: os.stat(file).st_mtime_ns for file in tmp_path.rglob("*.engine")} == engines
