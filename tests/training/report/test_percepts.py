"""Separation and mixing of perceived and missed trials, where it is known how separate they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, silhouette_score

from training.report.percepts import area, groups, mixing, mixing_by_rate, silhouette

RNG = np.random.default_rng(0)


def test_area_is_scikit_learns_and_its_interval_that_of_two_ranks():
    perceived = RNG.random(400) < 0.4
    probability = np.round(0.2 * RNG.standard_normal(400) + 0.2 * perceived, 1)  # with ties
    found = area(perceived, probability)
    assert found["value"] == pytest.approx(roc_auc_score(perceived, probability))
    low, high = found["interval"]
    # Hanley and McNeil 1982
    a, yes, no = found["value"], perceived.sum(), (~perceived).sum()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + (yes - 1) * (q1 - a * a) + (no - 1) * (q2 - a * a)) / (yes * no))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert area(np.ones(20, bool), np.zeros(20)) == {"value": None, "interval": None}


def test_silhouette_of_apart_is_one_and_of_mixed_nothing():
    perceived = RNG.random(120) < 0.5
    noise = RNG.standard_normal((120, 5))
    apart = silhouette(noise + 100.0 * perceived[:, None], perceived)
    assert apart.value > 0.95
    assert apart.interval[1] < 0.1
    mixed = silhouette(noise, perceived)
    assert mixed.interval[0] - 0.01 <= mixed.value <= mixed.interval[1] + 0.01
    assert silhouette(noise, np.zeros(120, bool)) is None
    for kind in (np.arange(120) % 2 > 0, np.arange(120) % 10 == 0):
        assert silhouette(noise, kind).value == pytest.approx(silhouette_score(noise, kind), abs=1e-12)


def test_embeddings_that_know_nothing_mix_as_chance_says_at_every_rate():
    """Few neighbours of the other kind at 5 % are no separation: there are few of the other kind."""
    stimulus = np.repeat([f"{rate:.2f}" for rate in np.linspace(0.05, 0.95, 10)], 120)
    perceived = RNG.random(1200) < stimulus.astype(float)
    cells = mixing(RNG.standard_normal((1200, 6)), stimulus, perceived)
    assert [one.stimulus for one in cells] == sorted(set(stimulus))
    for one in cells:
        assert one.rate == pytest.approx(float(one.stimulus), abs=0.12)
        assert one.chance == pytest.approx(2 * one.rate * (1 - one.rate), rel=0.01)
        assert one.found == pytest.approx(one.chance, abs=0.06)
    by_rate = mixing_by_rate(cells)
    assert by_rate["0-20 %"]["found"] < 0.6 * by_rate["20-80 %"]["found"]
    assert all(one["share_of_chance"] == pytest.approx(1, abs=0.15) for one in by_rate.values())
    assert sum(one["trials"] for one in by_rate.values()) == 1200


def test_separated_answers_do_not_mix():
    stimulus = np.repeat(["a", "b"], 100)
    perceived = RNG.random(200) < 0.5
    points = RNG.standard_normal((200, 4)) + 50.0 * perceived[:, None]
    for one in mixing(points, stimulus, perceived):
        assert one.found == 0
        assert one.chance == pytest.approx(0.5, abs=0.03)
    assert mixing(points[:20], np.arange(20).astype(str), perceived[:20]) == []
    assert mixing_by_rate([]) == {}


def test_groups_are_sessions_and_electrodes_from_low_to_high_rate():
    session, electrode = np.repeat(["x", "y"], 80), np.tile(np.repeat([6, 25], 40), 2)
    rate = np.repeat([0.7, 0.2, 0.5, 0.9], 40)
    perceived = RNG.random(160) < rate
    trials = {"session": session, "electrode": electrode, "perceived": perceived, "mae": rate.astype(np.float32)}
    found = groups(RNG.standard_normal((160, 8)), trials, np.arange(160))
    assert [(one.session, one.electrode) for one in found] == [("x", 25), ("y", 6), ("x", 6), ("y", 25)]
    for one in found:
        assert one.rate == perceived[one.rows].mean()
        assert one.auc["value"] in (None, 0.5)  # what was foretold is the same for all of a group
        assert one.points.shape == (40, 8)
    assert len(groups(RNG.standard_normal((160, 8)), trials, np.arange(100))) == 2  # too few left of the others
