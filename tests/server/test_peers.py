"""Peers do the same work, where they are installed, and are named where they are not."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from server.bench import peers
from server.bench.main import bench
from server.bench.stages import PlainChain
from streaming.signal.settings import ChainSettings, NormaliserSettings

QUICK = ChainSettings(normaliser=NormaliserSettings(window_s=1.0))


def test_ezmsg_computes_what_the_plain_chain_computes() -> None:
    pytest.importorskip("ezmsg.sigproc")
    x = (20 * np.random.default_rng(0).standard_normal((90_000, 8))).astype(np.float32)
    chain, plain = peers.ezmsg_chain(QUICK), PlainChain(QUICK, 8)
    found = np.concatenate([chain(x[i : i + 300]) for i in range(0, len(x), 300)])
    expected = np.concatenate([plain.push(x[i : i + 300]) for i in range(0, len(x), 300)])
    assert found.shape == expected.shape
    # its filters begin at rest or in their steady state, by version: the same after a while
    correlation = np.corrcoef(found[2000:].ravel(), expected[2000:].ravel())[0, 1]
    assert correlation > 0.99


def test_the_network_runs_in_torch_and_onnxruntime() -> None:
    pytest.importorskip("torch")
    found = peers.network("ci", repeats=20)
    timed = {"torch eager", "onnxruntime float32", "onnxruntime int8"}
    assert set(found) == timed | {"times_as_fast_as_torch", "off_torch"}
    assert found["off_torch"]["onnxruntime float32"] < 1e-5
    assert found["off_torch"]["onnxruntime int8"] < 0.1
    assert all(found[name]["p50"] > 0 for name in ("torch eager", "onnxruntime int8"))


def test_who_is_not_installed_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_import = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith(("ezmsg", "torch")):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return plain_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(peers, "path", lambda seconds, left_out: left_out.append("path of mne-lsl: not here") or {})
    monkeypatch.setattr(peers, "chain", lambda *arguments: {"others": sorted(arguments[3])})
    found = bench(["peers"], 1.0, None)["rows"]["peers"]
    assert found["chain, 1 ms"] == {"others": []}
    assert [one.partition(":")[0] for one in found["left_out"]] == [
        "chain of ezmsg-sigproc",
        "network",
        "path of mne-lsl",
    ]


def test_the_plain_loop_runs() -> None:
    """Against the real sender, for a few seconds: what it gives is milliseconds and windows."""
    import os
    from contextlib import ExitStack

    from server.bench.path import produce

    with ExitStack() as stack:
        name = f"PhospheneTest-{os.getpid()}"
        produce(stack, name)
        found = peers._loop("plain", name, 2.0)
    assert found["sample_to_probability"]["p50"] > 0
    assert 0 < found["share_of_windows"] <= 1.05


def test_peers_are_asked_for_by_name_or_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = __import__("server.bench.main", fromlist=["ROWS"]).ROWS
    for row in list(rows):
        monkeypatch.setitem(rows, row, lambda seconds: {"unit": "ms"})
    assert not {"peers", "large"} & bench([], 1.0, None)["rows"].keys()
    assert list(bench([], 1.0, None, with_peers=True)["rows"])[-1] == "peers"
    assert list(bench(["bundle"], 1.0, None, with_peers=True)["rows"]) == ["bundle", "peers"]
