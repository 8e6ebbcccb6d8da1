"""What the stimulator's current does to the amplifiers tells nothing, and never causes the next pulse."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.bundle import find_bundle
from models.decoder import Decoded
from models.onnx_decoder import OnnxDecoder, open_bundle
from streaming.chunk import Chunk
from streaming.events import Stimulation
from streaming.limits import parse_limits
from streaming.matching import decoding_settings
from streaming.participant.artifact import TAIL_OWN, _boxes, _tails
from streaming.participant.broadband import Broadband
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.participant.source import stream_info
from streaming.participant.stimulation import train
from streaming.pipeline import DecodingSettings, Pipeline
from streaming.plan import simple_plan
from streaming.scoring import score
from streaming.signal.settings import ChainSettings, NormaliserSettings
from streaming.states import Event
from streaming.trigger import Trigger, TriggerEngine, TriggerSettings
from tests.streaming.fakes import MeanDecoder, manifest, stream
from tests.streaming.test_trigger import TOML

BUNDLE = find_bundle(Path(__file__).parents[2] / "models" / "bundles", "default")
CURRENTS_UA = (5.0, 10.0, 20.0, 40.0, 81.0, 128.0)
WINDOW = 128


# Artifact-only recordings --------------------------------------------------------------------------------------------


@dataclass
class Recording:
    """Evoked windows of a participant who feels no current: percepts are coins, nothing neural answers."""

    z: np.ndarray  # (trials, WINDOW, 96)
    probability: np.ndarray
    perceived: np.ndarray
    current_ua: np.ndarray
    own: np.ndarray  # (trials, 96): the stimulated electrode


@functools.cache
def decoder() -> OnnxDecoder:
    return open_bundle(BUNDLE, precision="float32")


BARE: dict[str, Any] = {"pulses": None, "phase_us": None, "interphase_us": None, "frequency_hz": None}
TO_THE_END: dict[str, Any] = {"frequency_hz": 49 / (0.167 - 400e-6)}  # current flows to the last moment of 167 ms


@functools.cache
def record(rate: int, fast_settle: bool, artifacts: bool, n: int, bare: bool = False, odd: bool = False) -> Recording:
    """Level B, one train every 1.2 s through any electrode at any current; markers told in time. Where they are `bare`,
    they say a train's duration and nothing of its pulses, which may be `odd`."""
    facts = ParticipantSettings(
        seed=rate, rate_hz=rate, evoked=False, ignition=0.0, beta_state=0.0, beta_current=0.0,
        artifacts=artifacts, fast_settle=fast_settle,
    )  # fmt: skip
    participant = Participant(facts)
    broadband = Broadband(participant)
    served = DecodingSettings(ChainSettings(), 96, WINDOW, 72, calibrated=True, mode="evoked")
    pipeline = Pipeline(served, stream_info(participant, "artifacts"), lambda: 0)
    rng = np.random.default_rng(7)
    chunk = rate // 10
    onsets = [round((2.5 + 1.2 * k) * rate) + int(rng.integers(rate // 100)) for k in range(n)]
    trains = [train(int(rng.integers(1, 97)), float(rng.choice(CURRENTS_UA)), k) for k in range(n)]
    trains = [replace(one, **TO_THE_END) for one in trains] if odd else trains
    told = iter(zip(onsets, trains, strict=True))
    coming = next(told, None)
    delivered, said, z = [], [], []

    def step(window: np.ndarray, usable: np.ndarray) -> Decoded:
        z.append(window.T.copy())
        return decoder().step(window, usable)

    looking: Any = SimpleNamespace(name="looking", step=step)
    for first in range(0, onsets[-1] + rate, chunk):
        while coming is not None and coming[0] < first + chunk + 100:
            onset, stimulation = coming
            delivered.append(participant.stimulate(stimulation, onset))
            pipeline.stimulation(onset, replace(stimulation, **BARE) if bare else stimulation)
            coming = next(told, None)
        for due in pipeline.push(Chunk(broadband.read(chunk), first, 0.0, 0.0)):
            prediction = pipeline.decode(due, looking, 0.0, 0.0, lambda: 0.0)
            assert prediction.flags == ()
            assert prediction.trial == len(said)
            said.append(prediction.probability)
    own = np.eye(96, dtype=bool)[[(one.electrode or 1) - 1 for one in trains]]
    perceived = np.array([one.perceived for one in delivered])
    return Recording(np.array(z), np.array(said, float), perceived, np.array([t.current_ua for t in trains]), own)


@pytest.mark.parametrize(
    ("rate", "fast_settle", "n", "at_once", "most_p"),
    [
        (30000, True, 16, 3.0, 0.005),
        (40000, True, 10, 5.0, 0.005),
        (15000, False, 40, 60.0, 0.02),  # nobody shorts the saturated amplifier of the stimulated electrode
    ],
)
def test_what_an_artifact_leaves_in_the_evoked_window(
    rate: int, fast_settle: bool, n: int, at_once: float, most_p: float
) -> None:
    """The same noise with and without the artifacts, blanked alike. Probabilities vary by 0.06 over trials."""
    found, without = record(rate, fast_settle, True, n), record(rate, True, False, n)
    left = np.abs(found.z - without.z).transpose(0, 2, 1)
    at_own, elsewhere = left[found.own], left[~found.own]
    assert elsewhere.max() < (0.1 if fast_settle else 1.0)
    assert at_own.max() < at_once
    assert at_own[:, 6:].max() < 3.0
    assert at_own[:, 15:].max() < 1.0
    assert np.abs(found.probability - without.probability).max() < most_p
    assert without.probability.std() > 0.04


@pytest.mark.parametrize("odd", [False, True])
def test_nor_more_where_the_marker_says_nothing_of_the_pulses(odd: bool) -> None:
    """However long the current flows within the duration that is told."""
    found, without = record(30000, True, True, 16, bare=True, odd=odd), record(30000, True, False, 16, bare=True)
    left = np.abs(found.z - without.z).transpose(0, 2, 1)
    assert left[~found.own].max() < 0.1
    assert left[found.own].max() < 3.0
    assert np.abs(found.probability - without.probability).max() < 0.005


def test_what_it_costs_not_to_say_what_the_pulses_were() -> None:
    """Three or four bins of 128 repeat the one behind them."""
    known, bare = record(30000, True, True, 16), record(30000, True, True, 16, bare=True)
    same = np.abs(known.z - bare.z).max(axis=2) < 0.25
    assert same[:, 8:].all()
    assert np.corrcoef(known.probability, bare.probability)[0, 1] > 0.9
    assert np.abs(known.probability - bare.probability).max() < known.probability.std()


@pytest.mark.parametrize("fast_settle", [True, False])
def test_artifact_only_recordings_decode_at_chance(fast_settle: bool) -> None:
    """Against the percept, and against the size of the artifact itself: the window does not tell either."""
    found = record(15000, fast_settle, True, 40)
    middle = float(np.median(found.probability))
    for truth in (found.perceived, found.current_ua >= 40.0):
        told = score(found.probability, truth, middle)
        assert told.interval is not None
        assert told.interval[0] < 0.5 < told.interval[1]
        assert told.interval[1] - told.interval[0] < 0.33


# The closed loop -----------------------------------------------------------------------------------------------------

RATE = 15000
HOP = RATE // 100
CHANNELS = 4
HISTORY_S = 3.0
EVERY_S, LASTS_S, STRETCHES = 4.3, 0.4, 3
REACH = np.array([1.0, 0.5, 0.25, 0.1], np.float32)
Reads = Callable[[np.ndarray], float]

READERS: dict[str, tuple[float, Reads]] = {  # how the favourable state changes the noise's size, and how it is read
    "more is better": (1.6, lambda z: 4.0 * z.mean()),
    "less is better": (0.5, lambda z: -4.0 * z.mean()),
    "stillness": (0.6, lambda z: 20.0 * (0.75 - z.std())),
    "peaks": (2.5, lambda z: np.abs(z).max() - 8.0),
}


class Reader(MeanDecoder):
    def __init__(self, reads: Reads, told: Any) -> None:
        super().__init__(told)
        self._reads = reads

    def step(self, window: Any, usable: Any) -> Decoded:
        value = float(1 / (1 + np.exp(-np.clip(self._reads(window), -50, 50))))
        return Decoded(window.mean(axis=1), value, value)


@functools.cache
def artifact() -> np.ndarray:
    """The standard train on the stimulated electrode, of height 1, with its tails; (samples,)."""
    n, start = round(0.6 * RATE), np.arange(50) * RATE / 300 + 0.3
    phase, gap = 170e-6 * RATE, 60e-6 * RATE
    wave = _boxes(start + phase + gap, phase, n) - _boxes(start, phase, n)
    return wave + _tails(start + 2 * phase + gap, TAIL_OWN, RATE, n)


@dataclass
class Loop:
    """Noise with favourable stretches, decoded and triggered on; each pulse puts an artifact into what comes next."""

    reader: str = "more is better"
    height_uv: float = 0.0
    delay_s: float = 0.002  # from the trigger to the current
    late_s: float | None = 0.05  # from the onset to its marker; None: never
    names: str | None = "ours"  # what the marker names
    expects: bool = True
    fired: list[int] = field(default_factory=list)
    onsets: list[int] = field(default_factory=list)

    def run(self) -> Loop:
        size, reads = READERS[self.reader]
        self.stretches = [round((HISTORY_S + 3 + EVERY_S * k) * RATE) for k in range(STRETCHES)]
        x = noise().copy()
        for start in self.stretches:
            x[start : start + round(LASTS_S * RATE)] *= size
        chain = ChainSettings(normaliser=NormaliserSettings(window_s=HISTORY_S))
        spec = SimpleNamespace(channels=CHANNELS, bins=WINDOW, bin_rate_hz=1000, rate_hz=float(RATE))
        told = manifest(CHANNELS, chain, input=spec)
        info = stream(CHANNELS, rate_hz=float(RATE))
        seq = itertools.count()
        pipeline = Pipeline(decoding_settings(told, info), info, lambda: next(seq))
        network = Reader(reads, told)
        limits = parse_limits(TOML.replace("refractory_s = 2.0", "refractory_s = 0.5").encode())
        engine = TriggerEngine(TriggerSettings(p_on=0.9), limits, simple_plan(limits), RATE, 3)
        engine.handle(Event.REQUEST)
        engine.handle(Event.CONFIRM)
        markers: list[tuple[int, int, Stimulation]] = []
        for first in range(0, len(x), HOP):
            for marker in [marker for marker in markers if marker[0] < first + HOP]:
                markers.remove(marker)
                pipeline.stimulation(marker[1], marker[2])
            for due in pipeline.push(Chunk(x[first : first + HOP], first, (first + HOP - 1) / RATE, 0.0)):
                prediction = pipeline.decode(due, network, 0.0, 0.0, lambda: 0.0)
                if isinstance(engine.push(prediction), Trigger):
                    trigger_id = f"run-{len(self.fired)}"
                    self.fired.append(due.last_sample)
                    here = pipeline.chain.next_sample
                    if self.expects:
                        pipeline.expect_stimulation(here, 0.5, trigger_id)
                    onset = here + round(self.delay_s * RATE)
                    self.onsets.append(onset)
                    wave = np.clip(self.height_uv * artifact()[: max(0, len(x) - onset)], -8191, 8191)
                    x[onset : onset + len(wave)] += wave.astype(np.float32)[:, None] * REACH
                    named = {"ours": trigger_id, "nobody": None, "another": "else"}[self.names or "nobody"]
                    stimulation = train(34, 10.0, len(self.fired), named)
                    if self.late_s is not None:
                        markers.append((onset + round(self.late_s * RATE), onset, stimulation))
        return self

    def strays(self) -> list[float]:
        """Triggers, in seconds, outside the favourable stretches and the windows that they reach into."""
        reach = round((LASTS_S + 0.128 + 0.02) * RATE)
        return [at / RATE for at in self.fired if not any(0 <= at - start <= reach for start in self.stretches)]

    def touched(self) -> list[float]:
        """Triggers whose window overlaps an artifact."""
        length, window = round(0.17 * RATE), round(0.128 * RATE)
        return [
            at / RATE
            for at in self.fired
            if any(onset <= at and at - window <= onset + length for onset in self.onsets)
        ]


@functools.cache
def noise() -> np.ndarray:
    n = round((HISTORY_S + 3 + EVERY_S * STRETCHES) * RATE)
    return (15 * np.random.default_rng(1).standard_normal((n, CHANNELS))).astype(np.float32)


@functools.cache
def undisturbed(reader: str) -> int:
    loop = Loop(reader).run()
    assert loop.strays() == []
    return len(loop.fired)


@pytest.mark.parametrize("reader", list(READERS))
def test_without_artifacts_every_favourable_stretch_has_its_trigger(reader: str) -> None:
    assert undisturbed(reader) == STRETCHES


@settings(max_examples=25, deadline=None)
@given(
    reader=st.sampled_from(list(READERS)),
    height_uv=st.floats(1.0, 5.0).map(lambda digits: 10.0**digits),
    delay_s=st.floats(0.0005, 0.1),
    late_s=st.none() | st.floats(0.05, 0.9),
    names=st.sampled_from(["ours", "nobody", "another"]),
)
@example(reader="stillness", height_uv=3000.0, delay_s=0.002, late_s=None, names="ours")
@example(reader="stillness", height_uv=3000.0, delay_s=0.002, late_s=0.9, names="nobody")
@example(reader="peaks", height_uv=30.0, delay_s=0.05, late_s=0.6, names="another")
def test_an_artifact_never_causes_the_next_pulse(
    reader: str, height_uv: float, delay_s: float, late_s: float | None, names: str
) -> None:
    loop = Loop(reader, height_uv, delay_s, late_s, names).run()
    assert loop.fired, "the first stretch is as favourable as without artifacts"
    assert loop.strays() == []
    assert loop.touched() == []
    assert len(loop.fired) <= undisturbed(reader)
    if late_s is not None and names == "ours":
        assert len(loop.fired) == undisturbed(reader), "what was announced costs no trigger"


def test_artifacts_that_nobody_expects_nor_announces_do_cause_pulses() -> None:
    """So that the test above can fail: a reader of power fires every 1.5 s where nothing is expected."""
    loop = Loop("stillness", 3000.0, late_s=None, expects=False).run()
    assert len(loop.strays()) >= 4
