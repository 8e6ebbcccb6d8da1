"""A bundle in shadow sees the windows that the running one sees, is judged by them, and holds nobody up."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings
from streaming.shadow import LEAST, Seen, Shadow
from tests.streaming.fakes import ListSource, MeanDecoder, chunks, stream
from tests.streaming.signal.test_chain import broadband

HOP_S = 0.01


class Told(MeanDecoder):
    """As MeanDecoder, and does what it is told before each window."""

    def told(self, act) -> Told:
        self.act = act
        return self

    def step(self, window, usable):
        self.act()
        return super().step(window, usable)


def beside(candidate: MeanDecoder, seconds: float = 1.5, patient: bool = True) -> Seen:
    """`patient`: the stream waits until the shadow has done with a window, so that none passes it by."""
    shadow = Shadow(candidate)
    said = []

    def tell(prediction) -> None:
        said.append(prediction)
        until = time.monotonic() + 5
        while patient and shadow._busy and not shadow._problem and time.monotonic() < until:
            time.sleep(0.0002)

    x = broadband(seconds, 4)
    source = ListSource(list(chunks(x, list(range(0, len(x), 300)))), stream())
    live = LiveDecoder(source, MeanDecoder(), LiveSettings(), [tell], clock=lambda: 0.0)
    live.shadow(shadow)
    live.start()
    live.join()
    seen = shadow.stop()
    decoded = sum(one.embedding is not None for one in said)
    assert seen.problem or decoded - seen.windows - seen.passed_by in (0, 1), "one may be under way at the end"
    return seen


def test_it_agrees_with_itself() -> None:
    seen = beside(MeanDecoder(name="other@1"))
    assert seen.windows >= 100
    assert (seen.passed_by, seen.not_finite, seen.constant) == (0, 0, False)
    assert seen.compared == seen.windows
    assert seen.mean_absolute_difference == 0.0
    assert seen.correlation == pytest.approx(1.0)
    assert 0 < seen.p50_ms <= seen.p99_ms <= seen.max_ms
    assert seen.why_not(HOP_S) == ""


def test_another_says_how_far_it_is_away() -> None:
    seen = beside(MeanDecoder(name="other@1", slope=-2.0))
    assert seen.correlation == pytest.approx(-1.0, abs=0.01)
    assert seen.mean_absolute_difference > abs(seen.mean_difference) >= 0
    assert seen.why_not(HOP_S) == "", "a better bundle may well disagree"


def test_what_speaks_against_it() -> None:
    assert "no finite" in beside(MeanDecoder(bad=True)).why_not(HOP_S)
    assert "the same of all" in beside(MeanDecoder(slope=0.0)).why_not(HOP_S)
    assert f"expected {LEAST}" in beside(MeanDecoder(), 0.45).why_not(HOP_S)
    slow = beside(Told().told(lambda: time.sleep(0.006)))
    assert slow.p50_ms >= 6.0
    assert f"half of its windows take over {slow.p50_ms:.1f} ms" in slow.why_not(HOP_S)
    assert slow.why_not(1.0) == ""


def test_an_inference_that_fails_ends_it_alone() -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    seen = beside(Told().told(fail))
    assert seen.why_not(HOP_S) == "its inference failed: out of memory"


def test_one_that_hangs_holds_nobody_up() -> None:
    go = threading.Event()
    began = time.monotonic()
    seen = beside(Told().told(lambda: go.wait(10)), patient=False)
    assert time.monotonic() - began < 5
    assert seen.windows == 0
    why = seen.why_not(HOP_S)
    assert why.startswith("its inference has taken ")
    assert 1.0 <= float(why.split()[4]) < 5, why
    go.set()
    assert seen.passed_by > 50, "they went by while it hung"
    assert np.isnan(seen.correlation)
