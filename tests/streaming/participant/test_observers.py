"""The tables of what can be known about perception are regression tests of the participant: ± 0.5 points.

"Current only" is ± 0.7: the integrals here are exact, the table's last column was sampled.
"""

import numpy as np
import pytest

from streaming.participant.latent import Latent
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import percept_probability
from tests.streaming.participant import closed_forms

RELIABILITY = {
    0.5: (59.6, 58.3, 56.8, 54.8),
    0.75: (63.8, 61.9, 59.7, 56.8),
    1.0: (67.5, 65.0, 62.1, 58.5),
    1.25: (70.7, 67.6, 64.2, 59.9),
    1.5: (73.4, 69.8, 65.8, 61.0),
    2.0: (77.8, 73.1, 68.3, 62.6),
}
PSYCHOMETRIC = {
    (1.5, 0.75): (83.1, 81.5, 80.7),
    (1.5, 1.5): (84.0, 78.1, 77.1),
    (2.0, 0.75): (86.7, 85.4, 83.1),
    (2.0, 1.5): (87.0, 82.7, 81.5),
    (3.0, 0.75): (91.1, 90.4, 87.4),
}


@pytest.mark.parametrize("beta", RELIABILITY)
def test_reliability_table(beta):
    found = [closed_forms.at_threshold(beta, reliability) for reliability in (1.0, 0.75, 0.5, 0.25)]
    np.testing.assert_allclose(found, RELIABILITY[beta], atol=0.5)


@pytest.mark.parametrize(("ignition", "expected"), [(0, 64.0), (0.25, 67.4), (0.5, 70.8), (1, 76.9)])
def test_ignition_table(ignition, expected):
    assert closed_forms.with_ignition(1.25, ignition) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("betas", PSYCHOMETRIC)
def test_psychometric_table(betas):
    found = closed_forms.psychometric(*betas)
    state_known, electrode_and_current, current_only = PSYCHOMETRIC[betas]
    assert found.state_known == pytest.approx(state_known, abs=0.5)
    assert found.electrode_and_current == pytest.approx(electrode_and_current, abs=0.5)
    assert found.current_only == pytest.approx(current_only, abs=0.7)


@pytest.fixture(scope="module")
def state() -> np.ndarray:
    """Pre-stimulus states, 1000 of each of 40 sessions, rid of the sampling error in their mean and size."""
    states = [Latent(ParticipantSettings(session=k)).read(0, 300_000)[:, 0] for k in range(40)]
    means = np.concatenate([s.reshape(-1, 300).mean(1) for s in states])
    return (means - means.mean()) / means.std()


@pytest.mark.parametrize("beta", RELIABILITY)
def test_the_participants_percepts_obey_the_table(beta, state):
    """Percepts drawn from the hidden state of 40 sessions, at the threshold current, without lapses: O1."""
    settings = ParticipantSettings(beta_state=beta, lapse=0.0)
    probability = percept_probability(settings, 30.0, 30.0, state)
    perceived = np.random.default_rng(0).random(len(state)) < probability
    says = probability > perceived.mean()
    found = 50 * (says[perceived].mean() + (~says)[~perceived].mean())
    assert closed_forms.balanced_accuracy(probability) == pytest.approx(RELIABILITY[beta][0], abs=0.5)
    assert found == pytest.approx(RELIABILITY[beta][0], abs=1.0)  # of 40 000 coins: two standard errors are 0.5


def test_lapses_and_slopes():
    settings = ParticipantSettings()
    assert percept_probability(settings, 1e-6, 30.0, 0.0) == pytest.approx(0.02, abs=1e-6)
    assert percept_probability(settings, 1e6, 30.0, 0.0) == pytest.approx(0.98, abs=1e-6)
    assert percept_probability(settings, 30.0, 30.0, 0.0) == pytest.approx(0.5)
