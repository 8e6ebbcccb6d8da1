"""The reference is found on recordings, holds on others of the same kind, and not on those of another."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import training.drift_reference
from streaming.drift import Drift
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.signal.settings import ChainSettings
from training.drift_reference import LEAST_S, drift_reference
from training.normalise import normalise
from training.sessions import Session, SessionHeader

BINS = 128
CHANNELS = 96
SIZE = 24
Z = NDArray[np.float32]


class Mixing:
    """A decoder of linear mixtures: window means and amplitudes, which is enough of an embedding here."""

    n_bins = BINS
    manifest = SimpleNamespace(embedding_size=SIZE)
    mixing = np.random.default_rng(7).standard_normal((2 * CHANNELS, SIZE)).astype(np.float32) / 10

    def step(self, window: Any, usable: Any) -> Any:
        seen = np.where(usable[:, None], window, 0)
        return SimpleNamespace(embedding=np.concatenate([seen.mean(axis=1), seen.std(axis=1)]) @ self.mixing)


def z_of(seed: int = 0, session: int = 0, seconds: float = 75.0, day: int = 0) -> Z:
    """A session at rest, of the envelope alone."""
    envelope = LevelA(Participant(ParticipantSettings(seed=seed, day=day, session=session))).read(round(seconds * 1000))
    return normalise(envelope, np.ones(len(envelope), bool), np.ones(envelope.shape, bool), ChainSettings())


def session(z: Z, usable: Any = None) -> Session:
    labels = tuple(f"elec{i + 1}" for i in range(z.shape[1]))
    header = SessionHeader("s", "2031-01-01", "simulated", labels, None, 30000.0, ChainSettings().to_dict())
    return Session(header, z, np.ones(z.shape, bool) if usable is None else usable)


@pytest.fixture(scope="module")
def reference() -> Any:
    found = drift_reference(Mixing(), [session(z_of(session=one)) for one in range(5)], [])  # type: ignore[arg-type]
    assert found is not None
    return found


def drifts(reference: Any, z: Z, from_s: float = 0.0) -> float | None:
    """Seconds behind `from_s` after which it is said; None: never."""
    drift, decoder, usable = Drift(reference, BINS), Mixing(), np.ones(z.shape[1], bool)
    for last in range(10_000, len(z), 100):  # the normaliser has its history
        window = z[last + 1 - BINS : last + 1].T
        drift.look(last, window, usable, decoder.step(window, usable).embedding)
        if drift.drifts:
            return last / 1000 - from_s
    return None


def test_it_says_on_what_it_rests(reference: Any) -> None:
    assert reference.found["parts"] == 5
    assert reference.mua.limit == pytest.approx(2 * reference.found["mua"]["most"])
    assert len(reference.mua.mean) == CHANNELS
    assert len(reference.embedding.mean) == SIZE


def test_other_sessions_of_the_day_and_the_next_are_no_drift(reference: Any) -> None:
    assert [drifts(reference, z_of(session=one)) for one in (20, 21, 22)] == [None] * 3
    assert drifts(reference, z_of(session=23, day=1)) is None


def test_another_participant_is(reference: Any) -> None:
    found = drifts(reference, z_of(seed=5))
    assert found is not None
    assert found < 60


def test_channels_in_another_order_and_electrodes_that_hear_noise_are(reference: Any) -> None:
    z, draw = z_of(session=24, seconds=100.0), np.random.default_rng(0)
    mixed = z.copy()
    mixed[50_000:] = z[50_000:, draw.permutation(CHANNELS)]
    found = drifts(reference, mixed, 50.0)
    assert found is not None
    assert 0 < found < 30
    lost = z.copy()
    lost[50_000:, ::2] = draw.standard_normal((len(z) - 50_000, CHANNELS // 2))
    found = drifts(reference, lost, 50.0)
    assert found is not None
    assert 0 < found < 30


def test_recordings_that_are_too_short_give_none(tmp_path: Path) -> None:
    z = z_of(seconds=LEAST_S - 60)
    assert drift_reference(Mixing(), [session(z)], []) is None  # type: ignore[arg-type]


def test_channels_that_are_masked_count_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.drift_reference, "OVER_S", 2.0)
    found = drift_reference(Mixing(), [session(z_of(seconds=35.0))], [1, 96])  # type: ignore[arg-type]
    assert found is not None
    assert [found.mua.mean[0], found.mua.spread[95]] == [0.0, 1.0]
