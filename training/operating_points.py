"""`python -m training.operating_points --out OUT`: what a faster decoder gives away.

Presets × share of the electrodes that are looked at × precision, each as latency against balanced accuracy on simulated
participants, the ideal observer beside them. A hop decodes a window no better or worse, so it is only said which hops a
point keeps. Every point is a real ONNX file, asked window by window as live: int8 scales its activations per window.

Participants, trials and rest are those of `phosphene evaluate --simulated`: with its cache as --cache only encoders of
other presets are new. A kill loses one step.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from threadpoolctl import threadpool_limits

from models.export import IN_POOLING, FoldedProbe, Reader, export_onnx
from models.int8 import quantize_int8
from models.networks.fewer_electrodes import FewerElectrodes, spread
from models.networks.flops import flops
from models.networks.slow_pooling import Embedder
from models.runtime import ort
from streaming.participant.settings import StateCode
from training.beside import embed
from training.checkpoints import load_encoder
from training.evaluation import rest, study
from training.evaluation.main import machine
from training.evaluation.outcomes import Layout
from training.evaluation.settings import Measures, Simulated
from training.evaluation.statistics import Resamples, balanced, interval
from training.evaluation.steps import Step, key
from training.evaluation.subject import Subject
from training.evaluation.trial_file import Seen
from training.operating_points_plot import plot
from training.readout import fit
from training.slow_pooling import learn
from training.trials import golden

PROTOCOL, PROBE = "threshold", "prestimulus"  # the trigger's question
TIMED = 300  # windows of each point, in turns
HOPS_MS = (1, 2, 4, 5, 10, 20)


@dataclass(frozen=True)
class Network:
    """A preset, and what is changed in it."""

    preset: str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([self.preset, *(f"{name} {value}" for name, value in self.changes.items())])


NETWORKS = (
    Network("pico"),
    Network("ci"),
    Network("live"),
    Network("tiny", {"patch_bins": 128}),
    Network("micro", {"patch_bins": 32}),
)


@dataclass(frozen=True)
class Asked:
    """`simulated` says how much of everything; `participants` are (code, seed)."""

    simulated: Simulated = field(default_factory=Simulated)
    measures: Measures = field(default_factory=Measures)
    participants: tuple[tuple[StateCode, int], ...] = (("mixed", 501), ("power", 501))
    networks: tuple[Network, ...] = NETWORKS
    shares: tuple[float, ...] = (1.0, 0.5, 0.25)

    def of(self, network: Network) -> Simulated:
        return replace(self.simulated, preset=network.preset, network=network.changes)


def run(asked: Asked, out: Path, cache: Path) -> dict[str, Any]:
    """Every point, and the choice of the best within budgets; `out`/result.json, points.csv and points.svg."""
    console = Console(stderr=True)
    points: list[dict[str, Any]] = []
    sessions: dict[str, Any] = {}
    observers = []
    for code, seed in asked.participants:
        for network in asked.networks:
            one = study.subject(asked.of(network), asked.measures, code, seed, False, cache / f"{code}-{seed}")
            for step in _steps(asked, network, code, seed, one):
                if not step.done:
                    console.print(f"{one.name} {network.name}: {step.words}")
                    step.do()
            seen, layout = one.load((PROTOCOL, PROBE))
            resamples = Resamples.drawn(layout.session[layout.test])
            for share in asked.shares:
                file = _file(one, network, share)
                if not file.exists():
                    console.print(f"{one.name} {network.name}: {share:.0%} of the electrodes")
                    _measure(one, seen, layout, share, file)
                with np.load(file) as stored:
                    for precision in ("float32", "int8"):
                        points.append(
                            {"participant": one.name, "network": network.name, "share": share, "precision": precision}
                            | {"gflop": float(stored["gflop"])}
                            | _score(stored[precision], float(stored["prevalence"]), seen, layout, resamples)
                        )
                        sessions.setdefault(f"{network.name} {share} {precision}", bytes(stored[f"{precision}.model"]))
        observers.append({"participant": f"{code}-{seed}"} | _observer(seen, layout, resamples))
    latency = _timed(sessions)
    for point in points:
        point |= latency[f"{point['network']} {point['share']} {point['precision']}"]
    found = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "asked": _told(asked),
        "observers": observers,
        "points": points,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    plot(found, out)
    return found


def _steps(asked: Asked, network: Network, code: StateCode, seed: int, one: Subject) -> list[Step]:
    """Rest is simulated again where only a new encoder needs it, and goes again."""
    found = study.steps(asked.of(network), asked.measures, code, seed, one)
    folder = one.folder / f"resting-{key(study.rest_sessions(asked.simulated, code, seed))}"
    if one.encoders["mae"].exists():
        return [step for step in found if step.kind != "pretraining"]
    return [*found, Step(one.encoders["mae"].with_suffix(".tidied"), partial(_tidy, folder), "tidying up")]


def _tidy(folder: Path, draft: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    draft.touch()


def _file(one: Subject, network: Network, share: float) -> Path:
    known = key(one.encoders["mae"].name, one.rest.name, [file.name for file in one.sessions[PROTOCOL]], share)
    return one.folder / f"point-{network.preset}-{known}.npz"


def _measure(one: Subject, seen: Seen, layout: Layout, share: float, file: Path) -> None:
    """Pooling from rest, a probe from the training part, two files; what each says of every tested trial."""
    encoder, _ = load_encoder(one.encoders["mae"])
    reader: Reader = encoder
    assert one.positions is not None
    if share < 1:
        reader = FewerElectrodes(encoder, spread(one.positions, round(share * encoder.reads))).eval()
    slow = learn(reader, rest.read(one.rest))
    embedder = Embedder(reader, slow).eval()
    learned = embed(embedder, seen.trials)[layout.training][:, : embedder.read]
    readout = fit(learned, seen.trials.perceived[layout.training])
    weight, bias = readout.folded()
    probe = {PROBE: FoldedProbe(np.pad(weight, (0, embedder.size - embedder.read)), bias)}
    float32 = export_onnx(reader, probe, slow)
    tried = golden(seen.trials)
    models = {"float32": float32, "int8": quantize_int8(float32, tried.windows, tried.usable, (IN_POOLING,))}
    arrays: dict[str, Any] = {"prevalence": readout.prevalence, "gflop": flops(reader.config) / 1e9}
    for precision, model in models.items():
        arrays[precision] = _ask(model, seen, layout.test)
        arrays[f"{precision}.model"] = np.frombuffer(model, np.uint8)
    draft = file.with_name(f".draft-{file.name}")
    with draft.open("wb") as stream:
        np.savez(stream, **arrays)
    draft.replace(file)


def _session(model: bytes) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _ask(model: bytes, seen: Seen, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    session, trials = _session(model), seen.trials
    said = [
        session.run([PROBE], {"window": trials.windows[row][None], "usable": trials.usable[row][None]})[0][0]
        for row in rows
    ]
    return np.array(said, np.float64)


def _score(
    said: NDArray[np.float64], prevalence: float, seen: Seen, layout: Layout, resamples: Resamples
) -> dict[str, Any]:
    perceived = seen.trials.perceived[layout.test]
    right = ((said > prevalence) == perceived).astype(float)
    drawn = resamples.balanced_accuracy(perceived, right)
    return {"balanced_accuracy": balanced(perceived, right), "interval": interval(drawn), "trials": len(perceived)}


def _observer(seen: Seen, layout: Layout, resamples: Resamples) -> dict[str, Any]:
    """O2: sees the same window."""
    usual = float(seen.trials.perceived[layout.training].mean())
    return _score(seen.observers["window"][layout.test], usual, seen, layout, resamples)


def _timed(models: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Milliseconds of a window on one thread, each point in turns, and which hops its p99 keeps."""
    rng = np.random.default_rng(0)
    calls = {}
    for name, model in models.items():
        session = _session(model)
        channels, bins = session.get_inputs()[0].shape[1:]
        window = rng.standard_normal((1, channels, bins)).astype(np.float32)
        calls[name] = partial(session.run, [PROBE], {"window": window, "usable": np.ones((1, channels), bool)})
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TIMED + 20):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= 20:
                taken[name].append((time.perf_counter() - began) * 1e3)
    found = {}
    for name, ms in taken.items():
        p50, p99 = np.percentile(ms, (50, 99))
        keeps = [hop for hop in HOPS_MS if p99 <= hop]
        found[name] = {"p50_ms": float(p50), "p99_ms": float(p99), "shortest_hop_ms": min(keeps, default=None)}
    return found


def best(points: Sequence[dict[str, Any]], within_ms: float) -> dict[str, Any] | None:
    """The most accurate on average over participants whose p99 is within; None where there is none."""
    means: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for point in points:
        means.setdefault((point["network"], point["share"], point["precision"]), []).append(point)
    fits = [each for each in means.values() if each[0]["p99_ms"] <= within_ms]
    chosen = max(fits, key=lambda each: np.mean([one["balanced_accuracy"] for one in each]), default=None)
    if chosen is None:
        return None
    kept = {name: chosen[0][name] for name in ("network", "share", "precision", "p50_ms", "p99_ms")}
    return kept | {"balanced_accuracy": float(np.mean([one["balanced_accuracy"] for one in chosen]))}


def _told(asked: Asked) -> dict[str, Any]:
    return {
        "participants": [f"{code}-{seed}" for code, seed in asked.participants],
        "networks": [network.name for network in asked.networks],
        "shares": list(asked.shares),
        "steps": asked.simulated.steps,
        "labels": asked.simulated.many.learning * asked.simulated.many.trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of result.json, points.csv and points.svg")
    parser.add_argument("--cache", type=Path, help="of `phosphene evaluate --simulated`; by default OUT/cache")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = run(Asked(), arguments.out, arguments.cache or arguments.out / "cache")
    for budget in (1.0, 2.0, 5.0, 10.0):
        print(f"within {budget:g} ms: {best(found['points'], budget)}")


if __name__ == "__main__":
    main()
