"""`phosphene evaluate` from the command line to the page, as small as a study can be."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.cli import run
from training.evaluation import abridged, attention, settings, subject
from training.evaluation.rows import WORDS
from training.evaluation.settings import QUICK, Measures, Stimulation
from training.evaluation.work import beside, simulated

FEW = Stimulation(learning=2, trials=24, new=1, new_trials=24, days=1)
SMALLEST = replace(
    QUICK, codes=("power",), steps=4, rest_days=5, rest_sessions=5, rest_s=13, threshold=FEW, psychometric=FEW
)
MEASURES = Measures(
    labels=(30,), draws=1, permutations=2, components=16, rest_windows=60, held_out_windows=40, removed_electrodes=10
)
# one of each kind, so that a minute is enough
ROWS = {
    name: WORDS[name]
    for name in (
        "raw_mua", "pca", "mae", "mae_registers", "mae_place_slow", "mae_served", "log_variance", "statistics_slow",
        "supervised", "untrained", "electrodes_removed", "stimulus", "prior", "mae_and_stimulus",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command") / "evaluation"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "QUICK", SMALLEST)
        patch.setattr(settings, "QUICK_MEASURES", MEASURES)
        patch.setattr(subject, "WORDS", ROWS)
        patch.setattr(attention, "STEPS", 10)
        asked = ["--with-controls", "9", "--codes", "power", "--out", str(folder), "--cores", "1"]
        assert run(["evaluate", "--simulated", "--quick", *asked]) == 0
    return folder


@pytest.mark.timeout(600)
def test_the_result_holds_every_row_and_the_page_every_section(out: Path) -> None:
    result = json.loads((out / "result.json").read_text())
    (who,) = result["participants"]
    assert who == "power-9"
    taken = [json.loads(line)["seconds"] for line in (out / "cache" / who / "seconds.jsonl").read_text().splitlines()]
    assert result["core_seconds"] == round(sum(taken)) > 0
    for probes in result["together"]["power, every control"].values():
        for numbers in probes.values():
            rows = numbers["rows"]["new sessions"]
            assert {*ROWS, "observer_window"} <= set(rows)
            assert all(0 <= one["balanced_accuracy"] <= 1 for one in rows.values())
    page = (out / "report.html").read_text()
    assert page.count('class="missing"') == 1
    assert "No session has enough trials at one electrode" in page  # two dozen trials at four electrodes
    for name in ("table-power--every-control", "figure-2", "figure-3", "reconstructions", "saliency", "pretraining"):
        assert f'id="{name}"' in page


def test_what_is_committed_of_it_keeps_the_numbers(out: Path, tmp_path: Path) -> None:
    abridged.main(out, tmp_path / "kept.json")
    result, kept = (json.loads(file.read_text()) for file in (out / "result.json", tmp_path / "kept.json"))
    assert kept["figures"] == abridged._rounded(json.loads((out / "figures" / "numbers.json").read_text()))
    assert kept["together"] == abridged._rounded(result["together"])
    (one,), (whole,) = kept["participants"].values(), result["participants"].values()
    for protocol, probes in one["questions"].items():
        for probe, asked in probes.items():
            (rows,), before = asked["rows"].values(), whole["questions"][protocol][probe]
            assert rows == abridged._rounded(before["rows"]["new sessions"])
            assert rows["mae_place_slow"]["auc"] == round(before["rows"]["new sessions"]["mae_place_slow"]["auc"], 4)
            assert set(asked["compared"]["new sessions"]["mae_place_slow - pca"]) >= {"interval", "mcnemar"}
            assert set(asked["compared_few"]["30"]) == set(abridged.PAPERS)
    few = abridged._scores(whole["questions"]["threshold"]["evoked"])
    assert set(few["rows"]["new sessions"]["pca"]) == set(abridged.SCORES)
    assert set(few["compared"]["new sessions"]) == set(abridged.PAPERS)


def test_the_looks_are_of_this_participants_windows_and_electrodes(out: Path) -> None:
    with np.load(out / "looks" / "power-9.npz") as looks:
        numbers = json.loads(str(looks["numbers"]))
        assert looks["position"].shape == (96, 2)
        assert len(np.unique(looks["position"], axis=0)) == 96
        assert looks["window"].shape == looks["rebuilt"].shape == (3, 96, 128)
        assert looks["masked"].mean() == pytest.approx(0.75, abs=0.01)
        maps = {name for name in looks if name.startswith("saliency.")}
    asked = {
        f"saliency.threshold.{probe}.{row}" for probe in ("prestimulus", "evoked") for row in ("mae", "mae_place_slow")
    }
    assert maps == asked == set(numbers) - {"rebuilt"}
    assert numbers["rebuilt"]["windows"] > 0
    low, high = numbers["rebuilt"]["interval"]["network"]
    assert low <= numbers["rebuilt"]["mse"]["network"] <= high


def test_again_nothing_is_computed_and_the_report_is_drawn_from_the_folder(out: Path) -> None:
    done = {file: file.stat().st_mtime_ns for file in (out / "cache").rglob("*.npz")}
    before = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert run(["evaluate", "--report-only", "--out", str(out)]) == 0
    assert (out / "report.html").read_bytes() == before
    assert {file: file.stat().st_mtime_ns for file in (out / "cache").rglob("*.npz")} == done


def test_a_report_of_nothing_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--report-only", "--out", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no result.json" in said
    assert "--out" in said


def test_what_is_done_side_by_side_needs_nothing_of_its_turn(tmp_path: Path) -> None:
    """Trials beside encoders, then embeddings, then every fit by itself; nothing is lost and nothing done twice."""
    (work,) = simulated(SMALLEST, MEASURES, tmp_path)
    turns = beside(work)
    kinds = [[{step.kind for step in chain.steps} for chain in turn] for turn in turns]
    assert kinds[0][1] == {"trials"}
    assert {"pretraining", "resting"} < kinds[0][0]
    assert kinds[1] == [{"embeddings"}]
    assert all(one in ({"fits"}, {"looks"}) for one in kinds[2])
    files = [step.file for turn in turns for chain in turn for step in chain.steps]
    assert sorted(files) == sorted(step.file for step in work.steps())
    assert pickle.loads(pickle.dumps(turns[2][0])).steps[0].file == turns[2][0].steps[0].file
