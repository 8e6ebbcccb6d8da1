"""The best bundle for a budget: the most accurate that keeps it, and an honest no where none does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import OperatorFault
from models.runtime import ort
from server.bench import choose as choosing
from server.bench.choose import Point, best, budget_ms, by_participant, choose, sentences
from server.cli import run
from tests.models import bundles
from tests.models.bundles import small_bundle

REST = {"p50": 0.5, "p99": 1.5, "p99.9": 2.0, "max": 3.0}


def point(name: str, accuracy: float | None, p50: float) -> Point:
    return Point(name, "P1", "int8", accuracy, None, p50, 1.2 * p50)


def test_budgets() -> None:
    assert [budget_ms(text) for text in ("5ms", "5 ms", "5", "0.8ms")] == [5.0, 5.0, 5.0, 0.8]
    for text in ("", "0", "0ms", "-5", "five", "5s", "nan"):
        with pytest.raises(OperatorFault, match="such as 5ms"):
            budget_ms(text)


def test_the_most_accurate_that_keeps_it() -> None:
    points = [point("small", 61.0, 1.0), point("large", 66.0, 4.0), point("as good, faster", 66.0, 3.0)]
    chosen = [best([*points, point("says nothing", None, 0.1)], ms) for ms in (10.0, 4.0, 3.0, 0.5, 0.05)]
    assert [one and one.name for one in chosen] == [
        "as good, faster",
        "as good, faster",
        "small",
        "says nothing",
        None,
    ]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(choosing, "rest_of_the_path", lambda seconds: REST)
    monkeypatch.setattr(choosing, "REPEATS", 40)
    measured = {"prestimulus": {"balanced_accuracy": 0.63, "interval": [0.6, 0.66]}}
    precisions = {
        name: one.model_copy(update={"metrics": measured if name == "int8" else {}})
        for name, one in bundles.manifest().precisions.items()
    }
    small_bundle(tmp_path, precisions=precisions)
    return tmp_path


def test_a_repository_is_measured(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert run(["bench", "--choose", "50ms", "--bundles", str(repository), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "simulated: small@1 as int8: balanced accuracy 63.0 %" in said
    assert "small@1              float32        –" in said
    found: Any = __import__("json").loads(out.read_text())
    assert found["chosen"]["simulated"]["interval"] == [60.0, 66.0]
    assert len(found["points"]) == 2


def test_one_precision_is_measured_alone_and_another_provider_asked(repository: Path) -> None:
    assert [one["precision"] for one in choose(50.0, repository, precision="float32")["points"]] == ["float32"]
    assert run(["bench", "--choose", "50ms", "--bundles", str(repository), "--precision", "int8"]) == 0
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(OperatorFault, match="asked for cuda"):
            choose(50.0, repository, "cuda")


def test_none_is_said_with_what_stands_in_the_way(repository: Path) -> None:
    (said,) = sentences(choose(1.0, repository))
    assert said.startswith("simulated: no bundle keeps 1 ms here: the way alone takes 1.50 ms (p99)")
    with pytest.raises(OperatorFault, match="found no such folder, expected one of bundles"):
        choose(5.0, repository / "typo")


def test_one_participants_bundle_is_not_chosen_over_anothers() -> None:
    points = [point("small", 61.0, 1.0), replace(point("large", 66.0, 4.0), participant="P2")]
    assert {one: best(own, 10.0) for one, own in by_participant(points).items()} == {"P1": points[0], "P2": points[1]}


def test_what_cannot_be_opened_is_left_out_and_named(repository: Path) -> None:
    (repository / "small" / "1" / "model.int8.onnx").write_bytes(b"cut short")
    with pytest.raises(OperatorFault, match=r"found no bundle that runs here: .*has sha256"):
        choose(5.0, repository)
    (repository / "small" / "1" / "manifest.json").write_text("{}")
    with pytest.raises(OperatorFault, match="found no bundle that runs here"):
        choose(5.0, repository)
