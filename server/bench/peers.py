"""The same work done by others, in the same run: `phosphene bench --peers`. A peer that is not installed is left out,
and said.

    chain      ezmsg-sigproc's units beside ours and plain SciPy (mne-lsl filters with SciPy's `sosfilt`, too)
    network    torch's eager mode beside ONNX Runtime, the same network, one thread
    path       newest sample → probability: our decode thread, a plain loop of lists, SciPy and torch, one on mne-lsl
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault
from server.bench.measure import NoiseFloor, interleaved, percentiles
from server.bench.path import produce, serve_process, watch
from server.bench.stages import RATE, Push, chain
from server.running import free_port, status, wait_for
from streaming.signal.settings import ChainSettings

LOOPS = ("plain", "mne-lsl")


def peers(seconds: float) -> dict[str, Any]:
    """Every comparison for which there is somebody to compare with."""
    found: dict[str, Any] = {"unit": "µs a chunk; ms for network and path", "left_out": []}
    for bins in (1, 10):
        others = _others(ChainSettings(), found["left_out"])
        found[f"chain, {bins} ms"] = chain(96, 2000 // bins, bins, others)
    try:
        found |= {f"network, {preset}": network(preset) for preset in ("ci", "live")}
    except ImportError as missing:
        found["left_out"].append(f"network: {missing}")
    found["path"] = path(seconds, found["left_out"])
    found["left_out"] = sorted(set(found["left_out"]))
    return found


# The chain -----------------------------------------------------------------------------------------------------------


def _others(settings: ChainSettings, left_out: list[str]) -> dict[str, Push]:
    try:
        return {"ezmsg-sigproc": ezmsg_chain(settings)}
    except ImportError as missing:
        left_out.append(f"chain of ezmsg-sigproc: {missing}")
        return {}


def ezmsg_chain(settings: ChainSettings) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """ezmsg-sigproc's units for the same chain: whole bins in, z (bins, channels) out.

    Raises:
        ImportError: it is not installed.
    """
    from ezmsg.sigproc.affinetransform import CommonRereferenceSettings, CommonRereferenceTransformer
    from ezmsg.sigproc.binned_aggregate import BinnedAggregateSettings, BinnedAggregateTransformer
    from ezmsg.sigproc.butterworthfilter import ButterworthFilterSettings, ButterworthFilterTransformer
    from ezmsg.sigproc.math.abs import AbsTransformer
    from ezmsg.sigproc.math.clip import ClipSettings, ClipTransformer
    from ezmsg.sigproc.rollingscaler import RollingScalerProcessor, RollingScalerSettings
    from ezmsg.util.messages.axisarray import AxisArray

    low, high = settings.band_hz
    band = ButterworthFilterSettings(coef_type="sos", order=settings.band_order, cuton=low, cutoff=high)
    smooth = ButterworthFilterSettings(coef_type="sos", order=settings.lowpass_order, cutoff=settings.lowpass_hz)
    window_s = settings.normaliser.window_s
    units = [
        CommonRereferenceTransformer(CommonRereferenceSettings(mode="mean", axis="ch")),
        ClipTransformer(ClipSettings(min=-settings.clip_uv, max=settings.clip_uv)),
        ButterworthFilterTransformer(band),
        AbsTransformer(),
        ButterworthFilterTransformer(smooth),
        BinnedAggregateTransformer(BinnedAggregateSettings(bin_duration=1e-3)),
        RollingScalerProcessor(
            RollingScalerSettings(k_samples=None, window_size=window_s, update_with_signal=True, clip=None)
        ),
    ]
    told = [0]

    def push(samples_uv: NDArray[np.float32]) -> NDArray[np.float64]:
        axis = AxisArray.TimeAxis(fs=float(RATE), offset=told[0] / RATE)
        message = AxisArray(samples_uv, dims=["time", "ch"], axes={"time": axis}, key="peer")
        told[0] += len(samples_uv)
        for unit in units:
            message = unit(message)
        return np.asarray(message.data)

    return push


# The network ---------------------------------------------------------------------------------------------------------


def network(preset: str, repeats: int = 400) -> dict[str, Any]:
    """Milliseconds of a window on one thread: torch eager, ONNX Runtime float32 and int8, one encoder; and how far the
    embeddings of the others are from torch's, of its largest.

    Raises:
        ImportError: torch is not installed.
    """
    import torch

    from models.export import FoldedProbe, export_onnx
    from models.int8 import quantize_int8
    from models.networks.masked_autoencoder import PRESETS, build, pool
    from models.runtime import ort

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = PRESETS[preset]
        encoder = build(config).encoder.eval()
        window = np.random.default_rng(0).standard_normal((1, config.channels, config.bins)).astype(np.float32)
        usable = np.ones((1, config.channels), bool)
        model = export_onnx(encoder, {"prestimulus": FoldedProbe(np.ones(config.width), 0.0)})
        quantised = quantize_int8(model, window, usable)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        sessions = {
            name: ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            for name, graph in (("onnxruntime float32", model), ("onnxruntime int8", quantised))
        }
        inputs = torch.from_numpy(window), torch.from_numpy(usable)

        @torch.inference_mode()
        def eager(_: int) -> Any:
            return pool(*encoder(*inputs))

        def run(session: Any, _: int) -> Any:
            return session.run(["embedding"], {"window": window, "usable": usable})

        calls: dict[str, Callable[[int], object]] = {"torch eager": eager}
        calls |= {name: partial(run, session) for name, session in sessions.items()}
        for call in calls.values():
            for i in range(20):
                call(i)
        taken = interleaved(calls, repeats)
    finally:
        torch.set_num_threads(threads)
    found: dict[str, Any] = {name: percentiles(np.array(values) / 1e3) for name, values in taken.items()}
    expected = eager(0).numpy()
    found["off_torch"] = {
        name: float(np.abs(run(one, 0)[0] - expected).max() / np.abs(expected).max()) for name, one in sessions.items()
    }
    eager_ms = found["torch eager"]["p50"]
    return found | {"times_as_fast_as_torch": {name: eager_ms / found[name]["p50"] for name in sessions}}


# The whole path ------------------------------------------------------------------------------------------------------


def path(seconds: float, left_out: list[str]) -> dict[str, Any]:
    """Milliseconds of newest sample → probability at a 10 ms hop, and the share of windows that came; one after the
    other, each with the machine to itself, the same sender."""
    found: dict[str, Any] = {"seconds": seconds}
    with ExitStack() as stack, NoiseFloor() as floor:
        name, port = f"PhospheneBench-{os.getpid()}", free_port()
        produce(stack, name)
        with ExitStack() as one:
            process = serve_process(one, name, port)
            wait_for(lambda: status(port).get("state") == "running", 60.0)
            seen, ms, _ = watch(port, process.pid, seconds, 1)
            share = seen["share_of_windows"]
            found["phosphene"] = {"sample_to_probability": percentiles(ms["total"]), "share_of_windows": share}
        for loop in LOOPS:
            try:
                found[loop] = _loop(loop, name, seconds)
            except OperatorFault as fault:
                left_out.append(f"path of {loop}: {fault}")
    return found | {"noise_floor_ms": floor.percentiles_ms()}


def _loop(loop: str, name: str, seconds: float) -> dict[str, Any]:
    """One of `server.bench.peer_loops`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        arguments = [sys.executable, "-m", "server.bench.peer_loops", loop, name, str(seconds), str(out)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode or not out.exists():
            said = [line for line in done.stderr.splitlines() if "Error" in line and "|" not in line]  # not liblsl's
            raise OperatorFault((said or ["it ended without a word"])[-1])
        found = json.loads(out.read_text())
    late = np.array(found["late_ms"])
    return {"sample_to_probability": percentiles(late), "share_of_windows": len(late) / (seconds / found["hop_s"])}
