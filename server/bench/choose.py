"""`phosphene bench --choose 5ms`: of each participant's bundles, which one decodes best within a budget, here.

What a bundle decodes was measured when it was exported (on trials that its probes never saw) and stands in its
manifest, for each precision. How long it takes is measured on this machine, in turns; so is the rest of the way, from
the newest sample to a client. Bundles of one participant compare; those of several do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import find_bundle, read_manifest, versions
from models.errors import BundleFault, Fault, OperatorFault
from models.manifest import Manifest, PrecisionName, ProviderName
from models.onnx_decoder import OnnxDecoder, open_bundle
from server.bench.measure import interleaved, percentiles
from server.bench.path import rest_of_the_path

PROBE = "prestimulus"  # the trigger's
REPEATS = 400
PATH_S = 10.0


@dataclass(frozen=True)
class Point:
    """One bundle in one precision: what it decodes (%, None where its manifest does not say), and its milliseconds."""

    name: str
    participant: str
    precision: str
    balanced_accuracy: float | None
    interval: tuple[float, float] | None
    p50_ms: float
    p99_ms: float


def budget_ms(text: str) -> float:
    """'5ms', '5 ms' or '5'.

    Raises:
        OperatorFault: anything else, or nothing above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:ms)?\s*", text)
    if found is None or not float(found[1]) > 0:
        raise OperatorFault(f"--choose {text!r}: expected milliseconds above 0, such as 5ms")
    return float(found[1])


def choose(
    budget: float, repository: Path, provider: ProviderName = "cpu", precision: PrecisionName | None = None
) -> dict[str, Any]:
    """Every bundle's point, the rest of the way, and for each participant the choice: the most accurate whose p99 and
    the rest's together keep the `budget` in milliseconds. In every precision that the provider runs, or in the one that
    is named.

    Raises:
        OperatorFault: no such folder, or no bundle that can be opened here.
    """
    if not repository.is_dir():
        raise OperatorFault(f"{repository}: found no such folder, expected one of bundles; name it with --bundles")
    opened, left_out = _opened(repository, provider, precision)
    if not opened:
        raise OperatorFault(f"{repository}: found no bundle that runs here: {'; '.join(left_out) or 'it is empty'}")
    points = _timed(opened)
    rest = rest_of_the_path(PATH_S)
    chosen = {one: best(own, budget - rest["p99"]) for one, own in by_participant(points).items()}
    return {
        "unit": "ms",
        "budget": budget,
        "rest_of_the_path": rest,
        "points": [vars(one) for one in points],
        "chosen": {one: point and vars(point) for one, point in chosen.items()},
        "left_out": left_out,
    }


def by_participant(points: Sequence[Point]) -> dict[str, list[Point]]:
    return {
        one: [point for point in points if point.participant == one] for one in sorted({p.participant for p in points})
    }


def best(points: Sequence[Point], within_ms: float) -> Point | None:
    """The most accurate whose p99 is within; of equals the faster. One that does not say what it decodes comes last."""
    fits = [one for one in points if one.p99_ms <= within_ms]
    return max(fits, key=lambda one: (one.balanced_accuracy or 0.0, -one.p50_ms), default=None)


def sentences(found: dict[str, Any]) -> list[str]:
    """The choice for each participant, for a person."""
    return [f"{one}: {_sentence(found, one)}" for one in found["chosen"]]


def _sentence(found: dict[str, Any], participant: str) -> str:
    chosen, rest, budget = found["chosen"][participant], found["rest_of_the_path"], found["budget"]
    if chosen is None:
        own = [one for one in found["points"] if one["participant"] == participant]
        fastest = min(own, key=lambda one: float(one["p99_ms"]))
        return (
            f"no bundle keeps {budget:g} ms here: the way alone takes {rest['p99']:.2f} ms (p99), the fastest, "
            f"{fastest['name']} as {fastest['precision']}, {fastest['p99_ms']:.2f} more"
        )
    accuracy = chosen["balanced_accuracy"]
    decodes = "it does not say what it decodes" if accuracy is None else f"balanced accuracy {accuracy:.1f} %"
    return (
        f"{chosen['name']} as {chosen['precision']}: {decodes}; inference {chosen['p50_ms']:.2f} ms (p99 "
        f"{chosen['p99_ms']:.2f}), the rest of the way {rest['p50']:.2f} (p99 {rest['p99']:.2f}), of {budget:g} ms"
    )


def _opened(
    repository: Path, provider: ProviderName, precision: PrecisionName | None
) -> tuple[list[tuple[Manifest, PrecisionName, OnnxDecoder]], list[str]]:
    opened, left_out = [], []
    names = sorted(entry.name for entry in repository.iterdir() if versions(repository, entry.name))
    for full in [f"{name}@{version}" for name in names for version in versions(repository, name)]:
        path = find_bundle(repository, full)
        try:
            manifest = read_manifest(path)
        except BundleFault as fault:
            left_out.append(str(fault))
            continue
        for each in manifest.precisions if precision is None else (precision,):
            try:
                opened.append((manifest, each, open_bundle(path, provider, each)))
            except Fault as fault:
                left_out.append(str(fault))
    return opened, left_out


def _timed(opened: Sequence[tuple[Manifest, PrecisionName, OnnxDecoder]]) -> list[Point]:
    calls: dict[str, Callable[[int], object]] = {}
    for k, (_, _, decoder) in enumerate(opened):
        window = np.random.default_rng(0).standard_normal((decoder.n_channels, decoder.n_bins)).astype(np.float32)
        calls[str(k)] = partial(_step, decoder, window, np.ones(decoder.n_channels, bool))
    for call in calls.values():
        for i in range(20):
            call(i)
    taken = interleaved(calls, REPEATS)
    points = []
    for (manifest, precision, _), values in zip(opened, taken.values(), strict=True):
        ms = percentiles(np.array(values) / 1e3)
        metrics = manifest.precisions[precision].metrics.get(PROBE, {})
        accuracy, interval = metrics.get("balanced_accuracy"), metrics.get("interval")
        points.append(
            Point(
                manifest.full_name,
                manifest.participant,
                precision,
                None if accuracy is None else 100 * accuracy,
                None if interval is None else (100 * interval[0], 100 * interval[1]),
                ms["p50"],
                ms["p99"],
            )
        )
    return points


def _step(decoder: OnnxDecoder, window: Any, usable: Any, _: int) -> object:
    return decoder.step(window, usable)
