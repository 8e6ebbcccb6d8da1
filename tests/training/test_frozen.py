"""The robust normalisers with fitted statistics: from training bins only, into the bundle, and live the very same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.bundle import find_bundle, read_manifest
from models.errors import OperatorFault
from models.networks.masked_autoencoder import pool
from server.bundles import check_servable
from server.cli import run
from streaming.signal.normaliser import Normaliser, Statistics
from streaming.signal.settings import NormaliserSettings
from tests.streaming.sources.files import RATE_HZ, trial, write_nwb
from training.data import cached, frozen_z, open_sessions, read_session
from training.frozen import describe, freeze, read
from training.pretrain import load_encoder
from training.probe import gather, training_ends

CHANNELS, DEAD = 6, 3  # 0-based; never moves
LOUDNESS = np.array([40.0, 60.0, 80.0, 0.0, 100.0, 30.0])
FROZEN = NormaliserSettings("robust_frozen")


def broadband(path: Path, seconds: int, seed: int, louder: float = 1.0, trials: int = 0) -> Path:
    """Noise of each channel's own loudness at quarter microvolts, `louder` in its last fifth; stimulated at times."""
    rng, n = np.random.default_rng(seed), round(seconds * RATE_HZ)
    data = 4 * LOUDNESS * rng.standard_normal((n, CHANNELS))
    data[4 * n // 5 :] *= louder
    onsets = 1.0 + np.arange(trials) * (seconds - 2) / max(trials, 1)
    rows = [trial(float(onset), bool(rng.random() < 0.5)) for onset in onsets]
    return write_nwb(path, data.astype(np.int16), trials=rows)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Recordings, their MUA, and a run whose [normaliser] is robust_frozen, as the command line makes them."""
    folder = tmp_path_factory.mktemp("line")
    broadband(folder / "rest1.nwb", 12, 1)
    broadband(folder / "rest2.nwb", 8, 2, louder=3.0)  # the last of two: held out
    broadband(folder / "stim.nwb", 42, 3, louder=2.0, trials=80)
    for name in ("rest1", "rest2", "stim"):
        assert run(["mua", str(folder / f"{name}.nwb"), "--out", str(folder / f"{name}_mua.nwb")]) == 0
    (folder / "settings.toml").write_text(
        '[training]\nbatch = 4\nvalidation_windows = 8\nprecision = "32-true"\n[normaliser]\nkind = "robust_frozen"\n'
    )
    rest = [str(folder / f"rest{k}_mua.nwb") for k in (1, 2)]
    options = ["--preset", "nano", "--steps", "3", "--settings", str(folder / "settings.toml")]
    assert run(["pretrain", *rest, "--out", str(folder / "run"), *options]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.readout.C_GRID", (1e-5,))  # what is fitted does not matter here
        yield folder


def through(line: Path, name: str, *options: str) -> Path:
    """Probe and export; the bundle's directory."""
    stim, probes, repository = (str(line / part) for part in ("stim_mua.nwb", f"{name}-probes", "bundles"))
    assert run(["probe", str(line / "run"), stim, "--out", probes, "--pooling", "mean", *options]) == 0
    assert run(["export", str(line / "run"), probes, "--name", name, "--participant", "P1", "--out", repository]) == 0
    return find_bundle(Path(repository), name)


def test_decode_normalises_by_the_statistics_of_the_training_part(line: Path, monkeypatch: pytest.MonkeyPatch):
    """MUA → pretrain → probe → export → decode, against NumPy's median and MAD, the filters alone, and torch."""
    manifest = read_manifest(through(line, "mine"))
    check_servable(manifest)
    assert manifest.chain["normaliser"]["kind"] == "robust_frozen"
    assert manifest.array.masked == (DEAD + 1,)
    assert manifest.frozen is not None
    first = read_session(cached(line / "rest1_mua.nwb", line / "by_hand", FROZEN))  # the only one not held out
    for channel in set(range(CHANNELS)) - {DEAD}:
        heard = first.stored[first.usable[:, channel], channel].astype(np.float64)
        assert manifest.frozen.median_uv[channel] == np.median(heard)
        assert manifest.frozen.mad_uv[channel] == np.median(np.abs(heard - np.median(heard)))
    assert (manifest.frozen.median_uv[DEAD], manifest.frozen.mad_uv[DEAD]) == (0, 1)

    monkeypatch.setenv("PHOSPHENE__BUNDLES", str(line / "bundles"))
    monkeypatch.setenv("PHOSPHENE__PRECISION", "float32")
    out = line / "predictions.parquet"
    assert run(["decode", str(line / "stim.nwb"), "--out", str(out), "--model", "mine", "--hop-s", "0.1"]) == 0
    rows = [row for row in pq.read_table(out).to_pylist() if row["embedding"] is not None and row["sample_time"] > 2]
    assert len(rows) > 100  # the others touch a blank
    session = read_session(cached(line / "stim_mua.nwb", line / "by_hand", FROZEN))
    median, mad = np.array(manifest.frozen.median_uv), np.array(manifest.frozen.mad_uv)
    z = ((session.stored - median) / np.maximum(1.4826 * mad, 0.05)).astype(np.float32)
    ends = [(row["last_sample"] + 1) // 30 for row in rows]
    windows = torch.from_numpy(np.stack([z[end - 128 : end].T for end in ends]))
    usable = torch.from_numpy(np.tile(np.arange(CHANNELS) != DEAD, (len(rows), 1)))
    encoder, _ = load_encoder(line / "run")
    with torch.no_grad():
        embedding = pool(*encoder(windows, usable)).numpy()
    fitted = json.loads((line / "mine-probes" / "probes.json").read_text())["probes"]["prestimulus"]
    probability = 1 / (1 + np.exp(-(embedding @ np.array(fitted["weight"]) + fitted["bias"])))
    np.testing.assert_allclose([row["embedding"] for row in rows], embedding, atol=1e-4)
    np.testing.assert_allclose([row["probability"] for row in rows], probability, atol=1e-4)
    assert {row["usable_channels"] for row in rows} == {CHANNELS - 1}


def test_the_probe_is_fitted_to_what_the_normaliser_that_serves_gives(line: Path):
    session = read_session(cached(line / "stim_mua.nwb", line / "by_hand", FROZEN))
    _, about = load_encoder(line / "run")
    statistics = read(about["sessions"]["frozen"])
    (known,) = freeze([session], {}, statistics)
    serving = Normaliser(FROZEN, CHANNELS, (np.nan_to_num(statistics.median_uv), np.nan_to_num(statistics.mad_uv)))
    usable = np.asarray(session.usable)
    expected = serving.push(session.stored, usable.any(axis=1), usable)
    np.testing.assert_array_equal(known.z, expected)
    trials = gather(known, "prestimulus", 128)
    first = session.trial_bins("prestimulus", 128)
    np.testing.assert_array_equal(trials.windows, np.stack([expected[b : b + 128].T for b in first]))


def test_channels_that_tell_nothing_of_themselves_are_dropped(line: Path):
    """Still, hardly there, or never: no statistics, unusable for good, and no number that is not finite."""
    session = read_session(cached(line / "rest1_mua.nwb", line / "by_hand", FROZEN))
    stored, usable = np.array(session.stored), np.array(session.usable)
    stored[:8000, 0] = 7.0  # still in the training part, alive later
    usable[:7500, 1] = False  # half a second of it
    usable[:9000, 2] = False
    usable[:, DEAD] = False
    (found,) = freeze([replace(session, stored=stored, usable=usable)], {0: 8000})
    assert np.isnan(found.statistics.median_uv).tolist() == [True, True, True, True, False, False]
    assert not found.usable[:, :4].any()
    assert np.array_equal(found.usable[:, 4:], usable[:, 4:])
    z, whole = found.windows(np.array([9000, 10_000]), 128)
    assert np.isfinite(z).all()
    assert np.isfinite(found.z).all()
    assert not whole[:, :4].any()
    assert np.array_equal(read(json.loads(json.dumps(describe([found])))).mad_uv, found.statistics.mad_uv, True)
    with pytest.raises(OperatorFault, match="no channel is usable for 1000 training bins"):
        freeze([session], {0: 900})


def test_a_channel_quieter_than_the_floor_does_not_explode():
    statistics = Statistics(np.array([1.0]), np.array([1e-9]))
    z = frozen_z(np.array([[1.1]], np.float32), np.array([[True]]), statistics, 0.05)
    assert z == pytest.approx(2.0, abs=1e-5)


def test_very_long_recordings_are_thinned(line: Path, monkeypatch: pytest.MonkeyPatch):
    session = read_session(cached(line / "stim_mua.nwb", line / "by_hand", FROZEN))
    (every,) = freeze([session], {0: 30_000})
    monkeypatch.setattr("training.frozen.MOST_BINS", 10_000)
    (thinned,) = freeze([session], {0: 30_000})
    for name in ("median_uv", "mad_uv"):
        found, expected = getattr(thinned.statistics, name), getattr(every.statistics, name)
        assert not np.array_equal(found, expected, equal_nan=True)
        np.testing.assert_allclose(found, expected, rtol=0.03)


def test_a_normaliser_named_for_the_probe_is_fitted_before_its_first_tested_window(line: Path, tmp_path: Path):
    settings = tmp_path / "probe.toml"
    settings.write_text('[normaliser]\nkind = "robust_frozen"\nfloor_uv = 0.1\n')
    manifest = read_manifest(through(line, "refitted", "--settings", str(settings)))
    assert manifest.frozen is not None
    session = read_session(cached(line / "stim_mua.nwb", tmp_path, FROZEN))
    (end,) = training_ends([session], 128).values()
    first_tested = session.trial_bins("prestimulus", 128)[64]
    assert end == first_tested  # no trial is rejected here: 64 of 80 train
    heard = session.stored[:end][session.usable[:end, 0], 0].astype(np.float64)
    assert manifest.frozen.median_uv[0] == np.median(heard)
    assert manifest.chain["normaliser"]["floor_uv"] == 0.1
    loud = np.array(session.stored)
    loud[end:] = 1e4  # whatever is tested moves nothing
    assert describe(freeze([session], {0: end})) == describe(freeze([replace(session, stored=loud)], {0: end}))


def test_what_is_held_out_moves_no_statistics(line: Path):
    _, about = load_encoder(line / "run")
    rest = open_sessions([line / f"rest{k}_mua.nwb" for k in (1, 2)], line / "by_hand", FROZEN)
    assert about["sessions"]["frozen"] == describe(freeze(rest, {0: len(rest[0].usable)}))
    assert about["sessions"]["frozen"] != describe(freeze(rest, {i: len(one.usable) for i, one in enumerate(rest)}))


def test_a_run_with_a_normaliser_goes_on_as_its_settings_say(line: Path):
    assert '[normaliser]\nkind = "robust_frozen"' in (line / "run" / "settings.toml").read_text()
    rest = [str(line / f"rest{k}_mua.nwb") for k in (1, 2)]
    assert run(["pretrain", *rest, "--out", str(line / "run"), "--preset", "nano", "--resume"]) == 0


def test_each_sessions_own_statistics_are_refused_at_export(line: Path, tmp_path: Path, capsys):
    settings = tmp_path / "probe.toml"
    settings.write_text('[normaliser]\nkind = "robust_session"\n')
    probes, stim = str(tmp_path / "probes"), str(line / "stim_mua.nwb")
    assert (
        run(["probe", str(line / "run"), stim, "--out", probes, "--pooling", "mean", "--settings", str(settings)]) == 0
    )
    assert json.loads((tmp_path / "probes" / "probes.json").read_text())["frozen"] is None
    capsys.readouterr()
    arguments = ["export", str(line / "run"), probes, "--name", "own", "--participant", "P1", "--out", str(tmp_path)]
    assert run(arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "robust_session" in said
    assert "fit it with a [normaliser] of robust_frozen" in said
    assert not (tmp_path / "own").exists()


def test_each_sessions_own_statistics_are_its_own(line: Path):
    own = NormaliserSettings("robust_session")
    rest = freeze(open_sessions([line / f"rest{k}_mua.nwb" for k in (1, 2)], line / "by_hand", own), {0: 12_000})
    for session, end in zip(rest, (12_000, 6400), strict=True):  # the second is held out: its first 80 %
        heard = session.stored[:end][session.usable[:end, 0], 0].astype(np.float64)
        assert session.statistics.median_uv[0] == np.median(heard)
    assert describe(rest) is None


def test_sessions_cached_by_another_normaliser_and_unknown_ones_are_refused(line: Path, tmp_path: Path, capsys):
    plain = cached(line / "rest1_mua.nwb", tmp_path)
    with pytest.raises(OperatorFault, match="name its NWB file of MUA instead"):
        open_sessions([plain], tmp_path, FROZEN)
    for text, says in (
        ('[normaliser]\nkind = "z"', "no kind 'z'; there are: rolling_z, robust_trailing, robust_frozen"),
        ("[normaliser]\nfloor = 1", "floor"),
        ("[normaliser]\nfloor_uv = -1", "floor_uv = -1, expected a number above 0"),
        ('[normalizer]\nkind = "robust_frozen"', "found normalizer, expected tables of network, training, normaliser"),
    ):
        (tmp_path / "wrong.toml").write_text(text)
        settings = ["--settings", str(tmp_path / "wrong.toml")]
        assert run(["pretrain", str(plain), "--out", str(tmp_path / "run"), *settings]) == 2
        assert run(["probe", str(line / "run"), str(plain), "--out", str(tmp_path / "probes"), *settings]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2
        assert all(says in one for one in said)
