"""Drift is said when the input is another one for half a minute, not before, and it lasts until it is over."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from models.manifest import DriftReference, Profile
from streaming.drift import BEYOND, EVERY_BINS, OVER, Drift
from streaming.predictions import Prediction
from tests.streaming.fakes import MeanDecoder, manifest
from tests.streaming.gate_fakes import Rig
from tests.streaming.test_pipeline import broadband, live, offline

CHANNELS, BINS, OVER_S = 16, 64, 5.0
ENOUGH = round(OVER_S * 1000 / EVERY_BINS)


def profile(mean: float, spread: float, limit: float = 8.0, n: int = CHANNELS) -> Profile:
    return Profile(mean=(mean,) * n, spread=(spread,) * n, limit=limit)


# white noise has steps of variance 2
REFERENCE = DriftReference(over_s=OVER_S, mua=profile(math.log(2), 0.05), embedding=profile(0.0, 0.1))


class Stream:
    """Windows of white noise, smoothed in some channels, one every tenth of a second, each as long as it lasts."""

    def __init__(self, reference: DriftReference = REFERENCE) -> None:
        self.drift = Drift(reference, BINS)
        self.looks = 0
        self._draw = np.random.default_rng(0)

    def run(self, looks: int, smooth: int = 0, offset: float = 0.0, usable: Any = None) -> list[bool]:
        """Whether it drifts, after each look. `smooth`: so many channels; `offset` of the embedding."""
        said = []
        for _ in range(looks):
            window = self._draw.standard_normal((CHANNELS, BINS)).astype(np.float32)
            window[:smooth, 1:] = (window[:smooth, 1:] + window[:smooth, :-1]) / np.sqrt(2)
            seen = np.ones(CHANNELS, bool) if usable is None else usable
            embedding = (0.1 * self._draw.standard_normal(CHANNELS) + offset).astype(np.float32)
            self.drift.look(self.looks * EVERY_BINS + 63, window, seen, embedding)
            self.looks += 1
            said.append(self.drift.drifts)
        return said


def test_the_usual_input_is_none_and_nothing_is_said_before_it_means_something() -> None:
    one = Stream()
    assert not any(one.run(ENOUGH - 1))
    assert math.isnan(one.drift.status().mua)
    assert not any(one.run(600))
    status = one.drift.status()
    assert 0 < status.mua < 1
    assert 0 < status.embedding < 1
    early = Stream()
    assert early.run(ENOUGH, smooth=CHANNELS) == [False] * (ENOUGH - 1) + [True]


@pytest.mark.parametrize("how", [{"smooth": CHANNELS}, {"offset": 0.5}])
def test_another_input_is_said_within_seconds_and_over_when_it_is_over(how: dict[str, Any]) -> None:
    one = Stream()
    one.run(200)
    said = one.run(200, **how)
    assert said.index(True) * 0.1 < OVER_S
    assert all(said[said.index(True) :])
    after = one.run(400)
    assert not any(after[after.index(False) :]), "it does not flicker"
    status = one.drift.status()
    assert max(status.mua, status.embedding) < OVER


def test_between_the_limit_and_a_fifth_less_it_stays_as_it_is() -> None:
    one = Stream(REFERENCE.model_copy(update={"mua": profile(math.log(2), 0.05, limit=BEYOND / 0.9)}))
    one.run(300, smooth=CHANNELS)
    assert one.drift.status().mua == pytest.approx(0.9)
    assert not one.drift.drifts
    one.drift.drifts = True
    one.run(1, smooth=CHANNELS)
    assert one.drift.drifts


def test_a_few_odd_channels_are_the_masks_business() -> None:
    one = Stream()
    assert not any(one.run(600, smooth=CHANNELS // 4))
    assert one.drift.status().mua == pytest.approx(BEYOND / 4 / 8, rel=0.2), "none counts beyond BEYOND"
    masked = np.arange(CHANNELS) >= CHANNELS // 4
    assert not any(one.run(100, smooth=CHANNELS // 4, usable=masked))
    assert one.drift.status().mua < 0.5, "and those that are not usable count nowhere"


def test_a_channel_that_comes_later_begins_with_its_first_window() -> None:
    one, without = Stream(), np.arange(CHANNELS) > 0
    one.run(100, usable=without)
    one.run(1)
    assert one.drift.status().mua < 1


def test_windows_of_the_same_tenth_are_passed_over_and_nothing_grows() -> None:
    one = Stream()
    one.run(2 * ENOUGH)
    before = one.drift.status()
    window, usable = np.ones((CHANNELS, BINS), np.float32), np.ones(CHANNELS, bool)
    embedding = np.ones(CHANNELS, np.float32)
    last = one.looks * EVERY_BINS
    for hop in range(0, EVERY_BINS, 10):
        one.drift.look(last - EVERY_BINS + hop, window, usable, embedding)
    assert one.drift.status() == before
    tracemalloc.start()
    for tenth in range(100):
        one.drift.look(last + tenth * EVERY_BINS, window, usable, embedding)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000, "less than a window"


# In the pipeline -----------------------------------------------------------------------------------------------------


def drifting(limit: float, **changes: Any) -> MeanDecoder:
    """A decoder of the fakes whose reference no stream of theirs fits, beyond `limit`."""
    reference = DriftReference(over_s=0.3, mua=profile(19.0, 0.1, limit, 4), embedding=profile(0.0, 100.0, 1.0, 4))
    return MeanDecoder(manifest=manifest(drift=reference, **changes))


def test_what_drifts_has_no_probability_and_its_embedding_flows() -> None:
    found = offline(broadband(2.0, 4), decoder=drifting(limit=20.0))
    flagged = [one for one in found if "drift" in one.flags]
    assert flagged
    assert all(one.flags == ("drift",) and one.probability is None and one.embedding is not None for one in flagged)
    assert all("drift" in one.flags for one in found[found.index(flagged[0]) :])
    before = [one for one in found[: found.index(flagged[0])] if not one.flags]
    assert len(before) >= 30, "0.3 s of looks first"
    online, decoder = live([*_chunks()], drifting(limit=20.0))
    assert [one.flags for one in online] == [one.flags for one in found if _has(one, online)]
    status = decoder.status().drift
    assert status is not None
    assert status.drifts
    assert status.mua == pytest.approx(BEYOND / 20.0)


def test_what_does_not_drift_says_how_near_it_is() -> None:
    found, decoder = live([*_chunks()], drifting(limit=30.0))
    assert not any("drift" in one.flags for one in found)
    status = decoder.status().drift
    assert status is not None
    assert status.mua == pytest.approx(BEYOND / 30.0)


@pytest.mark.parametrize("changes", [{"drift": None}, {"participant": "somebody"}])
def test_without_a_reference_or_a_participant_nothing_is_measured(changes: dict[str, Any]) -> None:
    decoder = drifting(limit=1.0)
    decoder.manifest.__dict__.update(changes)
    found, decoding = live([*_chunks()], decoder)
    assert not any("drift" in one.flags for one in found)
    assert decoding.status().drift is None


def _chunks() -> list[Any]:
    from tests.streaming.fakes import chunks

    x = broadband(2.0, 4)
    return chunks(x, list(range(0, len(x), 300)))


def _has(one: Prediction, found: list[Prediction]) -> bool:
    return any(one.last_sample == other.last_sample for other in found)


# In the gate ---------------------------------------------------------------------------------------------------------


def test_nothing_fires_while_it_lasts_and_the_journal_is_told_twice() -> None:
    rig = Rig().arm()
    rig.run(12.0)
    assert rig.run(1.5, 0.9) == 1
    rig.run(3.0)
    before = len(rig.journal.kinds("conditions"))
    assert not any(rig.push(None, flags=("drift",)) for _ in range(50))
    assert rig.state in ("ARMED", "REFRACTORY"), "it holds, and is not disarmed"
    rig.run(1.5)
    told = [row["flags"] for row in rig.journal.kinds("conditions")[before:]]
    assert told == [["drift"], []]
