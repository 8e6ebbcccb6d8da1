"""The hidden state has the moments that the observers rely on."""

import numpy as np
import pytest

from streaming.participant.latent import Latent, prestimulus_sd, rhythm_dynamics, state_autocovariance
from streaming.participant.settings import ParticipantSettings


@pytest.fixture(scope="module")
def hour() -> np.ndarray:
    return Latent(ParticipantSettings(seed=3)).read(0, 3_600_000)


def test_state_is_ornstein_uhlenbeck_of_unit_variance(hour):
    s = hour[:, 0]
    assert s.mean() == pytest.approx(0, abs=0.25)  # q wanders for 120 s: the mean of an hour has sd 0.13
    assert s.var() == pytest.approx(1, abs=0.15)
    fast = s - hour[:, 1]
    for lag in (300, 1000, 2000):
        assert np.mean(fast[:-lag] * fast[lag:]) == pytest.approx(0.75 * np.exp(-lag / 2000), abs=0.06)


def test_rhythms_have_unit_variance_and_their_frequencies(hour):
    x = hour[:, 2:]
    np.testing.assert_allclose(x.var(0), 1, atol=0.06)
    a = rhythm_dynamics()
    np.testing.assert_allclose(x[:-1].T @ x[1:] / (len(x) - 1), a.T, atol=0.06)
    turns = np.abs(np.angle(np.linalg.eigvals(a))) * 1000 / (2 * np.pi)
    np.testing.assert_allclose(np.unique(turns.round(6)), [2, 5, 10, 25])


def test_prestimulus_state_is_in_standard_deviations(hour):
    means = hour[: 3_600_000 // 300 * 300, 0].reshape(-1, 300).mean(1)
    assert means.std() == pytest.approx(prestimulus_sd(), rel=0.08)
    assert float(state_autocovariance(np.array(0))) == pytest.approx(1)


def test_state_before_an_onset_is_the_mean_of_300_ms(hour):
    latent = Latent(ParticipantSettings(seed=3))
    assert latent.prestimulus(5000) * prestimulus_sd() == pytest.approx(hour[4700:5000, 0].mean())
