"""Windows of level A carry what the state code says, as the ideal observer of the window finds."""

import functools

import numpy as np
import pytest

from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import train
from streaming.participant.window_observer import WindowObserver
from tests.streaming.participant.closed_forms import at_threshold, balanced_accuracy

TRIALS = 350
APART = 2500


@functools.cache
def trials(code: str, ignition: float = 0.0):
    """An observer, windows before and after, 2 s before, and the truth about each trial at the threshold current."""
    settings = ParticipantSettings(state_code=code, lapse=0.0, ignition=ignition)
    participant = Participant(settings)
    reader = LevelA(participant)
    before, after, delivered = [], [], []
    for k in range(TRIALS):
        electrode, onset = (6, 25, 53, 65)[k % 4], (k + 1) * APART
        current = float(participant.anatomy.threshold_ua[electrode - 1])
        delivered.append(participant.stimulate(train(electrode, current), 30 * onset))
        reader.seek(onset - 2048)
        before.append(reader.read(2048))
        reader.read(170)
        after.append(reader.read(128))
    return WindowObserver(settings, participant.anatomy), np.array(before), np.array(after), delivered


@functools.cache
def belief(code: str, bins: int):
    observer, before, _, _ = trials(code)
    return observer.belief(before[:, -bins:])


def reliability(code: str) -> tuple[float, float]:
    """ρ² and slope of the truth on the estimate of s from the last 128 ms before the stimulus."""
    observer, before, _, delivered = trials(code)
    state = np.array([d.prestimulus_state for d in delivered])
    estimate = observer.state_estimate(before[:, -128:])
    return np.corrcoef(estimate, state)[0, 1] ** 2, np.polyfit(estimate, state, 1)[0]


@pytest.mark.parametrize(("code", "expected"), [("linear", 0.52), ("mixed", 0.65), ("power", 0.79)])
def test_the_window_tells_the_state_and_the_observer_is_calibrated(code, expected):
    found, slope = reliability(code)
    assert found == pytest.approx(expected, abs=0.15)  # of 350 trials; expected is that of 600
    assert slope == pytest.approx(
        1, abs=0.2
    )  # a posterior mean regresses onto the truth with slope 1 (standard error 0.08)


def linear_readout(code: str) -> float:
    """r² of the state read from electrode means of 128 ms by ridge regression, on the other half of the trials."""
    _, before, _, delivered = trials(code)
    state = np.array([d.prestimulus_state for d in delivered])
    x = before[:, -128:].mean(1)
    x = (x - x.mean(0)) / x.std(0)
    half = TRIALS // 2
    weights = np.linalg.solve(x[:half].T @ x[:half] + 30 * np.eye(96), x[:half].T @ state[:half])
    return float(np.corrcoef(x[half:] @ weights, state[half:])[0, 1] ** 2)


def test_power_code_hides_the_state_from_linear_readouts():
    assert linear_readout("linear") > 0.15
    assert linear_readout("power") < 0.05


def test_each_observer_knows_more_than_the_one_before():
    observer, _, after, delivered = trials("mixed")
    window = balanced_accuracy(observer.probability(after, delivered))
    longer = balanced_accuracy(observer.probability(after, delivered, belief("mixed", 2048)))
    known = balanced_accuracy(np.array([d.probability for d in delivered]))
    assert window == pytest.approx(at_threshold(1.25, 0.5), abs=1.5)  # the 64 % of the default participant
    assert window + 2 < longer < known
    assert balanced_accuracy(observer.stimulus_only(delivered)) < 52  # all are at threshold
    assert known == pytest.approx(at_threshold(1.25), abs=1.5)


@pytest.mark.parametrize("bins", [128, 2048])
def test_what_is_foretold_before_the_stimulus_is_calibrated_too(bins):
    observer, _, _, delivered = trials("mixed")
    probability = observer.prestimulus(belief("mixed", bins), delivered)
    perceived = np.array([d.perceived for d in delivered])
    assert probability.mean() == pytest.approx(perceived.mean(), abs=0.07)
    assert np.mean((probability - perceived) ** 2) == pytest.approx(np.mean(probability * (1 - probability)), abs=0.02)
    assert balanced_accuracy(probability) > {128: 62, 2048: 65}[bins]


def test_probabilities_of_the_window_are_calibrated():
    observer, _, after, delivered = trials("mixed")
    probability = observer.probability(after, delivered)
    perceived = np.array([d.perceived for d in delivered])
    assert probability.mean() == pytest.approx(perceived.mean(), abs=0.07)
    expected = np.mean(probability * (1 - probability))
    assert np.mean((probability - perceived) ** 2) == pytest.approx(expected, abs=0.02)


def test_ignition_makes_the_report_readable_afterwards():
    observer, _, after, delivered = trials("mixed", 1.0)
    perceived = np.array([d.perceived for d in delivered])
    says = observer.probability(after, delivered) > 0.5
    assert 50 * (says[perceived].mean() + (~says)[~perceived].mean()) > 80
