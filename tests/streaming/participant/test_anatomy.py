"""The array, and what happens to it from day to day."""

from dataclasses import replace

import numpy as np
import pytest

from streaming.participant.anatomy import anatomy, smooth_field
from streaming.participant.drift import day_truth
from streaming.participant.settings import ParticipantSettings
from streaming.participant.units import units

DAYS = range(0, 120, 4)


@pytest.fixture(scope="module")
def truths():
    return [day_truth(0, day) for day in DAYS]


def test_96_places_on_the_grid_without_its_corners():
    a = anatomy(ParticipantSettings())
    places = {tuple(place) for place in a.column_row.tolist()}
    assert len(places) == 96
    assert not places & {(0, 0), (9, 0), (0, 9), (9, 9)}
    assert a.map.labels[0] == "elec1"
    assert a.map.labels[-1] == "elec96"


def test_the_map_is_the_participants_and_stays():
    first, later, other = (anatomy(ParticipantSettings(seed=s, day=d)).map for s, d in ((0, 0), (0, 9), (1, 0)))
    assert first == later
    assert first != other


def test_loadings_are_smooth_over_the_array():
    position = anatomy(ParticipantSettings()).position_mm
    fields = np.stack([smooth_field(position, "test", k) for k in range(300)])
    distance = np.hypot(*(position[:, None] - position[None]).transpose(2, 0, 1))
    correlation = np.corrcoef(fields.T)
    assert fields.var() == pytest.approx(1, abs=0.05)
    for d in (0.4, 0.8, 2.0):
        at = np.abs(distance - d) < 0.01
        assert correlation[at].mean() == pytest.approx(0.8 * np.exp(-(d**2) / 2), abs=0.05)


def test_gains_and_noise_wander_within_bounds(truths):
    gain = np.log([t.gain for t in truths])
    assert gain.std() == pytest.approx(0.25, abs=0.03)
    one, two = (np.log(day_truth(0, d).gain) for d in (10, 11))
    assert (two - one).std() == pytest.approx(0.05, abs=0.015)
    assert np.log([t.floor for t in truths]).std() == pytest.approx(0.2, abs=0.03)


def test_the_array_shifts_by_at_most_a_fifth_of_a_millimetre(truths):
    lengths = [np.hypot(*t.shift_mm) for t in truths]
    assert np.mean(lengths) > 0.02
    assert max(lengths) <= 0.2 + 1e-9


def test_electrodes_drop_out_and_return(truths):
    connected = np.mean([t.connected for t in truths[10:]])
    assert truths[0].connected.all()
    assert connected == pytest.approx(0.10 / 0.12, abs=0.08)


def test_units_turn_over_in_thirty_days():
    generation = day_truth(0, 30).unit_generation
    assert np.mean(generation == 0) == pytest.approx(np.exp(-1), abs=0.08)
    settings = ParticipantSettings()
    today, later = (units(replace(settings, day=d), anatomy(replace(settings, day=d))) for d in (0, 30))
    same = np.isclose(today.template_uv, later.template_uv).all(axis=(1, 2))
    assert 0.2 < same.mean() < 0.55


def test_thresholds_are_lognormal_and_drift():
    settings = ParticipantSettings(seed=5)
    logs = np.log([anatomy(replace(settings, seed=s)).threshold_ua for s in range(10)])
    assert logs.mean() == pytest.approx(np.log(30), abs=0.05)
    assert logs.std() == pytest.approx(0.45, abs=0.03)
    walk = [np.log(anatomy(replace(settings, day=d)).threshold_ua) for d in (0, 16)]
    assert (walk[1] - walk[0]).std() == pytest.approx(0.05 * 4, abs=0.05)
