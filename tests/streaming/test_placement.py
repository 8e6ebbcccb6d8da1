"""The decode thread is placed while it decodes, and what cannot be is refused at the start."""

from __future__ import annotations

import os

import numpy as np
import pytest

from models.errors import OperatorFault
from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings
from streaming.placement import Placement
from tests.streaming.fakes import ListSource, MeanDecoder, chunks, stream

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")


def may_be_real_time() -> bool:
    try:
        Placement(priority=1).check()
    except OperatorFault:
        return False
    return True


def test_the_decode_thread_alone_keeps_to_its_core():
    cores = os.sched_getaffinity(0)
    core, seen = max(cores), []
    x = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    live = LiveDecoder(
        ListSource(chunks(x, list(range(0, 3000, 300))), stream()),
        MeanDecoder(),
        LiveSettings(placement=Placement(core)),
        [lambda prediction: seen.append(os.sched_getaffinity(0))],
        clock=lambda: 0.0,
    )
    live.start()
    live.join()
    assert set(map(frozenset, seen)) == {frozenset({core})}
    assert os.sched_getaffinity(0) == cores
    assert live.status().state == "ended"


def test_nothing_asked_is_nothing_done():
    before = os.sched_getaffinity(0), os.sched_getscheduler(0)
    with Placement().held():
        assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == before


@pytest.mark.skipif(not may_be_real_time(), reason="this user may have no real-time priority")
def test_real_time_while_it_lasts():
    with Placement(priority=5).held():
        assert os.sched_getscheduler(0) == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        assert os.sched_getparam(0).sched_priority == 5
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_what_cannot_be_is_refused(monkeypatch):
    first = min(os.sched_getaffinity(0))
    with pytest.raises(
        OperatorFault, match=rf"decode_core: found 4096, expected one that this process may use: {first}"
    ):
        Placement(4096).check()
    with pytest.raises(OperatorFault, match=r"decode_priority: found 100, expected 1 to 99"):
        Placement(priority=100).check()

    def forbid(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setscheduler", forbid)
        with pytest.raises(OperatorFault, match="LimitRTPRIO"):
            Placement(priority=1)._take(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(OperatorFault, match="found no Linux"):
        Placement(0).check()
    Placement().check()
