"""Spike counts of other laboratories: any bin, any number of channels, normalised without looking ahead."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pynwb import NWBHDF5IO, NWBFile
from scipy.io import savemat
from typer.testing import CliRunner

from models.errors import OperatorFault, RigFault
from server.cli import app
from streaming.signal.settings import NormaliserSettings
from training.counts import NORMALISER, bin_spikes
from training.data import cached, open_sessions, read_session
from training.pretrain import load_encoder

BIN_S = 0.1
SPIKES = np.random.default_rng(0).poisson([0.2, 1.0, 5.0], (8000, 3)).astype(np.int16)


def counts_file(path: Path, counts: np.ndarray = SPIKES, **more: object) -> Path:
    np.savez(path, **{"counts": counts, "bin_s": BIN_S, "date": "2021-03-04", **more})
    return path


def test_counts_become_a_session_by_the_square_root_and_the_trailing_window(tmp_path: Path):
    file = counts_file(tmp_path / "a.npz", labels=["x", "y", "z"], participant="monkey")
    (session,) = open_sessions([file], tmp_path / "cache")
    header = session.header
    assert (header.bin_rate_hz, header.numbers, header.labels) == (10.0, "counts", ("x", "y", "z"))
    assert (header.date, header.participant) == ("2021-03-04", "monkey")
    assert session.seconds == 800.0
    root = pd.DataFrame(np.sqrt(SPIKES.astype(float)))
    window = root.rolling(3000, min_periods=300)
    expected = (root - window.mean()) / window.std(ddof=0).clip(lower=NORMALISER.floor_uv)
    usable = np.asarray(session.usable)
    assert not usable[:299].any()
    assert usable[299:].all()
    np.testing.assert_allclose(session.z[299:], expected.to_numpy()[299:], atol=2e-4)


def test_no_bin_knows_of_a_later_one(tmp_path: Path):
    later = SPIKES.copy()
    later[5000:] = 100
    one, other = (
        read_session(cached(counts_file(tmp_path / f"{name}.npz", counts), tmp_path / "cache"))
        for name, counts in (("a", SPIKES), ("b", later))
    )
    np.testing.assert_array_equal(one.z[:5000], other.z[:5000])


def test_what_was_not_recorded_is_not_usable(tmp_path: Path):
    counts, usable = SPIKES.astype(np.float32), np.ones(SPIKES.shape, bool)
    counts[1000:1010, 0] = np.nan
    counts[2000, 1] = -1
    usable[3000:3500] = False
    session = read_session(cached(counts_file(tmp_path / "a.npz", counts, usable=usable), tmp_path / "cache"))
    missing = np.zeros(SPIKES.shape, bool)
    missing[:299] = missing[3000:3500] = missing[1000:1010, 0] = missing[2000, 1] = True
    np.testing.assert_array_equal(session.usable, ~missing)
    assert np.isfinite(session.z).all()
    windows, whole = session.windows(np.array([1005, 4000]), 20)
    assert windows.shape == (2, 3, 20)
    assert whole.tolist() == [[False, True, True], [True, True, True]]


def test_matlab_and_another_window(tmp_path: Path):
    savemat(tmp_path / "a.mat", {"counts": SPIKES, "bin_s": BIN_S, "labels": ["x", "y", "z"], "date": "2021-03-04"})
    asked = NormaliserSettings("rolling_z", window_s=60.0, min_history_s=5.0, floor_uv=0.1)
    sessions = open_sessions(
        [tmp_path / "a.mat", counts_file(tmp_path / "b.npz", SPIKES[::-1], labels=["x", "y", "z"])],
        tmp_path / "cache",
        asked,
    )
    assert sessions[0].header.labels == ("x", "y", "z")
    assert not np.asarray(sessions[0].usable)[:49].any()
    assert np.asarray(sessions[0].usable)[49:].all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"counts": SPIKES[:, 0]}, r"found counts \(8000,\) int16, expected numbers \(bins, channels\)"),
        ({"counts": SPIKES[:0]}, r"found counts \(0, 3\)"),
        ({"counts": SPIKES[:, :0]}, r"found counts \(8000, 0\)"),
        ({"bin_s": 0.0}, "found bin_s 0, expected the width of a bin in seconds"),
        ({"labels": ["x"]}, r"found labels \(1,\) for counts \(8000, 3\), expected \(3,\)"),
        ({"usable": np.ones((3, 3))}, r"found usable \(3, 3\)"),
        ({"date": "4 March"}, "found date 4 March, expected YYYY-MM-DD"),
        ({"counts": np.full((8000, 3), -1)}, "nothing in it is usable: found 800.0 s of 3 channels"),
    ],
)
def test_files_that_are_no_counts_are_refused(tmp_path: Path, changes: dict, says: str):
    with pytest.raises(RigFault, match=says):
        open_sessions([counts_file(tmp_path / "a.npz", **changes)], tmp_path / "cache")


def test_archives_without_counts_and_normalisers_that_counts_cannot_have(tmp_path: Path):
    np.savez(tmp_path / "other.npz", spikes=SPIKES)
    with pytest.raises(RigFault, match="found no counts and no bin_s"):
        cached(tmp_path / "other.npz", tmp_path / "cache")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(RigFault, match="cannot be read"):
        cached(tmp_path / "text.npz", tmp_path / "cache")
    with pytest.raises(OperatorFault, match="median deviation of sparse counts is 0"):
        cached(counts_file(tmp_path / "a.npz"), tmp_path / "cache", NormaliserSettings("robust_trailing"))
    wider = counts_file(tmp_path / "wider.npz", SPIKES[::-1], bin_s=0.2)
    with pytest.raises(OperatorFault, match=r"found 5 samples and 5 bins a second, expected 10 and 10"):
        open_sessions([tmp_path / "a.npz", wider], tmp_path / "cache")


@pytest.mark.parametrize(
    ("channels", "bin_s", "bins", "length", "patch"),
    [(95, 0.1, 700, 12, 4), (7, 0.02, 3000, 25, 5), (3, 0.3, 400, 1, 1)],
)
def test_the_same_command_pretrains_on_counts_of_any_shape(
    channels: int, bin_s: float, bins: int, length: int, patch: int, tmp_path: Path
):
    spikes = np.random.default_rng(0).poisson(1.0, (bins, channels)).astype(np.uint8)
    file = counts_file(tmp_path / "day.npz", spikes, bin_s=bin_s)
    settings = tmp_path / "counts.toml"
    settings.write_text(
        f"[network]\nbins = {length}\npatch_bins = {patch}\n"
        "[training]\nsteps = 2\nbatch = 4\nmask_ratio = 0.5\nvalidate_every = 2\nvalidation_windows = 8\n"
    )
    out = tmp_path / "run"
    asked = ["pretrain", str(file), "--out", str(out), "--preset", "nano", "--settings", str(settings)]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    encoder, about = load_encoder(out)
    assert (encoder.config.channels, encoder.config.bins, encoder.config.patch_bins) == (channels, length, patch)
    assert about["sessions"]["hours"] == pytest.approx(bins * bin_s / 3600)
    windows, usable = torch.zeros(2, channels, length), torch.ones(2, channels, dtype=torch.bool)
    latents, visible = encoder(windows, usable)
    assert latents.shape == (2, channels * length // patch, encoder.config.width)
    assert visible.all()


def spikes_file(path: Path, trains: list[np.ndarray], watched: list | None = None) -> Path:
    nwb = NWBFile("test", "test", datetime(2031, 1, 1, tzinfo=UTC))
    for k, train in enumerate(trains):
        nwb.add_unit(spike_times=train, **({} if watched is None else {"obs_intervals": watched[k]}))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def test_spike_times_are_counted_in_bins_of_any_width(tmp_path: Path):
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, 100, n)) for n in (50, 2000)]
    file = spikes_file(tmp_path / "units.nwb", trains, [[[0.0, 100.0]], [[10.0, 60.0], [70.0, 100.0]]])
    assert bin_spikes(file, tmp_path / "a.npz", 0.02) == (5000, 2)
    (session,) = open_sessions([tmp_path / "a.npz"], tmp_path / "cache")
    assert (session.header.bin_rate_hz, session.header.date) == (50.0, "2031-01-01")
    stored = np.load(tmp_path / "a.npz")
    edges = np.arange(5001) * 0.02
    np.testing.assert_array_equal(stored["counts"][:, 1], np.histogram(trains[1], edges)[0])
    assert stored["usable"].sum(axis=0).tolist() == [5000, 2500 + 1500]
    with pytest.raises(OperatorFault, match="not there yet"):
        bin_spikes(file, tmp_path / "a.npz", 0.02)
    for bad in (0.0, float("nan")):
        with pytest.raises(OperatorFault, match="expected a width above 0"):
            bin_spikes(file, tmp_path / "b.npz", bad)
    with pytest.raises(RigFault, match="found no units"):
        bin_spikes(spikes_file(tmp_path / "none.nwb", []), tmp_path / "b.npz", 0.02)
    assert not (tmp_path / "b.npz").exists()
