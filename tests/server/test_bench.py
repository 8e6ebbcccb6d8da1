"""The bench compares like with like, refuses what it does not know, and runs its rows."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import orjson
import pytest

from models.bundle import find_bundle, read_manifest
from models.errors import OperatorFault
from models.onnx_decoder import open_bundle
from models.runtime import ort
from server.bench import arrays, large, main, path, scale, stages
from server.bench.main import bench
from server.bench.measure import interleaved, percentiles
from server.cli import run
from server.settings import PACKAGED
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings, NormaliserSettings
from tests.server.test_real_server import Running


def test_percentiles_are_those_of_numpy() -> None:
    values = np.arange(1001.0)
    assert percentiles(values) == pytest.approx({"p50": 500.0, "p99": 990.0, "p99.9": 999.0, "max": 1000.0})


def test_calls_take_turns() -> None:
    order: list[tuple[str, int]] = []
    taken = interleaved({"a": lambda i: order.append(("a", i)), "b": lambda i: order.append(("b", i))}, 4, rounds=2)
    assert order == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3), ("b", 2), ("b", 3)]
    assert len(taken["a"]) == len(taken["b"]) == 4


def test_the_plain_chain_computes_what_ours_computes() -> None:
    settings = ChainSettings(start_settle_s=0.0, normaliser=NormaliserSettings(min_history_s=0.1))
    x = (20 * np.random.default_rng(0).standard_normal((15_000, 8))).astype(np.float32)
    ours, plain = SignalChain(settings, stages.RATE, 8), stages.PlainChain(settings, 8)
    expected = np.concatenate([plain.push(x[i : i + 60]) for i in range(0, len(x), 60)])
    found = ours.push(x, 0).z
    # the plain one starts its filters at rest, ours at the first sample: the same after a while, but for the history
    assert np.abs(found[400:] - expected[400:]).max() < 0.05


def test_rows_run_and_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "bench.json"
    monkeypatch.setitem(__import__("server.bench.main", fromlist=["ROWS"]).ROWS, "tiny", lambda _: stages.chain(4, 40))
    found = bench(["tiny"], 1.0, out)
    assert found["rows"]["tiny"]["times_as_long"]["numpy+scipy"] > 0
    assert orjson.loads(out.read_bytes())["machine"]["cores"] >= 1
    with pytest.raises(OperatorFault, match="never overwritten"):
        bench(["tiny"], 1.0, out)
    with pytest.raises(OperatorFault, match="no row 'typo'"):
        bench(["typo"], 1.0, None)


def test_a_bundle_with_its_weights_beside_it_is_written_checked_opened_and_run() -> None:
    """As the row does it with the paper's encoder."""
    pytest.importorskip("torch")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine has the GPU runtime: its test is the next")
    found = large.large("pico", seconds=0.2)
    assert found["cpu float32"]["step"]["p50"] > 0
    assert found["torch eager float32"]["p50"] > 0
    assert found["files_mib"] > 4 * found["parameters_millions"] * 1e6 / 2**20


def test_a_bundle_for_another_array_looks_at_some_of_its_electrodes_in_int8(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from training.random_bundle import write_random

    path, _ = write_random(tmp_path, "pico", ("float32", "int8"), channels=256, looks_at=32)
    decoder, exact = (open_bundle(path, "cpu", precision) for precision in ("int8", "float32"))
    window, usable = np.random.default_rng(1).standard_normal((256, 128)).astype(np.float32), np.ones(256, bool)
    assert decoder.n_channels == 256
    assert np.abs(decoder.step(window, usable).embedding - exact.step(window, usable).embedding).max() < 0.5
    ours, others = np.linspace(0, 255, 32).astype(int), window.copy()
    others[np.setdiff1d(np.arange(256), ours)] = 0
    np.testing.assert_array_equal(exact.step(others, usable).embedding, exact.step(window, usable).embedding)


def test_lsl_loses_nothing_on_the_way_to_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "LSL_CHANNELS", (128,))
    found = scale.lsl_in(0.5)["128 channels"]
    assert found["channels"] == 128
    assert found["lost_samples"] == found["reconnects"] == 0
    assert found["samples"] > 0
    assert found["cores"] > 0


@pytest.mark.gpu
@pytest.mark.timeout(1800)  # torch compiles
def test_the_papers_encoder_on_a_gpu_beside_torch() -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this build of ONNX Runtime has no cuda")
    found = large.large("paper", seconds=20.0)  # and holds the hop for three minutes
    ours = {name: one for name, one in found.items() if name.startswith(("cuda ", "tensorrt "))}
    assert {"cuda float32", "cuda float16", "cuda bfloat16"} <= ours.keys(), found["left_out"]
    assert all(f"torch {kind} bfloat16" in found for kind in ("eager", "compiled", "graph"))
    for one in ours.values():
        assert one["after_a_pause_kept_warm"]["p50"] < 2 * one["step"]["p50"]
    if "H200" in found["device"]:  # the goal, which is one card's
        best = min(ours.values(), key=lambda one: one["step"]["p50"])
        assert best["step"]["p50"] <= 2.0
        assert best["step"]["p99.9"] <= 3.0
        assert found["held_at_a_hop_of_4_ms"]["share_in_time"] >= 0.999


def test_the_fastest_holds_the_hop_for_as_long_as_asked(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from training.random_bundle import write_random

    path, _ = write_random(tmp_path, "pico", ("float32", "int8"))
    found = {"cpu float32": {"step": {"p50": 2.0}}, "cpu int8": {"step": {"p50": 1.0}}}
    held = large._held(path, found, ("cpu",), ("float32", "float16", "int8"), 0.2)
    assert (held["by"], held["seconds"]) == ("cpu int8", 0.2)
    assert 0 <= held["share_in_time"] <= 1


def test_a_provider_is_asked_of_the_rows_that_hear_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[scale.Run] = []
    monkeypatch.setitem(main.ANYHOW, "scale", lambda seconds, run: asked.append(run) or {"unit": "ms"})
    for flags in (
        ["--provider", "cuda"],
        ["--precision", "float32"],
        ["--provider", "cuda", "--precision", "bfloat16"],
    ):
        assert run(["bench", "scale", *flags]) == 0
    assert asked == [("cuda", "float32"), ("cpu", "float32"), ("cuda", "bfloat16")]
    for rows in ([], ["path"], ["scale", "path"], ["scale", "--peers"]):
        assert run(["bench", *rows, "--provider", "cuda"]) == 2


def test_a_provider_that_is_not_here_ends_the_row_at_once() -> None:
    pytest.importorskip("torch")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("it is here")
    with pytest.raises(OperatorFault, match="asked for cuda"):
        scale.hop_1ms(1.0, ("cuda", "float32"))


def test_the_path_says_what_no_computer_makes_shorter() -> None:
    model = read_manifest(find_bundle(PACKAGED, "default")).full_name
    assert path.inherent_ms({"signal_delay_s": 0.0021, "model": model}) == pytest.approx(
        {"signal_delay_ms": 2.1, "window_ms": 128.0}
    )


def test_the_participant_has_a_row() -> None:
    assert stages.participant(20)["real_time_factor"] > 0


def test_each_array_is_heard_and_what_it_skips_is_counted() -> None:
    running, seen = Running(), arrays.Seen()
    running.live.say()  # the thread that decodes, played
    ended = threading.Event()

    def decode() -> None:
        while not ended.wait(0.01):
            running.live.say()
            running.live.skipped += 2

    thread = threading.Thread(target=decode)
    thread.start()
    try:
        arrays._round(seen, 0.3, lambda _: ([(running.port, ""), (running.port, "")], [os.getpid()]))
    finally:
        ended.set()
        thread.join()
        running.stop()
    found = seen.figures()
    assert found["sample_to_prediction"].keys() == {"first", "a1"}
    assert found["all_arrays"]["p50"] == pytest.approx(4.1)
    assert found["windows"] > 10
    assert found["skipped_windows"] > 10


def test_of_those_on_time():
    due = 100.0 + 0.001 * np.arange(1000)
    stamps = due.copy()
    stamps[500:510] = due[510] + 1e-5  # the sender slept, and made up for it: late by 10 to 1 ms
    decoded = np.delete(np.arange(1000), [*range(500, 510), 700, 701])
    assert scale.of_those_on_time(stamps, decoded) == (990, pytest.approx(988 / 990))
