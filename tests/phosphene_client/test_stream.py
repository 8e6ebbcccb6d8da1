"""The client against the real server: what it gives, what a break costs, and what it says when nobody is there."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.server import serve

from phosphene_client import CHANNELS, PredictionStream
from server.settings import Settings
from streaming.sinks import prediction_outlet
from tests.server.test_real_server import Running

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"phosphene_client", "websockets", "numpy", "msgpack"}


@pytest.fixture
def running():
    one = Running()
    yield one
    one.stop()


def url(running):
    return f"ws://127.0.0.1:{running.port}"


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def break_off(running):
    """Every connection is cut, as by a cable."""
    for one in list(running.server.server_state.connections):
        one.transport.get_extra_info("socket").shutdown(2)


def test_it_needs_three_packages_and_nothing_of_ours():
    code = "import sys, phosphene_client; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    installed = {name for name in done.stdout.split() if name not in sys.stdlib_module_names and name[0] != "_"}
    assert not (installed & ours) - ALLOWED
    assert installed >= ALLOWED


def test_the_channels_are_those_of_the_lsl_stream():
    assert prediction_outlet.CHANNELS == CHANNELS


def test_data_as_it_comes(running):
    with PredictionStream(url(running), bufsize=1.0, embedding=True) as stream:
        assert stream.connected
        assert stream.get_data()[0].shape == (3, 0)
        running.live.say(150)
        running.live.say(50, probability=None, flags=("gap",))
        until(lambda: stream.n_new_samples == 200)
        data, times = stream.get_data(0.745)
        assert stream.n_new_samples == 0
        assert times == pytest.approx(100.0 + 0.01 * np.arange(125, 200), abs=1e-6)
        assert np.isnan(data[0]).tolist() == [False] * 25 + [True] * 50
        assert data[1].tolist() == [1.0] * 25 + [0.0] * 50
        frames = stream.get_frames(0.1)
        assert frames[-1]["flags"] == ["gap"]
        assert frames[-1]["embedding"].dtype == np.float32
        assert (stream.run_id, stream.n_lost, stream.problem) == (running.service.run_id, 0, "")
        assert stream.silent_s < 10
    assert not stream.connected
    assert len(stream.get_data(0.995)[1]) == 100  # what it holds can still be read


@pytest.fixture
def long_break(monkeypatch):
    """Long enough to be seen on a machine that is slow."""
    monkeypatch.setattr("phosphene_client.stream.RETRY_S", 1.0)


def test_a_break_loses_nothing(long_break, running):
    stream = PredictionStream(url(running)).connect()
    running.live.say(20)
    until(lambda: stream.n_new_samples == 20)
    break_off(running)
    until(lambda: not stream.connected)
    assert stream.problem
    running.live.say(300)  # nobody hears it
    until(lambda: stream.n_new_samples == 320)
    assert [frame["seq"] for frame in stream.get_frames()] == list(range(320))
    assert stream.n_lost == 0
    stream.disconnect()


def test_what_is_not_held_any_more_is_counted(long_break):
    running = Running(Settings(hold_s=0.1, hop_s=0.01))  # ten predictions
    stream = PredictionStream(url(running)).connect()
    running.live.say(5)
    until(lambda: stream.n_new_samples == 5)
    break_off(running)
    until(lambda: not stream.connected)
    running.live.say(200)
    until(lambda: stream.n_lost > 0 and stream.get_frames(0.005)[-1]["seq"] == 204)
    seqs = [frame["seq"] for frame in stream.get_frames()]
    assert len(seqs) + stream.n_lost == 205
    stream.disconnect()
    running.stop()


def test_a_service_that_starts_again_is_another_run(long_break, running):
    stream = PredictionStream(url(running)).connect()
    running.live.say(30)
    until(lambda: stream.n_new_samples == 30)
    before, port = stream.run_id, running.port
    running.stop()
    until(lambda: not stream.connected)
    again = Running(port=port)
    until(lambda: stream.connected)
    again.live.say(3)
    until(lambda: stream.run_id == again.service.run_id)
    until(lambda: stream.n_new_samples == 3)
    assert before != stream.run_id
    assert [frame["seq"] for frame in stream.get_frames()] == [0, 1, 2]
    stream.disconnect()
    again.stop()


def test_a_late_marker_withdraws_what_was_given(running):
    with PredictionStream(url(running)) as stream:
        running.live.say(10)
        until(lambda: stream.n_new_samples == 10)
        until(lambda: stream._events_run is not None)
        running.service.marked_late(900, 1500)
        until(lambda: np.isnan(stream.get_data()[0][0]).any())
        assert np.flatnonzero(np.isnan(stream.get_data()[0][0])).tolist() == [3, 4, 5]


def test_who_hears_no_withdrawals_is_not_connected(running):
    with PredictionStream(url(running)) as stream:
        running.service.settings = running.service.settings.model_copy(update={"subscribers": 1})
        break_off(running)
        until(lambda: "clients already" in stream.problem)  # one of the two, and for ever
        assert not stream.connected
        running.service.settings = Settings()
        until(lambda: stream.connected)
        assert stream.problem == ""
    running.service.settings = running.service.settings.model_copy(update={"subscribers": 1})
    with pytest.raises(ConnectionError, match=r"/v1/.*clients already"):
        PredictionStream(url(running)).connect()


@pytest.mark.parametrize(
    ("path", "message"), [("/v1/predictions", b"\xc1"), ("/v1/events", json.dumps({"type": "late_marker"}))]
)
def test_a_message_that_cannot_be_read_is_said(path, message):
    connected = threading.Event()

    def service(socket):
        connected.wait(10)
        if socket.request.path.startswith(path):
            socket.send(message)
        socket.recv()

    with serve(service, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stream = PredictionStream(f"ws://127.0.0.1:{server.socket.getsockname()[1]}").connect()
        connected.set()
        until(lambda: "cannot be read" in stream.problem)
        assert stream.problem.startswith(path)
        assert not stream.connected
        stream.disconnect()
        server.shutdown()
        thread.join()


def test_nobody_there_is_one_sentence(running):
    running.stop()
    with pytest.raises(ConnectionError, match=r"ws://127.0.0.1:\d+: .*is `phosphene serve` running there"):
        PredictionStream(url(running)).connect(timeout=0.1)


def test_a_refusal_is_in_the_words_of_the_service(running):
    with pytest.raises(ConnectionError, match="max_hz"):
        PredictionStream(url(running), max_hz=5000).connect()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"url": "http://rig:8000"}, "ws://"), ({"bufsize": 0}, "bufsize"), ({"bufsize": 1e9}, "3600")],
)
def test_what_cannot_be_is_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        PredictionStream(**arguments)


def test_connected_twice_is_refused(running):
    with PredictionStream(url(running)) as stream, pytest.raises(RuntimeError, match="disconnect first"):
        stream.connect()
