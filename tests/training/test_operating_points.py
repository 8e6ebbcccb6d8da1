"""Operating points are real files on real trials, and the best within a budget is the best within it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training import operating_points as op
from training.evaluation.settings import QUICK, QUICK_MEASURES, Stimulation
from training.operating_points import Asked, Network, best, run

SMALL = Asked(
    simulated=replace(QUICK, steps=12, many=Stimulation(learning=2, trials=40, new=1, new_trials=40, days=1)),
    measures=QUICK_MEASURES,
    participants=(("power", 903),),
    networks=(Network("pico"), Network("nano", {"patch_bins": 32})),
    shares=(1.0, 0.25),
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("points")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(op, "TIMED", 20)
        run(SMALL, out, out / "cache")
        (out / "result.json").unlink()
        patch.setattr(op, "_measure", None)  # everything stands: nothing is measured twice
        return run(SMALL, out, out / "cache"), out


def test_every_point_is_there_with_its_interval(found: tuple[dict[str, Any], Path]) -> None:
    result, out = found
    points = result["points"]
    assert len(points) == 2 * 2 * 2
    for point in points:
        low, high = point["interval"]
        assert low <= point["balanced_accuracy"] <= high
        assert point["trials"] > 20
        assert 0 < point["p50_ms"] <= point["p99_ms"]
    of = {(p["network"], p["share"], p["precision"]): p for p in points}
    assert of["nano patch_bins 32", 0.25, "int8"]["gflop"] < 0.3 * of["nano patch_bins 32", 1.0, "int8"]["gflop"]
    assert of["nano patch_bins 32", 0.25, "float32"]["p50_ms"] < of["nano patch_bins 32", 1.0, "float32"]["p50_ms"]
    (observer,) = result["observers"]
    assert observer["balanced_accuracy"] > 0.5
    assert json.loads((out / "result.json").read_text())["machine"]["cores"]


def test_a_picture_and_a_table(found: tuple[dict[str, Any], Path]) -> None:
    result, out = found
    with (out / "points.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["balanced_accuracy"]) for row in rows] == [one["balanced_accuracy"] for one in result["points"]]
    assert "ideal observer of the window" in (out / "points.svg").read_text()


def test_rest_does_not_stay_behind(found: tuple[dict[str, Any], Path]) -> None:
    _, out = found
    assert not [folder for folder in (out / "cache" / "power-903").iterdir() if folder.is_dir()]


def test_the_best_within_a_budget() -> None:
    def point(participant: str, network: str, accuracy: float, p99: float) -> dict[str, Any]:
        return {"participant": participant, "network": network, "share": 1.0, "precision": "int8", "p50_ms": p99 / 2,
                "p99_ms": p99, "balanced_accuracy": accuracy}  # fmt: skip

    points = [point("a", "small", 0.60, 1.0), point("b", "small", 0.62, 1.0), point("a", "large", 0.59, 4.0),
              point("b", "large", 0.69, 4.0)]  # fmt: skip
    assert best(points, 5.0) == {"network": "large", "share": 1.0, "precision": "int8", "p50_ms": 2.0, "p99_ms": 4.0,
                                 "balanced_accuracy": pytest.approx(0.64)}  # fmt: skip
    assert (best(points, 2.0) or {})["network"] == "small"
    assert best(points, 0.5) is None
