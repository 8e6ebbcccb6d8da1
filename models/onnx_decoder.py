"""Runs a bundle with ONNX Runtime, after making sure that on this machine it does what it did where it was exported.

One window at a time, on one thread that does not spin: at this size more threads buy little and cost the tail, and the
signal thread needs the other core. Buffers are bound once and reused (buffers.py). The provider that was asked for is
the provider that runs, or nothing runs (providers.py).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.buffers import OTHERS, DeviceBuffers, HostBuffers
from models.bundle import Bundle, verify
from models.decoder import Decoded
from models.errors import BundleFault, OperatorFault
from models.manifest import Manifest, PrecisionName, ProviderName
from models.providers import RUNS, Model, open_session


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """How far this machine lands from the golden vectors: largest difference in probability, and in the embedding
    relative to its largest golden value. NaN compares as too far."""

    probability: float
    embedding: float
    holds: bool


class OnnxDecoder:
    """A running bundle. `choice` says in one sentence which precision runs and why."""

    def __init__(self, bundle: Bundle, provider: ProviderName, precision: PrecisionName) -> None:
        manifest = bundle.manifest
        self.manifest: Manifest = manifest
        self.precision: PrecisionName = precision
        self.choice = f"{precision} as asked"
        self._provider = provider
        on_gpu = provider != "cpu"
        with OTHERS if on_gpu else nullcontext():
            session = open_session(_model(bundle, precision), provider)
            spec = manifest.input
            _check_interface(session, manifest, f"{bundle.path / manifest.precisions[precision].file}")
            inputs = {
                "window": np.zeros((1, spec.channels, spec.bins), np.float32),
                "usable": np.zeros((1, spec.channels), bool),
            }
            outputs: dict[str, NDArray[Any]] = {"embedding": np.zeros((1, manifest.embedding_size), np.float32)}
            outputs |= {name: np.zeros(1, np.float32) for name in manifest.probes}
            self._buffers = (DeviceBuffers if on_gpu else HostBuffers)(session, inputs, outputs)
        self._window, self._usable = self._buffers.inputs["window"], self._buffers.inputs["usable"]

    @property
    def name(self) -> str:
        return self.manifest.full_name

    @property
    def provider(self) -> str:
        """`cpu`, `cuda` or `tensorrt`: what really runs, since anything else was refused at the start."""
        return self._provider

    @property
    def n_channels(self) -> int:
        return self.manifest.input.channels

    @property
    def n_bins(self) -> int:
        return self.manifest.input.bins

    def step(self, window: NDArray[np.float32], usable: NDArray[np.bool_]) -> Decoded:
        """`window` (channels, bins) of normalised MUA, `usable` (channels,). With no usable channel all is NaN.

        Raises:
            ValueError: another shape: our own bug.
        """
        if window.shape != self._window.shape[1:] or usable.shape != self._usable.shape[1:]:
            expected = (self._window.shape[1:], self._usable.shape[1:])
            raise ValueError(f"window {window.shape} and usable {usable.shape}, expected {expected}")
        self._window[0] = window
        self._usable[0] = usable
        outputs = self._buffers.run()
        return Decoded(
            embedding=outputs["embedding"][0].copy(),
            prestimulus=float(outputs["prestimulus"][0]) if "prestimulus" in outputs else None,
            evoked=float(outputs["evoked"][0]) if "evoked" in outputs else None,
        )

    def warm_up(self) -> bool:
        """By the thread that decodes live, before its windows: on a GPU its runs are one graph from now on. False where
        the GPU is busy with another bundle; the numbers are the same."""
        return self._buffers.capture()

    def check_golden(self, bundle: Bundle) -> GoldenCheck:
        """Runs the golden windows here and compares."""
        golden, precision = bundle.golden(), self.manifest.precisions[self.precision]
        decoded = [self.step(window, usable) for window, usable in zip(golden.windows, golden.usable, strict=True)]
        embedding = np.stack([one.embedding for one in decoded])
        scale = np.maximum(np.abs(golden.embedding).max(), np.finfo(np.float32).tiny)
        off_embedding = float(np.abs(embedding - golden.embedding).max() / scale)
        differences = [
            np.abs(np.array([getattr(one, name) for one in decoded]) - expected).max()
            for name, expected in golden.probabilities.items()
        ]
        off_probability = float(np.max(differences, initial=0.0))  # Python's max would lose a NaN behind a number
        holds = off_probability <= precision.probability_tolerance and off_embedding <= precision.embedding_tolerance
        return GoldenCheck(off_probability, off_embedding, holds)


def open_bundle(
    path: Path, provider: ProviderName = "cpu", precision: Literal["auto"] | PrecisionName = "auto"
) -> OnnxDecoder:
    """Verifies the bundle, picks the precision and returns it running.

    `auto` takes int8 where the bundle has it, the provider is the CPU and its golden vectors hold here; else float32.

    Raises:
        BundleFault: a hash, a shape, or the golden vectors of the chosen precision do not hold.
        OperatorFault: this machine cannot run the provider that was asked for, or the provider not that precision.
    """
    bundle = verify(path)
    offered = bundle.manifest.precisions
    reason = "as asked"
    if precision == "auto":
        precision, reason = "float32", "the bundle has no int8 model"
        if provider != "cpu":
            reason = "int8 is for CPUs"
        elif "int8" in offered:
            decoder = OnnxDecoder(bundle, provider, "int8")
            check = decoder.check_golden(bundle)
            if check.holds:
                decoder.choice = f"int8: golden vectors hold here ({_against(check, decoder)})"
                return decoder
            reason = f"int8 is unsound on this CPU ({_against(check, decoder)})"
    if precision not in offered:
        raise OperatorFault(f"{path} has no {precision} model; it has {', '.join(sorted(offered))}")
    if precision not in RUNS[provider]:
        raise OperatorFault(
            f"asked for {precision} on {provider}, which runs {', '.join(RUNS[provider])}; ask for one of these, or "
            "for another provider"
        )
    decoder = OnnxDecoder(bundle, provider, precision)
    check = decoder.check_golden(bundle)
    if not check.holds:
        raise BundleFault(
            f"{path}: golden vectors of {precision} do not hold on {provider} here ({_against(check, decoder)}); "
            "copy the bundle again, or export it again on a machine like this one"
        )
    decoder.choice = f"{precision}: {reason}; golden vectors hold here ({_against(check, decoder)})"
    return decoder


def _against(check: GoldenCheck, decoder: OnnxDecoder) -> str:
    allowed = decoder.manifest.precisions[decoder.precision]
    return (
        f"off by {check.probability:.2g} in probability, allowed {allowed.probability_tolerance:.2g}; "
        f"{check.embedding:.2g} in embedding, allowed {allowed.embedding_tolerance:.2g}"
    )


def _model(bundle: Bundle, precision: PrecisionName) -> Model:
    one = bundle.manifest.precisions[precision]
    weights = (one.weights, bundle.files[one.weights]) if one.weights else None
    return Model(bundle.files[one.file], weights, f"{bundle.path / one.file}")


def _check_interface(session: Any, manifest: Manifest, where: str) -> None:
    """Names, types and fixed dimensions of the graph against the manifest; the batch may be anything."""
    spec, size = manifest.input, manifest.embedding_size
    expected_inputs = {
        "window": ("tensor(float)", (spec.channels, spec.bins)),
        "usable": ("tensor(bool)", (spec.channels,)),
    }
    expected_outputs: dict[str, tuple[str, tuple[int, ...]]] = {"embedding": ("tensor(float)", (size,))}
    expected_outputs |= {name: ("tensor(float)", ()) for name in manifest.probes}
    for kind, found, expected in (
        ("inputs", session.get_inputs(), expected_inputs),
        ("outputs", session.get_outputs(), expected_outputs),
    ):
        has = {value.name: (value.type, tuple(value.shape[1:])) for value in found}
        if has != expected:
            raise BundleFault(f"{where} has {kind} {has}, expected {expected}; export the bundle again")
