"""Public sets of counts as `phosphene pretrain` takes them: on made files of their layout, and, where PHOSPHENE_DATA
names the folder that holds them (docs/real-recordings.md), on the files themselves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from training import real_data, real_hand, real_images
from training.data import open_sessions
from training.fill_in import Seen
from training.real_features import features, flat, rate, untrained

FOLDER = os.environ.get("PHOSPHENE_DATA")
real = pytest.mark.skipif(FOLDER is None, reason="PHOSPHENE_DATA does not name a folder of recordings")
FEW = "\nsteps = 2\nbatch = 4\nvalidate_every = 2\nvalidation_windows = 16\ncorrelation_weight = 0.0\n"
TRIAL, TRIALS, CHANNELS = 21, 100, 5


def there(path: str) -> Path:
    if not (Path(FOLDER or "/nowhere") / path).exists():
        pytest.skip(f"{path} is not in PHOSPHENE_DATA")
    return Path(FOLDER or "/nowhere") / path


@pytest.fixture
def hand_file(tmp_path: Path) -> Path:
    """Counts that follow a hand in trials of 21 bins, laid one behind the other."""
    rng = np.random.default_rng(0)
    speed = rng.standard_normal((TRIALS, TRIAL, 2)).cumsum(axis=1)
    speed[:, 0] = 0
    place = rng.uniform(-50, 50, (TRIALS, 1, 2)) + speed.cumsum(axis=1) * real_data.BIN_S
    kin = np.concatenate([place, speed], axis=2).reshape(-1, 4)
    counts = rng.poisson(np.exp(0.3 * kin[:, 2:] @ rng.standard_normal((2, CHANNELS))).clip(max=30))
    np.savez(tmp_path / "dev.npz", counts=counts.astype(np.uint8), kin=kin)
    return tmp_path / "dev.npz"


def image_session(folder: Path, name: str = "made", units: int = 6, repeats: int = 24) -> Path:
    """A movie and its contrast series, eleven frames each, shown again and again in new orders, with blanks."""
    rng = np.random.default_rng(0)
    table = [(10 + k, 0, k % 2 * 2, 1, k // 2) for k in range(22)]  # id, scale, category, movie, frame
    gains = rng.uniform(0.2, 0.5, units)
    counts = np.full((2, 3, 10, 11, units, repeats), -1, np.int16)
    for _, *place in table:
        counts[tuple(place)] = rng.poisson(1 + gains[:, None] * place[-1], (units, repeats))
    counts[0, :, 1, :, 2, ::5] = -1
    order = np.concatenate([rng.permutation([row[0] for row in table] + [999]) for _ in range(repeats)])
    np.savez(
        folder / f"{name}.npz", counts=counts, stimulus_table=np.array(table), stimulus_id_order=order, blank_ids=[999]
    )
    return folder / f"{name}.npz"


# Reading them --------------------------------------------------------------------------------------------------------


def test_trials_are_found_where_the_hand_jumps(hand_file: Path):
    recording = real_data.hand(hand_file)
    np.testing.assert_array_equal(np.flatnonzero(recording.first), np.arange(TRIALS) * TRIAL)
    np.testing.assert_array_equal(recording.trial, np.arange(TRIALS * TRIAL) // TRIAL)
    last = recording.part(slice(90, None))
    assert np.unique(last.trial).tolist() == list(range(90, TRIALS))
    np.testing.assert_array_equal(last.counts, recording.counts[90 * TRIAL :])


def test_no_window_lies_in_two_trials_or_holds_a_trials_first_bin(hand_file: Path, tmp_path: Path):
    one = real_data.hand(hand_file)
    file = real_data.write_counts(tmp_path / "c.npz", one.counts, real_data.BIN_S, "2000-01-01", one.first)
    (session,) = open_sessions([file], tmp_path / "cache")
    first = np.asarray(session.allowed(12))
    assert len(first) > 300
    np.testing.assert_array_equal(one.trial[first], one.trial[first + 11])
    assert not any(one.first[at : at + 12].any() for at in first)


def test_images_come_in_order_of_time_and_the_kth_time_is_repeat_k(tmp_path: Path):
    file = image_session(tmp_path)
    session = real_data.images(file)
    stored = np.load(file)
    assert session.counts.shape == (22 * 24, 6)  # without the blanks
    shown = [k for k in stored["stimulus_id_order"] if k != 999]
    np.testing.assert_array_equal(session.image, shown)
    third = np.flatnonzero(session.image == 13)[2]
    np.testing.assert_array_equal(session.counts[third], stored["counts"][0, 2, 1, 1, :, 2])
    assert sorted(set(session.contrast[session.image == 13])) == [1]  # category contrast, frame 1
    assert set(session.contrast[session.image == 31]) == {-1}  # frame 10: one more than levels
    assert set(session.contrast[session.image == 12]) == {-1}  # natural


def test_the_share_of_variance_that_hangs_on_the_image(tmp_path: Path):
    rng = np.random.default_rng(0)
    image = np.concatenate([rng.permutation(100) for _ in range(40)])
    tuned = rng.normal(0, 6, (100, 9))[image] + rng.normal(0, 6, (4000, 9)) + 40
    none = np.full(4000, -1)
    session = real_data.Images("made", np.rint(tuned).astype(np.int16), none, none, image)
    assert real_data.signal_share(session) == pytest.approx(0.5, abs=0.05)
    assert real_data.signal_share(session, seed=0) == pytest.approx(0, abs=0.01)
    assert real_data.neighbours_alike(session) == pytest.approx(0, abs=0.05)
    drift = np.rint(tuned + 10 * np.sin(np.arange(4000) / 50)[:, None]).astype(np.int16)
    assert real_data.neighbours_alike(real_data.Images("made", drift, none, none, image)) > 0.8


# What a readout is given ---------------------------------------------------------------------------------------------


def seen(n: int, seed: int = 0) -> Seen:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, CHANNELS, 2)).astype(np.float32), rng.random((n, CHANNELS)) > 0.2


def test_no_feature_hangs_on_what_an_unusable_channel_holds():
    from models.networks.masked_autoencoder import MaeConfig, build

    encoder = build(MaeConfig(CHANNELS, 2, 1, 16, 1, 2, 8, 16, reconstructor_depth=1, sessions=1)).encoder.eval()
    training, test = seen(200), seen(20, 1)
    spoiled = np.where(test[1][:, :, None], test[0], 1e3).astype(np.float32), test[1]
    for name, of in features(encoder, training).items():
        assert len(of(test)) == 20, name
        np.testing.assert_array_equal(of(test), of(spoiled))
        np.testing.assert_allclose(of(test)[3:4], of(tuple(part[3:4] for part in test)), atol=1e-5)  # of no other
    np.testing.assert_allclose(rate(test)[0], test[0][0][test[1][0]].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(flat(test)[0].reshape(CHANNELS, 2)[~test[1][0]], 0)
    one, other = (untrained(encoder).state_dict()["embed.weight"] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, encoder.state_dict()["embed.weight"])


# The studies ---------------------------------------------------------------------------------------------------------


def test_the_hand_study_on_a_made_hand(hand_file: Path, tmp_path: Path):
    recording = real_data.hand(hand_file)
    found = real_hand.study(recording, tmp_path, "[network]\nbins = 8\npatch_bins = 4\n[training]" + FEW, channels=2)
    assert found["trials"] == {"training": 80, "test": 20}
    assert found["windows"]["test"] < 20 * (TRIAL - 8)
    assert found["velocity"]["counts"]["r2"] > 0.3 > found["velocity"]["counts"]["chance"][2]
    assert set(found["velocity"]) == {"mae", "untrained", "pca", "counts", "rate"}
    assert set(found["hidden"]) == {"channels", "bins", "tokens"}
    assert found["hidden"]["channels"]["ways"]["mean"]["explained"] == 0


def test_what_comes_last_changes_nothing_that_is_fitted(hand_file: Path, tmp_path: Path):
    settings = "[network]\nbins = 8\npatch_bins = 4\n[training]" + FEW
    one = real_data.hand(hand_file)
    late = one.trial >= 80
    other = real_data.Hand(np.where(late[:, None], one.counts[::-1], one.counts), one.velocity, one.trial, one.first)
    found = [
        real_hand.study(recording, tmp_path / name, settings, channels=2)
        for name, recording in (("one", one), ("other", other))
    ]
    for name in ("mae", "pca", "counts"):
        assert found[0]["velocity"][name]["penalty"] == found[1]["velocity"][name]["penalty"]
        assert found[0]["velocity"][name]["r2"] != found[1]["velocity"][name]["r2"]
    assert (tmp_path / "one/hand-run/best.safetensors").read_bytes() == (
        tmp_path / "other/hand-run/best.safetensors"
    ).read_bytes()


def test_the_image_study_on_two_made_sessions(tmp_path: Path):
    sessions = [real_data.images(image_session(tmp_path, name, units, 100)) for name, units in (("a", 6), ("b", 4))]
    found = real_images.study(sessions, tmp_path, "[network]\nbins = 1\npatch_bins = 1\n[training]" + FEW)
    for name, units in (("a", 6), ("b", 4)):
        one = found["sessions"][name]
        assert (one["units"], one["presentations"]) == (units, 22 * 100)
        assert one["signal_share"] > one["signal_share_by_chance"][1]
        assert one["contrast"]["counts"]["interval"][0] > 0.6 > 0.5
        assert one["contrast_by_the_others"]["interval"][0] > 0.6
        assert one["hidden"]["half"]["ways"]["mean"]["explained"] == 0
    together = found["together"]["contrast"]["counts"]
    aucs = [one["contrast"]["counts"]["auc"] for one in found["sessions"].values()]
    assert together["mean"] == pytest.approx(np.mean(aucs))


# The files themselves ------------------------------------------------------------------------------------------------


@real
def test_the_hand_is_a_thousand_trials_and_not_one_run():
    one = real_data.hand(there("m1_contdata95/dev.npz"))
    assert one.counts.shape == (21989, 95)
    assert one.trial[-1] + 1 == 1019
    assert not one.velocity[one.first].any()
    root = np.sqrt(one.counts.astype(float))
    root -= root.mean(axis=0)
    size = np.sqrt((root**2).sum(axis=1))
    alike = (root[1:] * root[:-1]).sum(axis=1) / (size[1:] * size[:-1])
    assert abs(alike[one.first[1:]].mean()) < 0.02
    assert alike[~one.first[1:]].mean() > 0.3


@real
def test_six_sessions_of_images_and_the_one_that_says_almost_nothing():
    files = sorted(there("v1_image_sequences").glob("*.npz"))
    sessions = [real_data.images(file) for file in files]
    assert [one.counts.shape[1] for one in sessions] == [39, 16, 47, 13, 66, 49]
    assert {len(one.counts) for one in sessions} == {22000}
    shares = {one.name: real_data.signal_share(one) for one in sessions}
    assert min(shares, key=shares.__getitem__) == "ay2_u007"
    assert shares["ay2_u007"] < 0.02 < 0.03 < sorted(shares.values())[1]
    alike = {one.name: real_data.neighbours_alike(one) for one in sessions}
    assert abs(alike.pop("ay2_u007")) < 0.05 < 0.1 < min(alike.values())
    for one in sessions:
        assert np.bincount(one.contrast[one.contrast >= 0]).tolist() == [200] * 10
