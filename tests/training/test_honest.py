"""What must be true of a masked autoencoder that is worth its name, on one simulated participant at the size of a test.

The state is only in the amplitude of a travelling wave (`power`), so that nothing linear in the activity can see it.
Sizes and steps are those of a minute or two: that it holds at all is asked here, how well is `phosphene evaluate`'s.
Parameter counts, one batch learnt by heart, parity, causality and artifacts have tests of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.evaluation import subject
from training.evaluation.main import evaluate_simulated
from training.evaluation.rows import WORDS
from training.evaluation.settings import Measures, Simulated, Stimulation

ROWS = (
    "raw_mua", "pca", "mae", "mae_place_slow", "statistics_slow", "no_cross_session", "electrodes_removed_place_slow",
    "stimulus",
)  # fmt: skip
STUDY = Simulated(
    seeds=(),
    control_seeds=(611,),
    codes=("power",),
    preset="ci",
    network={},
    training={"cross_session_weight": 0.05},
    steps=300,
    rest_days=8,
    rest_sessions=16,
    rest_s=60,
    threshold=Stimulation(learning=6, trials=120, new=4, new_trials=250, days=2),
    psychometric=Stimulation(learning=2, trials=24, new=1, new_trials=24, days=1),
)
MEASURES = Measures(
    labels=(200,),
    draws=3,
    permutations=20,
    components=256,
    rest_pairs=1500,
    held_out_windows=100,
    removed_electrodes=10,
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("honest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "WORDS", {name: WORDS[name] for name in ROWS})
        found = evaluate_simulated(out, STUDY, MEASURES, cores=1)
    assert found is not None
    with np.load(next((Path(out) / "looks").glob("*.npz"))) as looks:
        found["rebuilt"] = json.loads(str(looks["numbers"]))["rebuilt"]
    return found


def numbers(result: dict[str, Any], probe: str = "prestimulus") -> dict[str, Any]:
    (one,) = result["participants"].values()
    return one["questions"]["threshold"][probe]


@pytest.mark.timeout(900)
def test_it_rebuilds_better_than_what_needs_no_learning(result: dict[str, Any]) -> None:
    mse = result["rebuilt"]["mse"]
    assert mse["network"] < min(mse["rest"], mse["neighbours"], mse["line"])


def test_it_reads_what_nothing_linear_can(result: dict[str, Any]) -> None:
    rows = numbers(result)["rows"]["new sessions"]
    for linear in ("raw_mua", "pca"):
        assert rows[linear]["balanced_accuracy"] < 0.54
        assert rows[linear]["interval"][0] <= 0.5
    assert rows["mae_place_slow"]["interval"][0] > 0.5
    compared = numbers(result)["compared"]["new sessions"]
    for linear in ("raw_mua", "pca"):
        assert compared[f"mae_place_slow - {linear}"]["interval"][0] > 0


def test_two_hundred_labels_are_enough_to_be_ahead_of_components(result: dict[str, Any]) -> None:
    assert numbers(result)["compared_few"][200]["mae_place_slow - pca"]["interval"][0] > 0


def test_no_more_than_the_ideal_observer_sees(result: dict[str, Any]) -> None:
    rows = numbers(result)["rows"]["new sessions"]
    share = rows["mae_place_slow"]["efficiency"]
    assert share["interval"][0] < 1.0
    assert share["value"] > 0.3


def test_permuted_labels_tell_nothing(result: dict[str, Any]) -> None:
    for found in numbers(result)["permuted_labels"].values():
        low, high = found["interval"]
        assert low <= 0.5 <= high


def test_the_cross_session_loss_takes_the_session_out_of_the_embedding(result: dict[str, Any]) -> None:
    (one,) = result["participants"].values()
    told = {name: one["rest"][name]["session_identity"]["accuracy"] for name in ("mae", "no_cross_session")}
    assert told["mae"] < told["no_cross_session"]


def test_ten_lost_electrodes_cost_little(result: dict[str, Any]) -> None:
    lost = numbers(result)["compared"]["new sessions"]["electrodes_removed_place_slow - mae_place_slow"]
    assert lost["balanced_accuracy"] > -0.02
