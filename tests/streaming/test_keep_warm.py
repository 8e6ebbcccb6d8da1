"""A GPU is kept awake, and no window ever waits for that: a fake decoder that takes its time on a fake clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from models.decoder import Decoded
from streaming.keep_warm import KeepWarm
from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings
from streaming.predictions import Prediction
from tests.streaming.fakes import RATE, ListSource, MeanDecoder, chunks, stream

TAKES_S = 0.002


class Clock:
    """Moves when somebody works, or is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class OnGpu(MeanDecoder):
    """A step takes `takes_s` of the clock; the first `busy` times it cannot warm up."""

    provider: str = "cuda"
    clock: Clock = field(default_factory=Clock)
    takes_s: float = TAKES_S
    busy: int = 0
    warmed: int = 0

    def warm_up(self) -> bool:
        self.warmed += 1
        return self.warmed > self.busy

    def step(self, window: Any, usable: Any) -> Decoded:
        self.clock.now += self.takes_s
        return super().step(window, usable)


def test_it_warms_up_and_measures_a_step_before_anything_is_due() -> None:
    decoder = OnGpu()
    KeepWarm(decoder, 0.02, decoder.clock)
    assert (decoder.warmed, decoder.calls) == (1, 1)


def test_a_pulse_comes_after_so_long_without_work_and_is_counted() -> None:
    decoder = OnGpu()
    one = KeepWarm(decoder, 0.02, decoder.clock)
    for _ in range(100):
        decoder.clock.now += 0.001
        one.look(math.inf)
    assert one.pulses == 5  # each 20 ms, counted from the end of the one before
    assert decoder.calls == 1 + one.pulses


def test_work_is_as_good_as_a_pulse() -> None:
    decoder = OnGpu()
    one = KeepWarm(decoder, 0.02, decoder.clock)
    for _ in range(10):
        decoder.clock.now += 0.01
        one.worked(TAKES_S)
        one.look(math.inf)
    assert one.pulses == 0


@pytest.mark.parametrize(("free_s", "pulses"), [(1.9 * TAKES_S, 0), (2.1 * TAKES_S, 1), (-0.01, 0)])
def test_no_pulse_without_twice_its_time_before_the_next_window(free_s: float, pulses: int) -> None:
    decoder = OnGpu()
    one = KeepWarm(decoder, 0.02, decoder.clock)
    decoder.clock.now += 1.0
    one.look(free_s)
    assert one.pulses == pulses


def test_a_slow_step_is_remembered_and_forgotten() -> None:
    decoder = OnGpu()
    one = KeepWarm(decoder, 0.02, decoder.clock)
    one.worked(0.05)
    decoder.clock.now += 1.0
    one.look(0.09)
    assert one.pulses == 0
    for _ in range(50):
        one.worked(TAKES_S)
    decoder.clock.now += 1.0
    one.look(0.09)
    assert one.pulses == 1


def test_it_can_be_turned_off() -> None:
    decoder = OnGpu()
    one = KeepWarm(decoder, 0.0, decoder.clock)
    decoder.clock.now += 1000.0
    one.look(math.inf)
    assert one.pulses == 0


@pytest.mark.parametrize("idle_s", [0.0, 0.02])
def test_a_gpu_that_was_busy_is_warmed_up_between_two_windows(idle_s: float) -> None:
    """However steadily windows come, and where no pulse ever does."""
    decoder = OnGpu(busy=2)
    one = KeepWarm(decoder, idle_s, decoder.clock)
    for _ in range(4):
        decoder.clock.now += 0.01
        one.worked(TAKES_S)
        one.look(1.9 * TAKES_S)  # no room
        one.look(2.1 * TAKES_S)
    assert (decoder.warmed, one.pulses) == (3, 0)


class Paced(ListSource):
    """Each chunk comes when its newest sample is of age 0."""

    def __init__(self, items: list, clock: Clock) -> None:
        super().__init__(items, stream())
        self._clock, self._began = clock, clock.now

    def read(self, timeout_s: float) -> Any:
        chunk = super().read(timeout_s)
        due = self._began + (chunk.first_sample + len(chunk.samples_uv)) / RATE
        self._clock.now = max(self._clock.now, due)
        return chunk.__class__(
            chunk.samples_uv, chunk.first_sample, chunk.sample_time, self._clock.now, chunk.epoch, chunk.backlog
        )


def run(keep_warm_s: float, hop_s: float, takes_s: float = TAKES_S, provider: str = "cuda") -> tuple[Any, OnGpu, list]:
    """Two seconds of samples, a millisecond a chunk, through the decode thread's loop."""
    clock = Clock()
    decoder, said = OnGpu(clock=clock, takes_s=takes_s, provider=provider), list[Prediction]()
    x = (20 * np.random.default_rng(0).standard_normal((2 * RATE, decoder.n_channels))).astype(np.float32)
    source = Paced(chunks(x, list(range(0, len(x), RATE // 1000))), clock)
    late: list[float] = []

    def sink(prediction: Prediction) -> None:
        said.append(prediction)
        late.append(clock.now - (100.0 + (prediction.last_sample + 1) / RATE))

    live = LiveDecoder(source, decoder, LiveSettings(hop_s=hop_s, keep_warm_s=keep_warm_s), [sink], clock=clock)
    live.start()
    live.join()
    assert live.status().state == "ended"
    return live.status(), decoder, late


def test_the_live_loop_pulses_between_windows_and_makes_none_of_them_late() -> None:
    without, _, late_without = run(0.0, 0.1)
    pulsed, decoder, late = run(0.02, 0.1)
    assert without.keep_warm_pulses == 0
    assert pulsed.keep_warm_pulses > 2.0 / 0.1  # several between two windows, and while the chain settles
    assert pulsed.skipped_windows == without.skipped_windows == 0
    assert late == pytest.approx(late_without, abs=1e-9)
    assert decoder.warmed == 1


def test_at_a_steady_short_hop_there_is_none_once_windows_come() -> None:
    """The default: 10 ms, of which 20 are waited for."""
    pulsed, decoder, late = run(0.02, 0.01)
    decoded = decoder.calls - 1 - pulsed.keep_warm_pulses
    assert decoded > 50
    settling = len(late) - decoded  # windows that nothing was decoded of
    assert pulsed.keep_warm_pulses <= settling * 0.01 / 0.02
    assert pulsed.skipped_windows == 0


def test_a_decoder_slower_than_half_the_hop_is_left_alone() -> None:
    pulsed, _, _ = run(0.005, 0.01, takes_s=0.006)
    assert pulsed.keep_warm_pulses == 0


def test_a_cpu_is_never_pulsed() -> None:
    pulsed, decoder, _ = run(0.02, 0.1, provider="cpu")
    assert (pulsed.keep_warm_pulses, decoder.warmed) == (0, 0)
