"""The HTTP interface: what each path answers, and that everything wrong is answered with problem details."""

from __future__ import annotations

import asyncio
import io
import json
import re
from dataclasses import replace

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from server.app import ASSETS, PAGE, create_app
from server.service import Service, held_at_most
from server.settings import Settings
from streaming.drift import DriftStatus
from streaming.events import Report
from streaming.live_status import MarkerSeen
from streaming.predictions import Latency
from tests.server.fakes import BINS, CHANNELS, FakeBundles, FakeDecoder, FakeLive
from tests.server.seen import watched

PORT = 8000
LICENSE = "vendor/LICENSE-uPlot"


@pytest.fixture
def live():
    return FakeLive()


@pytest.fixture
def service(live):
    service = Service(live, FakeDecoder(), Settings(), FakeBundles())
    live.sink = service.hand_over
    return service


@pytest.fixture
def client(service):
    base = f"http://127.0.0.1:{PORT}"
    app = watched(create_app(service, PORT))
    with TestClient(app, base_url=base, headers={"origin": base}, raise_server_exceptions=False) as one:
        yield one


def say(client, live, count=1, **changes):
    """Predictions that are published when this returns: the loop ran what the decode thread handed over."""
    live.say(count, **changes)
    client.get("/healthz")


def assert_problem(response, status, *words):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    for word in words:
        assert word in body["detail"]


def test_alive_at_once_ready_when_samples_arrive(client, live, service):
    assert client.get("/healthz").json() == {"alive": True}
    assert_problem(client.get("/readyz"), 503, "waiting", "no stream matches", "no sample")
    say(client, live)
    client.portal.call(service.tick, 0)
    assert client.get("/readyz").json() == {"ready": True}


def test_not_ready_when_late(client, live, service):
    say(client, live, 10, latency_ms=Latency(0.4, 0.1, 70.0, 71.0))
    client.portal.call(service.tick, 0)
    assert_problem(client.get("/readyz"), 503, "100%", "50 ms")


def test_not_ready_when_windows_are_skipped(live):
    now = 0.0
    service = Service(live, FakeDecoder(), Settings(), FakeBundles(), clock=lambda: now)
    live.state, live.counters.samples = "running", 300
    for tick in range(50):
        now, live.said, live.skipped = tick / 10, tick * 4, tick * 6
        live.counters.samples += 300
        service.tick(1)
    (said,) = service.not_ready()
    assert said.startswith("60% of windows skipped, expected at most 5%: the decoder is slower than the hop")
    for tick in range(50, 151):  # it has the machine to itself again
        now, live.said = tick / 10, live.said + 10
        live.counters.samples += 300
        service.tick(1)
    assert service.not_ready() == []


def test_not_ready_when_silent(live):
    now = 0.0
    service = Service(live, FakeDecoder(), Settings(), FakeBundles(), clock=lambda: now)
    live.state, live.counters.samples = "running", 300
    service.tick(0)
    assert service.not_ready() == []
    now = 1.5
    service.tick(1)
    assert service.not_ready() == ["no sample for 1.5 s"]


def test_not_ready_when_nothing_can_be_decoded(client, live, service):
    say(client, live)
    client.portal.call(service.tick, 0)
    live.problem = "stream UtahArray: found 32 channels, expected the 96 of the bundle"
    assert_problem(client.get("/readyz"), 503, "found 32 channels")


def test_no_stream_is_one_clear_sentence(live):
    live.waiting_for = ""
    looking_for = "an LSL stream with name='UtahArray'"
    service = Service(live, FakeDecoder(), Settings(), FakeBundles(), looking_for=looking_for)
    sentence = f"no stream yet: still looking for {looking_for}; start the amplifier's LSL sender"
    assert service.status()["problem"] == sentence
    assert service.not_ready()[0] == f"the decoder is waiting: {sentence}"
    live.state = "running"
    assert service.status()["problem"] == ""


def test_a_tick_takes_one_snapshot(live, service):
    service.tick(0)
    assert live.asked == 1


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 60_000), ({"hop_s": 0.001}, 600_000), ({"hop_s": 0.02, "hold_s": 60}, 3_000), ({"mode": "evoked"}, 600_000)],
)
def test_what_was_promised_is_held(changes, count):
    assert count <= held_at_most(Settings(**changes)) <= 1.05 * count


def test_the_decode_thread_lives_as_long_as_the_app(live, service):
    with TestClient(create_app(service, PORT)):
        assert (live.started, live.stopped) == (1, 0)
    assert (live.started, live.stopped) == (1, 1)
    live.say()  # a late prediction has nobody to go to, and harms nobody


def test_latencies_are_of_windows_that_were_decoded(client, live, service):
    say(client, live, 3)
    say(client, live, 97, embedding=None, probability=None, flags=("blanking",), latency_ms=Latency(0.4, 0.1, 0.0, 0.5))
    told = client.get("/v1/status").json()["latency_ms"]
    assert told["inference"]["p50"] == pytest.approx(3.2)
    assert service.latency.late_share(0.001) == 1.0


def test_status_and_models(client, live, service):
    say(client, live, 3)
    status = client.get("/v1/status").json()
    assert status["state"] == "running"
    assert status["model"] == "fake@1"
    assert status["stream"]["source"] == "simulated"
    assert status["next_seq"] == 3
    assert status["latency_ms"]["total"]["p50"] == pytest.approx(4.1)
    models = client.get("/v1/models").json()
    assert models["active"] == "fake@1"
    assert models["models"] == FakeBundles().list()
    assert (models["candidate"], models["before"]) == (None, None)


def test_activate(client, live):
    assert client.post("/v1/models/fake/activate", json={}).json() == {"active": "fake@2"}
    assert live.activated == ["fake@2"]
    assert client.get("/v1/status").json()["model"] == "fake@2"
    assert_problem(client.post("/v1/models/other/activate", json={}), 422, "no bundle 'other'")
    assert_problem(client.post("/v1/models/fake/activate"), 415)


def test_held_predictions(client, live):
    say(client, live, 10)
    body = client.get("/v1/predictions", params={"since_seq": 4, "limit": 3}).json()
    assert [one["seq"] for one in body["predictions"]] == [5, 6, 7]
    assert (body["first_seq"], body["next_seq"]) == (0, 10)
    assert len(body["predictions"][0]["embedding"]) == 16
    lean = client.get("/v1/predictions", params={"fields": "probability"}).json()["predictions"]
    assert len(lean) == 10
    assert "embedding" not in lean[0]
    assert client.get("/v1/predictions", params={"since_seq": 99}).json()["predictions"] == []
    assert_problem(client.get("/v1/predictions", params={"limit": 0}), 422, "limit")
    assert_problem(client.get("/v1/predictions", params={"fields": "raw"}), 422, "raw")


def test_late_marker_withdraws_what_is_held(client, live, service):
    say(client, live, 10)
    service.marked_late(900, 1500)
    held = client.get("/v1/predictions").json()["predictions"]
    for one in held:
        late = 3 <= one["seq"] <= 5
        assert (one["probability"] is None) == late
        assert (one["embedding"] is None) == late
        assert one["flags"] == (["late_marker"] if late else [])


def test_late_marker_leaves_an_earlier_stream_alone(client, live, service):
    say(client, live, 4)  # samples 0, 300, 600, 900
    for sample in (0, 300, 600):
        say(client, live, last_sample=sample)  # sample counts start again after a reconnect
    service.marked_late(300, 900)
    held = client.get("/v1/predictions").json()["predictions"]
    assert [one["seq"] for one in held if "late_marker" in one["flags"]] == [5, 6]


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_decode_npy_and_json(client):
    windows = np.random.default_rng(1).normal(size=(3, CHANNELS, BINS)).astype(np.float32)
    from_npy = client.post("/v1/decode", content=npy(windows), headers={"content-type": "application/x-npy"}).json()
    assert from_npy["probabilities"] == [1.0, 1.0, 1.0]
    assert np.allclose(from_npy["embeddings"], windows[:, :16].mean(axis=2), atol=1e-6)
    usable = np.ones((3, CHANNELS), bool)
    usable[1, :48] = False
    from_json = client.post("/v1/decode", json={"windows": windows.tolist(), "usable": usable.tolist()}).json()
    assert from_json["probabilities"] == [1.0, 0.5, 1.0]
    assert from_json["embeddings"] == from_npy["embeddings"]
    evoked = client.post("/v1/decode", params={"probe": "evoked"}, json={"windows": windows.tolist()}).json()
    assert evoked["probabilities"] == [None, None, None]


def bad_arrays():
    good = np.zeros((1, CHANNELS, BINS), np.float32)
    nan = good.copy()
    nan[0, 3, 5] = np.nan
    header = npy(good)
    return {
        "float64": npy(good.astype(np.float64)),
        "shape": npy(good[:, :, :-1]),
        "nothing": npy(good[:0]),
        "nan": npy(nan),
        "objects": npy_pickled(),
        "cut": header[:-4],
        "not closed": header.replace(b"(1, 96, 128)", b"(1, 96, 128 "),
        "nested": header.replace(b"(1, 96, 128), }", b"(" * 15),
        "claims much": header.replace(b"(1, 96, 128)", b"(9999999999,)"),
        "garbage": b"\x93NUMPY\x01\x00\xff\xff" + b"x" * 100,
        "empty": b"",
    }


def npy_pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", bad_arrays())
def test_decode_refuses_npy(client, kind):
    body = bad_arrays()[kind]
    assert_problem(client.post("/v1/decode", content=body, headers={"content-type": "application/x-npy"}), 422)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"windows": 3}',
        b'{"windows": [[1, 2], [3]]}',
        b'{"windows": [["a"]]}',
        b'{"windows": [[[NaN]]]}',
        b'{"windows": [], "more": 1}',
        json.dumps({"windows": np.zeros((1, CHANNELS, BINS)).tolist(), "usable": [1, 2]}).encode(),
    ],
)
def test_decode_refuses_json(client, body):
    assert_problem(client.post("/v1/decode", content=body, headers={"content-type": "application/json"}), 422)


def test_bodies_are_bounded(client):
    much = b" " * (64 * 2**10 + 1)
    assert_problem(client.put("/v1/channels", content=much, headers={"content-type": "application/json"}), 413)

    def trickle():
        for _ in range(100):
            yield b" " * 1000

    assert_problem(client.put("/v1/channels", content=trickle(), headers={"content-type": "application/json"}), 413)


def test_slow_bodies_hold_no_decode_slot(client):
    good = npy(np.zeros((1, CHANNELS, BINS), np.float32))
    headers = {"content-type": "application/x-npy"}

    async def at_once():
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}") as one:
            sent, go_on = asyncio.Semaphore(0), asyncio.Event()

            async def trickle():
                yield good[:1000]
                sent.release()
                await go_on.wait()
                yield good[1000:]

            slow = [asyncio.create_task(one.post("/v1/decode", content=trickle(), headers=headers)) for _ in range(4)]
            for _ in slow:
                await sent.acquire()
            quick = await one.post("/v1/decode", content=good, headers=headers)
            go_on.set()
            await asyncio.gather(*slow)
            return quick

    assert asyncio.run(at_once()).status_code == 200


def test_mask(client, live):
    assert_problem(client.put("/v1/channels", json={"masked": [1]}), 422, "no stream yet")
    say(client, live)
    answer = client.put("/v1/channels", json={"masked": [7, 96, 7]}).json()
    assert answer == {"masked": [7, 96], "usable_channels": 94, "from_sample": 4242} | {
        "epoch": 0,
        "sample_time": pytest.approx(100.0 + 4242 / 30000),
    }
    assert np.flatnonzero(~live.usable).tolist() == [6, 95]
    assert client.put("/v1/channels", json={"masked": []}).json()["usable_channels"] == 96
    assert_problem(client.put("/v1/channels", json={"masked": [97]}), 422, "97", "1 to 96")
    assert_problem(client.put("/v1/channels", json={"masked": [0]}), 422)
    assert_problem(client.put("/v1/channels", json={"masked": [1], "unmasked": [2]}), 422)
    assert_problem(client.put("/v1/channels", json=[1]), 422)


def test_a_mask_whose_epoch_no_prediction_has_told(client, live):
    say(client, live, last_sample=900_000, epoch=3)  # the next samples are counted from a reconnect
    answer = client.put("/v1/channels", json={"masked": [7]}).json()
    assert (answer["from_sample"], answer["epoch"], answer["sample_time"]) == (4242, None, None)
    say(client, live, last_sample=4000, epoch=4, sample_time=200.0)
    answer = client.put("/v1/channels", json={"masked": [7]}).json()
    assert (answer["epoch"], answer["sample_time"]) == (4, pytest.approx(200.0 + 242 / 30000))


@pytest.mark.parametrize("path", ["/v1/triggers", "/nothing", "/page/../app.py", "/page/app.py"])
def test_what_is_not_there(client, path):
    response = client.get(path)
    assert response.status_code in (404, 422)
    assert_problem(response, response.status_code)


def test_wrong_method(client):
    assert_problem(client.post("/v1/status", json={}), 405)


def test_a_bug_is_a_problem_too(client, service, monkeypatch):
    monkeypatch.setattr(service, "status", lambda: 1 / 0)
    assert_problem(client.get("/v1/status"), 500, "ZeroDivisionError")


def test_metrics(client, live, service):
    say(client, live, 5)
    say(client, live, 2, probability=None, flags=("gap",))
    client.portal.call(service.tick, 0)
    text = client.get("/metrics").text
    assert 'phosphene_predictions_total{valid="true"} 5.0' in text
    assert 'phosphene_predictions_total{valid="false"} 2.0' in text
    assert 'phosphene_prediction_flags_total{flag="gap"} 2.0' in text
    assert 'phosphene_sample_to_prediction_seconds_bucket{le="0.005"} 7.0' in text
    assert 'phosphene_state{state="running"} 1.0' in text
    assert "phosphene_source_samples_total 2100.0" in text
    assert "phosphene_ready 1.0" in text


def test_drift_is_told_by_status_and_metric(client, live, service):
    say(client, live)
    client.portal.call(service.tick, 0)
    assert "phosphene calibrate" in client.get("/v1/status").json()["drift"]["why"]
    assert 'phosphene_drift_ratio{of="mua"} NaN' in client.get("/metrics").text
    plain = live.status
    live.status = lambda: replace(plain(), drift=DriftStatus(0.25, 1.5, True))
    client.portal.call(service.tick, 1)
    found = client.get("/v1/status").json()["drift"]
    assert found == {"measured": True, "drifts": True, "mua": 0.25, "embedding": 1.5}
    assert 'phosphene_drift_ratio{of="embedding"} 1.5' in client.get("/metrics").text


def test_the_page_asks_for_nothing_outside(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert {path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*.*")} - {"index.html", "login.html"} | {
        LICENSE
    } == ASSETS
    assert not re.search(r"""["'(]/""", page.text), "every address is relative: the page may be served below a path"
    for asset in sorted(ASSETS - {LICENSE}):
        body = client.get(f"/page/{asset}")
        assert body.status_code == 200
        assert "default-src 'none'" in body.headers["content-security-policy"]
        if not asset.startswith("vendor/"):  # whose comments name their sources
            assert not re.search(r"https?://(?!www\.w3\.org/)", body.text)
            assert "innerHTML" not in body.text
            assert not re.search(r"""["'`(]/(page|v1)""", body.text)


def test_evoked_predictions_are_scored_against_their_reports(live):
    service = Service(live, FakeDecoder(), Settings(mode="evoked"), FakeBundles())
    live.sink = service.hand_over
    base = f"http://127.0.0.1:{PORT}"
    with TestClient(watched(create_app(service, PORT)), base_url=base, headers={"origin": base}) as client:
        assert client.get("/v1/status").json()["evoked"]["n"] == 0
        for trial in range(20):
            seen = trial % 2 == 0
            at = 10.0 * trial
            said = 0.8 if seen or trial == 1 else 0.2  # one false alarm
            say(client, live, mode="evoked", trial=trial, sample_time=at, probability=said)
            service.marked(MarkerSeen(Report(trial, seen), 0, at + 0.5))
        client.get("/healthz")
        score = client.get("/v1/status").json()["evoked"]
    assert (score["n"], score["hits"], score["false_alarms"]) == (20, 10, 1)
    assert score["balanced_accuracy"] == pytest.approx(0.95)
    low, high = score["interval"]
    assert 0.5 < low < 0.95 < high <= 1.0
    service = Service(live, FakeDecoder(), Settings(), FakeBundles())
    assert service.status()["evoked"] is None
