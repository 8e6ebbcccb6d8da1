"""The live service is held against the file that it hears: over real LSL, with stimulations, at every newest sample."""

from __future__ import annotations

from pathlib import Path

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
from training.simulate import write_dataset

RATE_HZ = 1000.0
T0 = 50.0
SECONDS = 4.6  # the trial's train begins at 4.1


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


def frame(last_sample: float, probability: float | None, flags: tuple[str, ...] = ()) -> dict:
    embedding = None if probability is None else np.full(4, probability, "<f4").tobytes()
    time = T0 + last_sample / RATE_HZ
    return {"sample_time": time, "probability": probability, "embedding": embedding, "flags": list(flags)}


def test_what_is_compared_and_what_is_counted() -> None:
    offline = [predicted(9, None, ("settling",)), *(predicted(9 + 10 * k, 0.5) for k in range(1, 6))]
    frames = [
        frame(9, None, ("settling",)),
        frame(19, 0.5),
        frame(29, 0.75),  # off by a quarter
        frame(39, None, ("backlog",)),  # of the moment
        frame(49.5, 0.5),  # between two samples
        frame(69, 0.5, ("gap",)),  # of a later connection
    ]
    found = compare(offline, frames, T0, RATE_HZ, until=60)
    assert (found["windows"], found["missed"], found["compared"]) == (6, 2, 3)
    assert (found["not_compared"], found["off_the_grid"]) == (1, 1)
    assert found["largest_probability_difference"] == found["largest_embedding_difference"] == 0.25
    assert found["null_embeddings_by_flags"] == {"settling": 1}
    assert found["after_a_pause_by_flags"] == {"gap": 1}
    assert found["null_on_one_side"] == found["other_flags"] == 0


def test_a_null_on_one_side_and_other_flags_are_found() -> None:
    found = compare([predicted(9, 0.5)], [frame(9, None, ("gap",))], T0, RATE_HZ, until=60)
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


def test_live_is_the_file(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "envelopes", lambda *_: {})  # the next test's
    said = parity(recording, seconds=SECONDS)["predictions"]
    assert said["probabilities"] > 0
    assert said["compared"] > 0
    assert said["largest_probability_difference"] <= 1e-5
    assert said["largest_embedding_difference"] <= 1e-5 * said["largest_embedding_value"]
    assert said["null_on_one_side"] == said["other_flags"] == said["off_the_grid"] == 0
    assert said["null_embeddings_by_flags"]["blanking"] > 0


def test_the_live_envelope_is_the_file_that_mua_writes(recording: Path) -> None:
    opened = open_recording(recording, pace=None).recording
    found = envelopes(Player(recording, seconds=SECONDS), opened, ChainSettings(), None, None)
    opened.close()
    (whole,) = found["connections"]
    assert whole["first_sample"] == 0
    assert whole["bins"] > 4000
    assert whole["largest_difference_from_mua_uv"] == 0.0
    assert whole["largest_envelope_difference_uv"] == 0.0
    assert whole["largest_z_difference"] == 0.0
