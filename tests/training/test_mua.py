"""MUA files: the chain's own numbers on an unshifted grid, what is not vouched for listed, never half a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pynwb
import pytest

from models.errors import OperatorFault, RigFault
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from tests.streaming.sources.files import RATE_HZ, counts, trial, write_nsx, write_nwb
from training.mua import mua

SETTINGS = ChainSettings()


class Mua:
    """A MUA file, read back."""

    def __init__(self, path: Path) -> None:
        with pynwb.NWBHDF5IO(path, "r") as io:
            nwb = io.read()
            assert pynwb.validate(io=io) == []
            series = nwb.processing["ecephys"]["MUA"]
            self.data = series.data[:]
            self.rate, self.conversion, self.start = series.rate, series.conversion, series.starting_time
            self.comments = json.loads(series.comments)
            self.labels = list(nwb.electrodes["label"][:])
            self.usable = np.asarray(nwb.electrodes["usable"][:])
            self.positions = (
                [tuple(p) for p in zip(nwb.electrodes["rel_x"][:], nwb.electrodes["rel_y"][:], strict=True)]
                if "rel_x" in nwb.electrodes.colnames
                else None
            )
            self.trials = None if nwb.trials is None else nwb.trials.to_dataframe()
            self.session = (nwb.session_id, nwb.subject and nwb.subject.subject_id, nwb.session_start_time)
            self.valid = np.ones(len(self.data), bool)
            if nwb.invalid_times is not None:
                for start, stop in zip(
                    nwb.invalid_times["start_time"][:], nwb.invalid_times["stop_time"][:], strict=True
                ):
                    self.valid[round((start - self.start) * 1000) : round((stop - self.start) * 1000)] = False


def served(samples_uv: np.ndarray, trains: tuple[tuple[int, float], ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """(envelope, valid) as the live service gives them, in its millisecond chunks."""
    chain = SignalChain(SETTINGS, RATE_HZ, samples_uv.shape[1])
    for onset, seconds in trains:
        chain.stimulation(onset, seconds)
    envelope, valid = [], []
    for first in range(0, len(samples_uv), 30):
        bins = chain.push(samples_uv[first : first + 30], first)
        envelope.append(bins.envelope_uv)
        valid.append(bins.valid)
    return np.concatenate(envelope), np.concatenate(valid)


def test_the_file_holds_what_the_service_computes(tmp_path: Path) -> None:
    data = counts(75_017, 5)
    trains = [trial(0.6), trial(1.4995)]  # the second straddles a block
    mua(write_nwb(tmp_path / "a.nwb", data, trials=trains), tmp_path / "m.nwb")
    made = Mua(tmp_path / "m.nwb")
    envelope, valid = served(data * np.float32(0.25), tuple((round(t["stim_onset"] * RATE_HZ), 0.02) for t in trains))
    assert made.data.shape == (2500, 5)
    assert made.data.dtype == np.float32
    assert (made.rate, made.conversion, made.start) == (1000.0, 1e-6, 0.0)
    np.testing.assert_array_equal(made.data, envelope)
    np.testing.assert_array_equal(made.valid, valid)
    assert not made.valid[:50].any()
    assert not made.valid[600:620].any()
    np.testing.assert_array_equal(made.usable, np.ones(5))


def test_whose_it_is_and_by_which_chain(tmp_path: Path) -> None:
    trials = [trial(0.1, True), trial(0.2, False, 7)]
    mua(write_nwb(tmp_path / "a.nwb", counts(9000, 3), trials=trials), tmp_path / "m.nwb")
    made = Mua(tmp_path / "m.nwb")
    assert made.labels == ["elec1", "elec2", "elec3"]
    assert made.positions == [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)]
    assert made.session[:2] == ("s07", "P1")
    assert made.session[2].year == 2026
    assert ChainSettings.from_dict(made.comments["chain"]) == SETTINGS
    assert made.comments["rate_hz"] == RATE_HZ
    assert made.trials is not None
    assert made.trials[list(trials[0])].to_dict("records") == trials


@pytest.mark.parametrize("pause_s", [0.5, 3.0])
def test_a_pause_shifts_no_bin(tmp_path: Path, pause_s: float) -> None:
    """Under and over the longest gap of the chain: bins of the pause stand there, not vouched for, and shift none."""
    data = counts(60_000, 2)
    behind = 30_000 + round(pause_s * RATE_HZ)
    mua(write_nsx(tmp_path / "a.ns6", [(0, data[:30_000]), (behind, data[30_000:])], ["e1", "e2"]), tmp_path / "m.nwb")
    made = Mua(tmp_path / "m.nwb")
    first, end = 1000, 1000 + round(pause_s * 1000)
    assert len(made.data) == end + 1000
    assert not made.valid[first : end + 50].any()
    assert made.valid[100:999].all()
    assert made.valid[end + 100 :].all()
    assert (made.data[first + 1 : end - 1] == 0).all() or pause_s < 2
    alone, _ = served(data[30_000:] * np.float32(0.25))
    np.testing.assert_allclose(made.data[end + 200 :], alone[200:], rtol=1e-3, atol=1e-3)


def test_a_dead_channel_is_told(tmp_path: Path) -> None:
    data = counts(120_000, 3)
    data[:, 1] = 0
    mua(write_nwb(tmp_path / "a.nwb", data), tmp_path / "m.nwb")
    usable = Mua(tmp_path / "m.nwb").usable
    assert usable[1] < 0.5
    assert usable[[0, 2]].min() == 1.0


def test_nothing_is_overwritten_and_nothing_half_done_remains(tmp_path: Path, monkeypatch) -> None:
    path = write_nwb(tmp_path / "a.nwb", counts(30_000, 2))
    (tmp_path / "m.nwb").write_bytes(b"precious")
    with pytest.raises(OperatorFault, match="never overwritten"):
        mua(path, tmp_path / "m.nwb")
    assert (tmp_path / "m.nwb").read_bytes() == b"precious"

    def broken(*_: object) -> None:
        raise RigFault("the disk broke")

    monkeypatch.setattr("streaming.sources.nwb.NwbRecording.rows", broken)
    with pytest.raises(RigFault, match="the disk broke"):
        mua(path, tmp_path / "other.nwb")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nwb", "m.nwb"]


def test_a_folder_that_is_not_there_is_the_operators(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", counts(3000, 2))
    with pytest.raises(OperatorFault, match="no such folder"):
        mua(path, tmp_path / "nowhere" / "m.nwb")
