"""Predictors over every split, scored, compared and put together, on trials whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.evaluation.made import made
from training.evaluation.features import log_variance
from training.evaluation.outcomes import Layout, Outcome, outcome
from training.evaluation.predictors import Foretold, Linear, by_prior, components, network
from training.evaluation.rows import WORDS, Row
from training.evaluation.scores import (
    EACH,
    LATER,
    LEFT_OUT,
    NEW,
    compared,
    compared_few,
    question,
    together,
    together_compared,
)
from training.evaluation.trial_file import Seen, read, write

TRIALS = made(n=100, sessions=5, strength=3.0)
LAYOUT = Layout.of(TRIALS.session, TRIALS.perceived, TRIALS.session == "s4")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    power = Linear(log_variance(TRIALS.windows), TRIALS.perceived)
    noise = Linear(np.random.default_rng(0).standard_normal((500, 5)), TRIALS.perceived)
    few = (50, 160, 9999)
    return {
        "power": outcome(power, LAYOUT, few, draws=4, permutations=20),
        "noise": outcome(noise, LAYOUT, few, draws=4),
        "prior": outcome(by_prior(TRIALS), LAYOUT),
    }


@pytest.fixture(scope="module")
def scored(outcomes: dict[str, Outcome]):
    odds = 3 * np.log(TRIALS.windows.std(axis=(1, 2)))
    ideal = 1 / (1 + np.exp(-(odds - odds.mean()) / odds.std() * 3))
    seen = Seen(TRIALS, {"window": ideal, "two_seconds": np.where(LAYOUT.session == "s4", ideal, np.nan)})
    return question(seen, LAYOUT, outcomes)


def test_new_sessions_are_never_learned_from():
    assert set(TRIALS.session[LAYOUT.training]) == {"s0", "s1", "s2", "s3"}
    assert (len(LAYOUT.training), len(LAYOUT.later), len(LAYOUT.new)) == (320, 80, 100)
    assert np.array_equal(LAYOUT.test, LAYOUT.new)
    without = Layout.of(TRIALS.session, TRIALS.perceived, np.zeros(500, bool))
    assert np.array_equal(without.test, without.later)


@pytest.mark.parametrize("kind", ["linear", "components", "network", "prior"])
def test_labels_of_what_is_tested_change_nothing(kind: str):
    """Every answer outside the rows that are learned from may be anything."""

    def foretold(perceived: np.ndarray) -> Foretold:
        trials = made(n=100, sessions=5, strength=3.0)
        trials.perceived[:] = perceived
        flat = trials.windows[:, :, ::16].reshape(500, -1)
        makers = {
            "linear": lambda: Linear(log_variance(trials.windows), perceived),
            "components": lambda: components(flat, perceived, 20),
            "network": lambda: network(trials.windows[:, :, ::2], perceived),
            "prior": lambda: by_prior(trials),
        }
        return makers[kind]()(LAYOUT.training)

    others = TRIALS.perceived.copy()
    untouched = np.setdiff1d(np.arange(500), LAYOUT.training)
    others[untouched] = ~others[untouched]
    mine, theirs = foretold(TRIALS.perceived), foretold(others)
    assert np.array_equal(mine.probability, theirs.probability)
    assert mine.threshold == theirs.threshold == TRIALS.perceived[LAYOUT.training].mean()


def test_every_split_decodes_and_noise_does_not(scored):
    assert set(scored.rows) == {NEW, LATER, EACH, LEFT_OUT}
    for where, rows in scored.rows.items():
        assert rows["power"].numbers["balanced_accuracy"] > 0.68, where
        low, _ = rows["noise"].numbers["interval"]
        assert low < 0.55, where
        assert rows["power"].numbers["trials"] == {NEW: 100, LATER: 80, EACH: 80, LEFT_OUT: 400}[where]
    assert scored.rows[NEW]["power"].numbers["brier"]["skill"] > 0.1
    assert scored.rows[NEW]["power"].numbers["within_cells"]["auc"] > 0.7


def test_efficiency_stands_beside_every_row_where_there_is_an_observer(scored):
    rows = scored.rows[NEW]
    assert rows["observer_window"].numbers["efficiency"]["value"] == 1.0
    assert 0.6 < rows["power"].numbers["efficiency"]["value"] <= 1.3
    assert "observer_two_seconds" in rows
    assert "observer_two_seconds" not in scored.rows[LATER]  # it was not asked of those


def test_differences_are_of_the_same_trials(scored):
    found = compared(scored, NEW, "power", "noise")
    assert found["interval"][0] > 0
    assert found["mcnemar"]["p"] < 0.05
    expected = (scored.rows[NEW][name].numbers["balanced_accuracy"] for name in ("power", "noise"))
    assert found["balanced_accuracy"] == pytest.approx(np.subtract(*expected))
    assert compared(scored, NEW, "power", "unheard of") is None


def test_few_labels_are_runs_and_their_mean_is_scored(scored, outcomes):
    assert set(scored.few) == {50, 160}  # nobody has 9999
    assert outcomes["power"].few[50][0].shape == (4, 100)
    assert outcomes["power"].few[160][0].shape == (2, 100)  # no two runs overlap
    numbers = scored.few[50]["power"].numbers
    assert numbers["balanced_accuracy"] == pytest.approx(np.mean(numbers["by_draw"]))
    assert compared_few(scored, 160, "power", "noise")["interval"][0] > 0
    assert compared_few(scored, 50, "prior", "noise") is None


def test_permuted_labels_give_chance(outcomes):
    luck = outcomes["power"].by_chance
    assert luck.mean() == pytest.approx(0.5, abs=0.06)  # one strong feature is right or wrong in most trials by luck


def test_sessions_of_one_kind_of_answer_are_left_out_and_said():
    told = TRIALS.perceived.copy()
    told[TRIALS.session == "s1"] = True
    found = outcome(Linear(log_variance(TRIALS.windows), told), Layout.of(TRIALS.session, told, LAYOUT.session == "s4"))
    probability, _ = found.per_session
    assert np.isnan(probability[TRIALS.session == "s1"]).all()
    assert np.isfinite(probability[LAYOUT.later][TRIALS.session[LAYOUT.later] == "s0"]).all()
    trials = made(n=100, sessions=5, strength=3.0)
    trials.perceived[:] = told
    layout = Layout.of(trials.session, told, LAYOUT.session == "s4")
    assert question(Seen(trials, {}), layout, {"power": found}).rows[EACH]["power"].numbers["trials"] == 60


def test_where_no_session_has_both_answers_none_is_scored_by_itself():
    trials = made(n=100, sessions=5, strength=3.0)
    trials.perceived[:400] = np.isin(trials.session[:400], ["s0", "s2"])
    layout = Layout.of(trials.session, trials.perceived, LAYOUT.session == "s4")
    found = outcome(Linear(log_variance(trials.windows), trials.perceived), layout)
    rows = question(Seen(trials, {}), layout, {"power": found}).rows
    assert "power" not in rows[EACH]
    assert "power" in rows[NEW]


def test_participants_are_put_together_sample_by_sample(scored):
    rows = [scored.rows[NEW]["power"]] * 3
    found = together(rows, [scored.rows[NEW]["observer_window"]] * 3)
    one = rows[0].numbers
    assert found["balanced_accuracy"] == pytest.approx(one["balanced_accuracy"])
    assert found["interval"] == pytest.approx(one["interval"])  # three times the same trials tell nothing new
    assert found["trials"] == 300
    assert found["efficiency"]["value"] == pytest.approx(one["efficiency"]["value"])
    assert found["over_participants"]["interval"] == pytest.approx([one["balanced_accuracy"]] * 2)
    pair = together_compared(rows, [scored.rows[NEW]["noise"]] * 3)
    assert pair["interval"] == pytest.approx(compared(scored, NEW, "power", "noise")["interval"])


def test_files_give_back_what_was_written(tmp_path, outcomes, scored):
    write(tmp_path / "a.npz", {"evoked": Seen(TRIALS, {"window": np.arange(500.0)})})
    found = read([tmp_path / "a.npz", tmp_path / "a.npz"], "evoked")
    assert len(found.trials) == 1000
    assert np.array_equal(found.trials.perceived[:500], TRIALS.perceived)
    assert np.allclose(found.trials.windows[500:], TRIALS.windows, rtol=1e-3, atol=1e-3)
    assert np.array_equal(found.observers["window"][:500], np.arange(500.0))
    again = Outcome.from_arrays(outcomes["power"].arrays())
    assert np.array_equal(again.pooled.probability, outcomes["power"].pooled.probability)
    assert set(again.few) == {50, 160}
    assert np.array_equal(again.left_out[1], outcomes["power"].left_out[1], equal_nan=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mae", ("mae", "mean", None)),
        ("mae_mean_and_spread", ("mae", "mean_and_spread", None)),
        ("mae_slow", ("mae", "mean_slow", None)),
        ("mae_place_slow_and_stimulus", ("mae", "place_slow", "stimulus")),
        ("untrained_place_slow", ("untrained", "place_slow", None)),
        ("mae_served", ("mae", "served", None)),
        ("electrodes_removed_served", ("electrodes_removed", "served", None)),
        ("mae_served_and_without_cortex", ("mae", "served", "without_cortex")),
        ("electrodes_removed", ("electrodes_removed", "mean", None)),
        ("statistics_slow_and_stimulus", (None, "statistics_slow", "stimulus")),
        ("stimulus", (None, "stimulus", None)),
        ("without_cortex", (None, "without_cortex", None)),
    ],
)
def test_a_row_says_what_it_reads(name: str, expected: tuple):
    assert name in WORDS
    row = Row.of(name)
    assert (row.encoder, row.pooling, row.beside) == expected
