"""Which model files a bundle gets: a precision is judged by what it decodes, not by how far its numbers are off.

Each one calls the probes' held-out trials, a window at a time as live, and is compared with float32 on the same
trials. One that is worse by more than `MARGIN`, the whole interval of the difference beyond it, is not written; nor
is one whose probabilities are all a little higher or lower, since a threshold was chosen for those of float32. Few
trials cannot tell of balanced accuracy: the interval stands in the manifest and on the card, so that anybody sees
what was known.

The golden vectors' tolerance is another question, asked on every machine that serves: is this still the arithmetic that
was judged? A CPU without sound int8 products lands ten times further than one that has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import OperatorFault
from models.half import emulate
from models.manifest import Precision, PrecisionName
from models.runtime import ort
from training.readout import gain, percent, score
from training.trials import Trials

HELD_OUT = "held_out.npz"  # beside probes.json
MARGIN = 0.005  # of balanced accuracy, half a point
SHIFT = 0.02  # of the mean probability
FILES: dict[PrecisionName, str] = {
    "float32": "model.onnx",
    "float16": "model.float16.onnx",
    "bfloat16": "model.bfloat16.onnx",
    "int8": "model.int8.onnx",
}
# (probability, embedding) off the golden vectors: by the order of sums alone (1e-6 measured); by rounding (3e-4, 2e-4);
# by rounding (6e-4, 9e-4, emulated); by rounding (0.01, 0.01). Where a precision that decodes as well lands further at
# its export, twice that is allowed.
TOLERANCES: dict[PrecisionName, tuple[float, float]] = {
    "float32": (1e-3, 1e-3),
    "float16": (5e-3, 5e-3),
    "bfloat16": (0.02, 0.02),
    "int8": (0.03, 0.1),
}
EMULATED: tuple[PrecisionName, ...] = ("bfloat16",)  # no CPU runs it, and here is none but a CPU
KEPT = ("balanced_accuracy", "interval", "auc", "brier", "trials", "perceived")
Model = Any  # an ONNX Runtime session


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Trials that a probe was not fitted to: `windows` (n, channels, bins), `usable` (n, channels), answers (n,)."""

    windows: NDArray[np.float32]
    usable: NDArray[np.bool_]
    perceived: NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """Of one precision: its `numbers` for each probe, how far it lands from torch, why it is not written or None."""

    numbers: dict[str, dict[str, Any]]
    off: dict[str, float]
    why_not: str | None


def write_held_out(file: Path, tested: dict[str, Trials]) -> None:
    """By probe; windows in half precision, good to a thousandth of a z unit."""
    arrays: dict[str, Any] = {}
    for probe, trials in tested.items():
        arrays |= {
            f"{probe}.windows": np.where(trials.usable[:, :, None], trials.windows, 0).astype(np.float16),
            f"{probe}.usable": trials.usable,
            f"{probe}.perceived": trials.perceived,
        }
    np.savez(file, **arrays)


def read_held_out(file: Path, probes: list[str]) -> dict[str, HeldOut]:
    """
    Raises:
        OperatorFault: no such file, or not for these probes.
    """
    try:
        with np.load(file) as stored:
            return {
                name: HeldOut(
                    stored[f"{name}.windows"].astype(np.float32),
                    stored[f"{name}.usable"],
                    stored[f"{name}.perceived"],
                )
                for name in probes
            }
    except (OSError, ValueError, KeyError) as error:
        raise OperatorFault(
            f"{file} does not hold the held-out trials that each precision is judged by ({error}); run `phosphene "
            "probe` again"
        ) from error


def judge(
    models: dict[PrecisionName, bytes],
    golden: tuple[NDArray[np.float32], NDArray[np.bool_]],
    expected: dict[str, NDArray[np.float32]],
    held_out: dict[str, HeldOut],
    prevalence: dict[str, float],
) -> dict[PrecisionName, Judged]:
    """Each precision, float32 first: on the `golden` windows beside what torch gave, `expected`; on the held-out trials
    beside float32."""
    found: dict[PrecisionName, Judged] = {}
    plain: dict[str, NDArray[np.float64]] = {}
    for name, model in models.items():
        session = _open(emulate(model) if name in EMULATED else model)
        off = _off(_outputs(session, *golden, list(expected)), expected)
        numbers, why_not = {}, None
        for probe, trials in held_out.items():
            probability = _outputs(session, trials.windows, trials.usable, [probe])[probe].astype(np.float64)
            if not np.isfinite(probability).all():
                why_not = f"it gives {int((~np.isfinite(probability)).sum())} {probe} probabilities that are no numbers"
                break
            exact = plain.setdefault(probe, probability)
            called, rightly = probability > prevalence[probe], exact > prevalence[probe]
            scored = score(probability, trials.perceived, prevalence[probe])
            less, shift = gain(called, rightly, trials.perceived), float((probability - exact).mean())
            numbers[probe] = {kept: scored[kept] for kept in KEPT}
            numbers[probe] |= {
                "less_float32": less,
                "called_otherwise": float((called != rightly).mean()),
                "probability_shift": shift,
            }
            if less["interval"][1] < -MARGIN and why_not is None:
                why_not = (
                    f"on {len(called)} held-out trials its {probe} probe differs from float32's by {percent(less)} "
                    f"points of balanced accuracy, where {-100 * MARGIN:g} are allowed"
                )
            if abs(shift) > SHIFT and why_not is None:
                why_not = (
                    f"on {len(called)} held-out trials its {probe} probabilities are {shift:+.3f} from float32's on "
                    f"average, where {SHIFT:g} is allowed"
                )
        found[name] = Judged(numbers, off, why_not)
    return found


def described(name: PrecisionName, judged: Judged, weights: str | None = None) -> Precision:
    """What the manifest says of it; `weights`: the file beside it that holds them."""
    probability, embedding = TOLERANCES[name]
    widest = max((off for output, off in judged.off.items() if output != "embedding"), default=0.0)
    return Precision(
        file=FILES[name],
        weights=weights,
        probability_tolerance=max(probability, 2 * widest),
        embedding_tolerance=max(embedding, 2 * judged.off["embedding"]),
        metrics=judged.numbers,
        emulated=name in EMULATED,
    )


def card(judged: dict[PrecisionName, Judged]) -> str:
    """A section of the model card."""
    probes = list(judged["float32"].numbers)
    lines = [
        "",
        "## Precisions",
        "",
        "Balanced accuracy in % on the probes' held-out trials, and the difference from float32 on the same trials; "
        f"95 % bootstrap intervals. One that is worse by more than {100 * MARGIN:g}, with all of its interval, is not "
        f"written, nor one whose probabilities are off by more than {SHIFT:g} on average.",
        "",
        "| |" + "".join(f" {probe} | less float32 |" for probe in probes),
        "|---|" + "---|---|" * len(probes),
    ]
    for name, one in judged.items():
        cells = [
            f" {percent(one.numbers.get(probe))} | {percent(one.numbers.get(probe, {}).get('less_float32'))} |"
            for probe in probes
        ]
        lines.append(f"| {name}{', not written' if one.why_not else ''} |" + "".join(cells))
    if any(name in EMULATED for name in judged):
        lines += ["", f"{', '.join(EMULATED)}: emulated, since no CPU runs it (`models/half.py`)."]
    lines += ["", *(f"{name} is not written: {one.why_not}." for name, one in judged.items() if one.why_not)]
    return "\n".join(lines).rstrip() + "\n"


def _open(model: bytes) -> Model:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _outputs(
    session: Model, windows: NDArray[np.float32], usable: NDArray[np.bool_], names: list[str]
) -> dict[str, NDArray[Any]]:
    """A window at a time: an int8 model scales its activations by all that it is given at once."""
    rows = [session.run(names, {"window": w[None], "usable": u[None]}) for w, u in zip(windows, usable, strict=True)]
    return dict(zip(names, (np.concatenate(column) for column in zip(*rows, strict=True)), strict=True))


def _off(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[np.float32]]) -> dict[str, float]:
    """Largest difference of each output; the embedding's relative to its largest."""
    off = {name: float(np.abs(found[name] - expected[name]).max()) for name in expected}
    return off | {"embedding": off["embedding"] / float(np.abs(expected["embedding"]).max())}
