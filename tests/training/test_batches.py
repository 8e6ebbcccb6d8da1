"""What a step sees: which windows, which tokens of them, and what is held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import OperatorFault, RigFault
from models.networks.masked_autoencoder import PRESETS, MaeConfig
from tests.training.sessions import CHANNELS, small_session
from training.batches import Batch, Drawer, assemble, validation_batches
from training.data import Session, open_sessions
from training.sampler import Choice, choose, sample, split
from training.settings import SETTINGS, PretrainSettings
from training.trials import training_ends

NETWORK = replace(PRESETS["nano"], channels=CHANNELS, sessions=3, patch_bins=16)
QUICK = replace(SETTINGS["nano"], batch=4, validation_windows=8)
ALL = slice(None)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Session]:
    folder = tmp_path_factory.mktemp("sessions")
    return [small_session(folder, f"s{k}", date=f"2031-01-0{k + 1}", seed=k, seconds=10 * (k + 1)) for k in range(3)]


def drawer(sessions: list[Session], settings: PretrainSettings = QUICK, rows: slice = ALL) -> Drawer:
    return Drawer(sessions, choose(sessions, 128, settings), NETWORK, settings, rows)


# Masks ---------------------------------------------------------------------------------------------------------------


class Constant:
    """A session of zeros whose window k has the channels `usable[k]`."""

    def __init__(self, usable: np.ndarray) -> None:
        self.usable = usable

    def windows(self, first_bins: np.ndarray, length: int):
        return np.zeros((len(first_bins), 96, length), np.float32), self.usable[first_bins]

    class header:
        name = "constant"


def drawn(usable: np.ndarray, network: MaeConfig | None = None, hidden: np.ndarray | None = None, **changes) -> Batch:
    settings = replace(SETTINGS["paper"], batch=len(usable), **changes)
    rngs = [np.random.default_rng(k) for k in range(2)]
    windows = [(0, k) for k in range(len(usable))]
    return assemble([Constant(usable)], windows, network or MaeConfig(), settings, *rngs, hidden=hidden)  # type: ignore[list-item]


def kept(batch: Batch) -> np.ndarray:
    """(windows, channels, patches) bool."""
    shown = np.zeros((len(batch), 96 * 8), bool)
    np.put_along_axis(shown, batch.keep.numpy(), True, axis=1)
    return shown.reshape(-1, 96, 8)


def test_masks_are_those_of_the_paper():
    batch = drawn(np.ones((5, 96), bool))
    assert batch.keep.shape == (5, 192)
    assert (batch.masked.sum(dim=(1, 2)) == 576).all()
    assert (batch.masked.numpy() == ~kept(batch)).all()
    assert all(len(set(row.tolist())) == 192 for row in batch.keep)
    assert len({tuple(row.tolist()) for row in batch.keep}) == 5
    assert batch.whole


def test_tubes_hide_whole_electrodes():
    shown = kept(drawn(np.ones((5, 96), bool), masking="tubes"))
    assert set(shown.sum(axis=2).ravel().tolist()) == {0, 8}
    assert (shown.any(axis=2).sum(axis=1) == 24).all()
    assert len({tuple(row) for row in shown.any(axis=2)}) == 5


def test_blocks_hide_the_same_stretch_of_time_everywhere():
    shown = kept(drawn(np.ones((50, 96), bool), masking="blocks"))
    assert (shown == shown[:, :1]).all()
    hidden = [np.flatnonzero(~row) for row in shown[:, 0]]
    assert all(len(one) == 6 and one[-1] - one[0] == 5 for one in hidden)
    assert {int(one[0]) for one in hidden} == {0, 1, 2}


def test_dead_channels_are_neither_seen_nor_rebuilt():
    usable = np.ones((5, 96), bool)
    usable[:, 10:40] = False
    for masking in ("random", "tubes", "blocks"):
        batch = drawn(usable, masking=masking)
        assert not batch.masked[:, 10:40].any()
        assert not kept(batch)[:, 10:40].any()
        assert batch.whole


def test_a_dropped_electrode_is_not_seen_but_rebuilt():
    usable = np.ones((5, 96), bool)
    usable[:, :10] = False
    hidden = np.zeros((5, 96), bool)
    hidden[:, 5:30] = True
    batch = drawn(usable, hidden=hidden)
    assert not kept(batch)[:, :30].any()
    assert batch.masked[:, 10:30].all()
    assert not batch.masked[:, :10].any()


def test_with_nearly_all_channels_dead_what_lives_is_seen(sessions: list[Session]):
    usable = np.zeros((3, 96), bool)
    usable[0, 7] = usable[1, :50] = True
    batch = drawn(usable)
    assert batch.seen.tolist() == [True, True, False]
    assert not batch.whole
    assert kept(batch)[0, 7].all()
    assert not batch.masked[0].any()
    assert not batch.masked[2].any()


def test_electrode_dropout_hides_its_share(sessions: list[Session]):
    settings = replace(QUICK, batch=200, electrode_dropout=0.3, mask_ratio=0.5, masking="tubes")
    plain, dropped = (drawer(sessions, one).draw(3) for one in (replace(settings, electrode_dropout=0.0), settings))
    assert plain.keep.shape == dropped.keep.shape
    assert (plain.window == dropped.window).all()
    assert not (plain.keep == dropped.keep).all()


# Windows -------------------------------------------------------------------------------------------------------------


def test_a_row_is_the_same_in_every_process_and_in_a_batch_of_any_size(sessions: list[Session]):
    whole = drawer(sessions, replace(QUICK, batch=9)).draw(7)
    part = drawer(sessions, replace(QUICK, batch=9), slice(3, 6)).draw(7)
    small = drawer(sessions, replace(QUICK, batch=3)).draw(7)
    for name in ("window", "keep", "masked", "session", "row", "usable"):
        assert (getattr(whole, name)[3:6] == getattr(part, name)).all()
        assert (getattr(whole, name)[:3] == getattr(small, name)).all()
    assert not (whole.keep == drawer(sessions, replace(QUICK, batch=9)).draw(8).keep).all()


def test_drawn_ahead_is_what_would_be_drawn_now(sessions: list[Session]):
    one = drawer(sessions)
    ahead = one.from_step(5)
    for step in (5, 6, 7):
        batch, now = next(ahead), one.draw(step)
        assert (batch.window == now.window).all()
        assert (batch.keep == now.keep).all()
    ahead.close()


def test_a_session_is_sometimes_forgotten_but_never_for_the_loss(sessions: list[Session]):
    batch = drawer(sessions, replace(QUICK, batch=500, session_dropout=0.2)).draw(0)
    forgotten = batch.row == NETWORK.sessions
    assert 60 < forgotten.sum() < 140
    assert (batch.row[~forgotten] == batch.session[~forgotten]).all()
    assert (batch.session < NETWORK.sessions).all()


def many(lengths: dict[int, int]) -> Choice:
    return Choice({i: range(1000 * i, 1000 * i + n) for i, n in lengths.items()}, {}, {})


def test_a_grouped_batch_is_spread_evenly_over_sessions_by_their_duration():
    choice = many({i: 100 * (1 + 9 * (i == 4)) for i in range(12)} | {20: 0})
    settings = replace(SETTINGS["paper"])
    drawn = [Counter(i for i, _ in sample(choice, settings, np.random.default_rng(k))) for k in range(200)]
    assert all(sorted(one.values()) == [4] * 8 for one in drawn)
    often = Counter(i for one in drawn for i in one)
    assert often[4] > 195  # ten times as long
    assert all(90 < often[i] < 170 for i in range(12) if i != 4)  # the other seven of eight, spread over eleven
    assert 20 not in often


def test_where_there_are_fewer_sessions_each_gets_more():
    counts = Counter(i for i, _ in sample(many({0: 50, 1: 500, 2: 5}), SETTINGS["paper"], np.random.default_rng(0)))
    assert sorted(counts.values()) == [10, 11, 11]


def test_ungrouped_windows_are_uniform_in_time():
    settings = replace(QUICK, batch=6000)
    windows = sample(many({0: 100, 1: 500, 2: 0}), settings, np.random.default_rng(0))
    counts = Counter(i for i, _ in windows)
    assert 900 < counts[0] < 1100
    assert set(counts) == {0, 1}
    assert {first for i, first in windows if i == 0} == set(range(100))


def test_shuffle_time_windows_hold_real_bins_in_no_order(sessions: list[Session]):
    batch = drawer(sessions, replace(QUICK, shuffle_time=True)).draw(0)
    session = sessions[int(batch.session[0])]
    bins = {row.tobytes() for row in np.asarray(session.z)}
    columns = np.ascontiguousarray(batch.window[0].numpy().T)
    assert all(column.tobytes() in bins for column in columns)
    steps = np.diff([np.flatnonzero((session.z == column).all(axis=1))[0] for column in columns])
    assert (np.abs(steps) > 128).mean() > 0.8


def test_windows_over_lost_bins_are_never_drawn(tmp_path: Path):
    session = small_session(tmp_path, seconds=2)
    usable = np.array(session.usable)
    usable[1000:1010] = False
    usable[1500] = np.arange(CHANNELS) < 3  # still some channels: a window like any other
    with_gap = Session(session.header, session.z, usable)
    starts = np.asarray(with_gap.allowed(128))
    assert starts.tolist() == [*range(1000 - 128 + 1), *range(1010, 2000 - 128 + 1)]
    _, channels = with_gap.windows(np.array([1450]), 128)
    assert channels.sum() == 3


def test_values_that_are_no_numbers_are_named(tmp_path: Path):
    session = small_session(tmp_path, seconds=3)
    z = np.array(session.z)
    z[500:, 3] = np.nan
    spoiled = [Session(session.header, z, session.usable)]
    with pytest.raises(RigFault, match=r"s0: found values that are not finite on channel 4"):
        drawer(spoiled, replace(QUICK, batch=50)).draw(0)


# Held out, and around stimulation ------------------------------------------------------------------------------------


def test_held_out_are_the_last_four_dates(tmp_path: Path):
    for k in range(7):
        small_session(
            tmp_path, f"s{k}", date=f"2031-01-{1 + k // 2:02d}" if k < 4 else f"2031-02-0{k}", seconds=1, seed=k
        )
    training, held_out = split(open_sessions([tmp_path], tmp_path), 128)  # dates: two of two, then three of one
    assert sorted(training) == [0, 1]
    assert sorted(held_out) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(("n", "held"), [(2, [1]), (3, [2]), (6, [4, 5])])
def test_with_few_dates_the_last_sessions_are_held_out(tmp_path: Path, n: int, held: list[int]):
    training, held_out = split([small_session(tmp_path, f"s{k}", seconds=1) for k in range(n)], 128)
    assert sorted(held_out) == held
    assert sorted([*training, *held_out]) == list(range(n))


def test_a_single_session_is_split_in_time(tmp_path: Path):
    training, held_out = split([small_session(tmp_path, seconds=2)], 128)
    assert max(np.asarray(training[0])) + 128 <= 1600 <= min(np.asarray(held_out[0]))
    with pytest.raises(OperatorFault, match="longer recordings"):
        split([small_session(tmp_path, "short", seconds=0.4)], 128)


def test_validation_is_the_same_however_it_is_cut(sessions: list[Session]):
    settings = replace(QUICK, batch=4, validation_windows=14)
    held_out = split(sessions, 128)[1]
    whole = validation_batches(sessions, held_out, NETWORK, settings)
    shared = [validation_batches(sessions, held_out, NETWORK, settings, process, 2) for process in range(2)]
    pieces = validation_batches(sessions, held_out, NETWORK, replace(settings, micro_batch=3))
    assert [len(one) for one in whole] == [4, 4, 4, 2]
    assert [len(one) for one in pieces] == [3, 1, 3, 1, 3, 1, 2]
    for a, b in zip(whole, [shared[0][0], shared[1][0], shared[0][1], shared[1][1]], strict=True):
        assert (a.window == b.window).all()
        assert (a.keep == b.keep).all()
    assert (whole[0].keep[:3] == pieces[0].keep).all()
    assert all((one.row == NETWORK.sessions).all() for one in whole)


def test_stimulation_is_mixed_in_at_its_share_and_never_where_probes_are_tested(tmp_path: Path):
    sessions = [small_session(tmp_path, f"rest{k}", seed=k) for k in range(3)]
    sessions += [small_session(tmp_path, f"stim{k}", trials=20, seconds=30, seed=k) for k in range(2)]
    settings = replace(QUICK, batch=40, pretrain_mix=0.25, sessions_per_batch=4)
    choice = choose(sessions, 128, settings)
    assert sorted(choice.rest) == [0, 1]
    assert sorted(choice.held_out) == [2]
    assert sorted(choice.trials) == [3, 4]
    ends = training_ends(sessions, 128)
    for i, firsts in choice.trials.items():
        possible = {*sessions[i].trial_bins("prestimulus", 128), *sessions[i].trial_bins("evoked", 128)}
        assert set(np.asarray(firsts)) <= possible
        assert 20 < len(firsts) <= 32  # both windows of the first four fifths
        assert max(firsts) + 128 <= ends[i]
    counts = Counter(i for i, _ in sample(choice, settings, np.random.default_rng(0)))
    assert sum(counts[i] for i in (3, 4)) == 10
    assert counts[0] == counts[1] == 15
    everything = choose(sessions, 128, replace(settings, pretrain_mix=0.0))
    assert sorted([*everything.rest, *everything.held_out]) == [0, 1, 2, 3, 4]


def test_what_cannot_be_mixed_or_compared_is_said(tmp_path: Path):
    rest = [small_session(tmp_path, f"rest{k}") for k in range(2)]
    stimulated = [small_session(tmp_path, f"stim{k}", trials=10) for k in range(2)]
    mixed, compared = replace(QUICK, pretrain_mix=0.1), replace(QUICK, cross_session_weight=0.01, sessions_per_batch=2)
    for sessions, settings, says in (
        (rest, mixed, "no session with trials"),
        (stimulated, mixed, "recordings of rest"),
        (rest, compared, "found 1 session to train on"),
    ):
        with pytest.raises(OperatorFault, match=says):
            choose(sessions, 128, settings)
