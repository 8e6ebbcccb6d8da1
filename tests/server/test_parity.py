"""The live service is held against the file that it hears: over real LSL, with stimulations, at every newest sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.bench import parity as tool
from server.bench.envelopes import envelopes
from server.bench.parity import compare, parity
from server.bench.player import Player
from streaming.events import Stimulation
from streaming.participant.settings import ParticipantSettings
from streaming.predictions import Latency, Prediction
from streaming.signal.settings import ChainSettings
from streaming.sources.recording import open_recording, read_recording
from tests.streaming.sources.files import counts, write_nsx
from training.simulate import write_dataset

RATE_HZ = 1000.0
T0 = 50.0
BEGAN = {0: 0, 1: 700}  # samples of the recording with which the epochs begin
SECONDS = 4.6  # the trial's train begins at 4.1
TRIES = 4  # a machine that is busy otherwise may miss much of a stream; what it hears agrees all the same


def predicted(last_sample: int, probability: float | None, flags: tuple[str, ...] = ()) -> Prediction:
    embedding = None if probability is None else np.full(4, probability, np.float32)
    return Prediction(
        seq=last_sample,
        source="replay",
        sample_time=0.0,
        last_sample=last_sample,
        epoch=0,
        mode="continuous",
        trial=None,
        model="m@1",
        probability=probability,
        embedding=embedding,
        usable_channels=96,
        flags=flags,  # type: ignore[arg-type]
        latency_ms=Latency(0.0, 0.0, 0.0, 0.0),
    )


def frame(
    last_sample: int, probability: float | None, flags: tuple[str, ...] = (), epoch: int = 0, off: float = 0
) -> dict:
    embedding = None if probability is None else np.full(4, probability, "<f4").tobytes()
    time = T0 + (BEGAN[epoch] + last_sample + off) / RATE_HZ
    place = {"epoch": epoch, "last_sample": last_sample, "sample_time": time}
    return place | {"probability": probability, "embedding": embedding, "flags": list(flags)}


def test_what_is_compared_and_what_is_counted() -> None:
    offline = [predicted(9, None, ("settling",)), *(predicted(9 + 10 * k, 0.5) for k in range(1, 7))]
    frames = [
        frame(9, None, ("settling",)),
        frame(19, 0.5),
        frame(29, 0.75),  # off by a quarter
        frame(39, None, ("backlog",)),  # of the moment
        frame(59, 0.5, ("overload",)),  # windows before it are missing, its value is good
        frame(49, 0.5, off=0.5),  # between two samples
        frame(55, 0.5),  # no window ends there
        frame(9, 0.5, epoch=1),  # of a later connection
    ]
    expected = {(0, one.last_sample): one for one in offline} | {(1, 9): predicted(9, 0.5)}
    found = compare(expected, frames, BEGAN, T0, RATE_HZ)
    assert (found["windows"], found["missed"], found["compared"]) == (8, 2, 5)
    assert (found["not_compared"], found["off_the_grid"]) == (1, 2)
    assert found["largest_probability_difference"] == found["largest_embedding_difference"] == 0.25
    assert found["null_embeddings_by_flags"] == {"settling": 1}
    assert found["null_on_one_side"] == found["other_flags"] == 0


def test_a_null_on_one_side_and_other_flags_are_found() -> None:
    found = compare({(0, 9): predicted(9, 0.5)}, [frame(9, None, ("gap",))], BEGAN, T0, RATE_HZ)
    assert (found["null_on_one_side"], found["other_flags"]) == (2, 1)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven seconds of simulated broadband; in this session the first trial is over after 4.7 s."""
    folder = tmp_path_factory.mktemp("parity")
    path = write_dataset(folder, "psychometric", ParticipantSettings(session=3), minutes=7 / 60)[0]
    opened = read_recording(path)
    assert any(isinstance(marker, Stimulation) for _, marker in opened.markers)
    opened.close()
    return path


def agree(said: dict[str, Any]) -> None:
    """Whatever was heard is what the file says."""
    assert said["largest_probability_difference"] <= 1e-5
    assert said["largest_embedding_difference"] <= 1e-5 * said["largest_embedding_value"]
    assert said["null_on_one_side"] == said["other_flags"] == said["off_the_grid"] == 0


def test_live_is_the_file(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "envelopes", lambda *_: {})  # the next test's
    for _ in range(TRIES):
        said = parity(recording, seconds=SECONDS)["predictions"]
        agree(said)
        if said["probabilities"] and said["null_embeddings_by_flags"].get("blanking"):
            return
    pytest.fail(f"heard too little of the stream, {TRIES} times; last {said}")


def test_behind_a_pause_live_is_the_file_from_there_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "envelopes", lambda *_: {})
    labels = [f"e{k + 1}" for k in range(96)]
    parts = [(0, counts(60_000, 96, 1)), (90_000, counts(120_000, 96, 2))]  # a second's pause
    file = write_nsx(tmp_path / "a.ns6", parts, labels)
    for _ in range(TRIES):
        said = parity(file)["predictions"]
        agree(said)
        if len(said["began"]) > 1 and said["began"][-1] >= 90_000 and said["embeddings"] > 100:
            return
    pytest.fail(f"heard too little of the stream, {TRIES} times; last {said}")


def test_the_live_envelope_is_the_file_that_mua_writes(recording: Path) -> None:
    opened = open_recording(recording, pace=None).recording
    for _ in range(TRIES):
        found = envelopes(Player(recording, seconds=SECONDS), opened, ChainSettings(), None, None)["connections"]
        for heard in found:
            assert heard.get("largest_difference_from_mua_uv", 0.0) == 0.0
            assert heard["largest_envelope_difference_uv"] == 0.0
            assert heard["largest_z_difference"] == 0.0
        if found and found[0]["first_sample"] == 0 and found[0]["bins"] > 4000:
            break
    else:
        pytest.fail(f"heard too little of the stream, {TRIES} times; last {found}")
    opened.close()
