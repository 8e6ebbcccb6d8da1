"""What strikes the whole array at once, and a network that says one thing for ever, are not vouched for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.decoder import Decoded
from streaming.events import Stimulation
from streaming.matching import decoding_settings
from streaming.pipeline import STUCK, Pipeline
from streaming.predictions import Prediction
from streaming.signal.settings import NormaliserSettings
from tests.streaming.fakes import QUICK, RATE, MeanDecoder, chunks, manifest, stream
from tests.streaming.test_pipeline import agree, broadband, live, offline

CHANNELS = 24
AT_S, LASTS_S = 1.5, 0.1
CABLE = np.linspace(0.5, 1.5, CHANNELS)[:, None].T  # each electrode hears its share


def noise(seconds: float = 4.0) -> Any:
    """Nothing in it rises together."""
    n = round(seconds * RATE)
    return (12 * np.random.default_rng(0).standard_normal((n, CHANNELS))).astype(np.float32)


def struck(channels: slice = slice(None), times: float = 20.0) -> Any:
    """Four seconds of noise, much louder for a tenth of a second."""
    x = noise()
    part = slice(round(AT_S * RATE), round((AT_S + LASTS_S) * RATE))
    x[part, channels] *= (times * CABLE[:, channels]).astype(np.float32)
    return x


def run(x: Any, **changes: Any) -> list[Prediction]:
    return offline(x, info=stream(CHANNELS), decoder=MeanDecoder(manifest=manifest(CHANNELS, **changes)))


def seconds(found: list[Prediction], flag: str) -> tuple[float, float]:
    """When the flag is first and last borne, from the burst's beginning."""
    at = [one.sample_time - AT_S for one in found if flag in one.flags and one.sample_time > 1.0]
    return min(at), max(at)


def test_it_is_in_no_window_that_is_vouched_for_until_the_normaliser_has_forgotten_it() -> None:
    found = run(struck())
    first, last = seconds(found, "channels")
    assert 0 < first < 0.022
    assert last == pytest.approx(LASTS_S + 0.128, abs=0.03), "as long as it is in the window"
    _, forgotten = seconds(found, "settling")
    assert forgotten == pytest.approx(LASTS_S + 1.0 + 0.128, abs=0.03), "a second is what this normaliser remembers"
    assert all(one.probability is None for one in found if AT_S < one.sample_time < AT_S + forgotten)
    assert not any(one.flags for one in found if one.sample_time > AT_S + forgotten + 0.02)


@pytest.mark.parametrize("loud", [1, CHANNELS // 8])  # more reach the others by the common reference
def test_a_few_loud_electrodes_are_none(loud: int) -> None:
    found = run(struck(slice(0, loud)))
    assert not any(one.flags for one in found if one.sample_time > 1.0)


def test_a_median_does_not_mind_what_is_over() -> None:
    robust = replace(QUICK, normaliser=NormaliserSettings("robust_trailing", 1.0, 0.2))
    found = run(struck(), chain=robust)
    _, last = seconds(found, "channels")
    assert last < 0.3
    assert not any(one.flags for one in found if one.sample_time > AT_S + last + 0.02)


def test_it_is_heard_between_windows_that_were_skipped() -> None:
    info, decoder = stream(CHANNELS), MeanDecoder(manifest=manifest(CHANNELS))
    count = itertools.count()
    pipeline = Pipeline(decoding_settings(decoder.manifest, info), info, lambda: next(count))
    found = []
    for chunk in chunks(struck(), list(range(0, 4 * RATE, 3 * RATE // 10))):  # the newest of 0.3 s alone
        found.append(pipeline.decode(pipeline.push(chunk)[-1], decoder, 0.0, 0.0, lambda: 0.0))
    flags = {round(one.sample_time, 1): one.flags for one in found}
    assert flags[1.5] == ()
    assert flags[1.8] == ("settling",), "its own bins are in no window that was decoded"
    assert flags[2.4] == ("settling",)
    assert flags[3.0] == ()


def test_a_late_marker_takes_it_back() -> None:
    """What looked like a burst was a stimulation that nobody had announced yet: then it is blanked like any other."""
    onset = round(AT_S * RATE)
    train, x = Stimulation(1, 2, 20.0, 0.12, 36, 170, 60, 300), struck()
    items: list[Any] = chunks(x, list(range(0, len(x), RATE // 10)))
    items.insert(18, (onset, train))  # 0.3 s late
    found, _ = live(items, MeanDecoder(manifest=manifest(CHANNELS)), stream(CHANNELS))
    told = {round(one.sample_time, 2): one.flags for one in found}
    assert told[2.2] == ("overload",), "the newest of 0.1 s alone"


def test_hops_are_decoded_alike_however_they_came() -> None:
    x = struck()
    found, _ = live(
        [*chunks(x, list(range(0, len(x), 700)))], MeanDecoder(manifest=manifest(CHANNELS)), stream(CHANNELS)
    )
    assert agree(found, run(x)) > 100


def railed(channels: slice) -> Any:
    x = noise()
    x[round(AT_S * RATE) :, channels] = 8191.0
    return x


def test_an_amplifier_at_its_rails_is_never_decoded() -> None:
    """Nothing is left of the activity, at once and in every channel; a second later they are dead."""
    found = run(railed(slice(None)))
    after = [one for one in found if one.sample_time > AT_S + 0.011]
    assert all(one.probability is None and one.flags for one in after)
    assert after[-1].flags == ("channels",)


def test_a_channel_at_its_rail_is_dropped_within_a_second() -> None:
    """It steps through the common reference into all others, when it goes and when it is dropped."""
    found = run(railed(slice(2, 3)))
    assert all(np.isfinite(one.embedding).all() for one in found if one.embedding is not None)
    late = [one for one in found if one.sample_time > AT_S + 2.3]
    assert {one.usable_channels for one in late} == {CHANNELS - 1}
    assert not any(one.flags for one in late)


class Stuck(MeanDecoder):
    def step(self, window: Any, usable: Any) -> Decoded:
        decoded = super().step(window, usable)
        broken = 100 <= self.calls < 100 + 2 * STUCK
        return Decoded(decoded.embedding, 0.73 if broken else decoded.prestimulus, None)


def test_a_network_that_says_one_thing_whatever_it_reads() -> None:
    found = [one for one in offline(broadband(5.0, 4), decoder=Stuck()) if one.flags in ((), ("not_finite",))]
    flagged = [k for k, one in enumerate(found) if one.flags]
    assert flagged == list(range(99 + STUCK, 99 + 2 * STUCK))
    assert all(found[k].probability is None and found[k].embedding is None for k in flagged)
