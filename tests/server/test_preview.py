"""POST /v1/trigger/preview: what other thresholds would have done with what is held."""

from __future__ import annotations

import asyncio
import math

import pytest
from starlette.exceptions import HTTPException

from server.preview import Preview
from server.problems import Conflict
from server.service import Service
from server.settings import Settings
from server.trigger_settings import Thresholds
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive, prediction
from tests.server.test_control import Loop

HIGH = 0.5 + 0.3 * 0.99


@pytest.fixture
def loop(tmp_path):
    one = Loop(tmp_path)
    for k in range(3000):  # half a minute that swings every ten seconds
        told = prediction(one.live.said, probability=0.5 + 0.3 * math.sin(2 * math.pi * k / 1000))
        one.service.hand_over(told)
        one.live.said += 1
    one.live.state = "running"
    one.get("/healthz")  # the event loop has published them all
    yield one
    one.stop()


def test_it_counts_what_the_engine_would_have_done(loop):
    status, told = loop.post("/preview", p_on=HIGH, p_off=0.6)
    assert status == 200
    assert told["would_fire"] == len(told["times"]) == 3
    assert told["minutes"] == pytest.approx(0.5, abs=0.01)
    assert told["per_minute"] == pytest.approx(6.0, abs=0.1)
    assert told["times"][1] - told["times"][0] == pytest.approx(10.0, abs=0.02)
    assert (told["p_on"], told["dwell_hops"]) == (HIGH, 3), "what is left out is as it stands"
    assert loop.post("/preview", p_on=0.95)[1]["would_fire"] == 0
    assert loop.post("/preview", p_on=0.55, p_off=0.5)[1]["would_fire"] > 3, "again after each refractory time"
    assert loop.state() == "DISARMED"
    assert loop.get("/v1/trigger")["thresholds"]["p_on"] == 0.7, "nothing has changed"


@pytest.mark.parametrize("asked", [{"p_on": 0.4}, {"p_on": "0.8"}, {"dwell_hops": 0}, {"plan": {}}, {"p_off": 0.9}])
def test_thresholds_that_cannot_be(loop, asked):
    assert loop.post("/preview", **asked)[0] == 422


def test_never_while_armed_and_never_of_a_blind_plan(loop):
    plan = {"arms": ["favourable", "random"], "trials_per_arm": 5, "blind": True}
    assert loop.ask("PUT", "", {"plan": plan})[0] == 200
    status, told = loop.post("/preview", p_on=0.8)
    assert (status, "blind" in told["detail"]) == (409, True)
    loop.ask("PUT", "", {"plan": {**plan, "blind": False}})
    loop.arm()
    status, told = loop.post("/preview", p_on=0.8)
    assert (status, "disarm it" in told["detail"]) == (409, True)


def test_one_at_a_time(loop):
    preview = Preview(loop.service)

    async def two():
        return await asyncio.gather(*(preview.of(Thresholds(p_on=HIGH)) for _ in range(2)), return_exceptions=True)

    told, refused = asyncio.run(two())
    assert told["would_fire"] == 3
    assert isinstance(refused, HTTPException)
    assert (refused.status_code, refused.headers) == (503, {"Retry-After": "1"})


def test_without_limits_nothing_could_have_fired():
    service = Service(FakeLive(), FakeDecoder(), Settings(), FakeBundles())
    with pytest.raises(Conflict, match="no valid limits file or no stream"):
        asyncio.run(Preview(service).of(Thresholds()))
