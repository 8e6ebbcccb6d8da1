"""A surrogate array says what it is: which file plays where, at what scale, and where electrodes change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from scipy.io import wavfile

from models.errors import OperatorFault, RigFault
from streaming.sources.recording import open_recording
from training.surrogate import SHIFT, surrogate

RATE_HZ = 19531


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty files; file k holds the number k."""
    there = tmp_path / "wav"
    there.mkdir()
    for k in range(30):
        wavfile.write(there / f"{k:02d}.wav", RATE_HZ, np.full(4000 + k, k, np.int16))
    return there


def test_every_channel_plays_what_the_file_says(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "array.nwb"
    facts = surrogate(folder, out, n_channels=28, tiles=2, scale_uv=0.5)
    source = open_recording(out, pace=None)
    recording = source.recording
    first, second = recording.stretches
    assert (first.n_samples, second.n_samples) == (4000, 4000)
    assert second.first_sample == 4000 + facts["break_samples"]
    np.testing.assert_array_equal(recording.rows(0, 0, 4000), np.tile(np.arange(28), (4000, 1)))
    np.testing.assert_array_equal(recording.rows(1, 0, 10)[0], (np.arange(28) + SHIFT) % 30)
    assert recording.scale_uv == pytest.approx(np.full(28, 0.5))
    assert (source.info.rate_hz, source.info.participant) == (RATE_HZ, "surrogate")
    source.close()
    with NWBHDF5IO(out, "r") as io:
        said = json.loads(io.read().acquisition["Broadband"].description)
    assert said == facts
    assert said["scale_uv_per_count"] == 0.5


def test_what_cannot_be_stacked_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="at least 31"):
        surrogate(folder, tmp_path / "a.nwb", n_channels=31)
    wavfile.write(folder / "30.wav", 20000, np.zeros(4000, np.int16))
    with pytest.raises(RigFault, match="expected one"):
        surrogate(folder, tmp_path / "a.nwb", n_channels=20)
    (tmp_path / "b.nwb").touch()
    with pytest.raises(OperatorFault, match="never overwritten"):
        surrogate(folder, tmp_path / "b.nwb")
