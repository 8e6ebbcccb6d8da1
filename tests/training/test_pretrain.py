"""The training line: what a step sees, that it learns, and that a killed run goes on to the bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.errors import OperatorFault, RigFault
from models.networks.masked_autoencoder import PRESETS, MaeConfig, build
from tests.training.sessions import CHANNELS, small_session
from training.batches import assemble, draw, split
from training.data import Session, open_sessions
from training.losses import reconstruction
from training.pretrain import SETTINGS, learning_rate, load_encoder, pretrain, train

NETWORK = replace(PRESETS["nano"], channels=CHANNELS, sessions=3)
QUICK = replace(
    SETTINGS["nano"], steps=6, batch=4, warmup_steps=2, validate_every=3, validation_windows=8, precision="32-true"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sessions")
    for k in range(3):
        small_session(folder, f"s{k}", date=f"2031-01-0{k + 1}", seed=k)
    return folder


@pytest.fixture
def sessions(folder: Path) -> list[Session]:
    return open_sessions([folder], folder / "cache")


def test_resume_is_bit_reproducible(tmp_path: Path, sessions: list[Session]):
    train(sessions, tmp_path / "straight", NETWORK, QUICK)
    train(sessions, tmp_path / "killed", NETWORK, QUICK, stop_at=3)
    train(sessions, tmp_path / "killed", NETWORK, QUICK, resume=True)
    for file in ("last.safetensors", "best.safetensors"):
        straight, killed = (load_file(tmp_path / run / file) for run in ("straight", "killed"))
        assert straight.keys() == killed.keys()
        assert all(torch.equal(straight[name], killed[name]) for name in straight)
    assert (tmp_path / "straight" / "metrics.jsonl").read_text() == (tmp_path / "killed" / "metrics.jsonl").read_text()


def test_a_run_is_not_overwritten_nor_continued_otherwise(tmp_path: Path, sessions: list[Session]):
    train(sessions, tmp_path, NETWORK, QUICK, stop_at=1)
    with pytest.raises(OperatorFault, match="holds a run already"):
        train(sessions, tmp_path, NETWORK, QUICK)
    with pytest.raises(OperatorFault, match="other settings"):
        train(sessions, tmp_path, NETWORK, replace(QUICK, rate=1.0), resume=True)


def test_it_learns(tmp_path: Path, sessions: list[Session]):
    """What one channel shares with the others is rebuilt: held-out error well below that of the mean, which is 1."""
    settings = replace(QUICK, steps=300, batch=32, rate=3e-3, warmup_steps=20, validate_every=300)
    train(sessions, tmp_path, NETWORK, settings)
    z = sessions[2].z
    (line,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert line["held_out"] < 0.8 * z.var()


def test_one_batch_can_be_learnt_by_heart():
    torch.manual_seed(0)
    network, usable = build(replace(NETWORK, patch_bins=16)), torch.ones(4, CHANNELS, dtype=torch.bool)
    window, session = torch.randn(4, CHANNELS, 128), torch.zeros(4, dtype=torch.long)
    keep = torch.rand(4, CHANNELS * 8).argsort(dim=1)[:, : CHANNELS * 2]
    masked = torch.ones(4, CHANNELS * 8, dtype=torch.bool).scatter(1, keep, False).view(4, CHANNELS, 8)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, betas=(0.9, 0.95))
    for _ in range(200):
        loss = reconstruction(network(window, usable, keep, session)[0], window, masked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            return
    pytest.fail(f"reconstruction error {loss:.3f} after 200 steps")


def test_cli_function_end_to_end(tmp_path: Path, folder: Path):
    overrides = tmp_path / "settings.toml"
    overrides.write_text('[training]\nbatch = 4\nvalidation_windows = 8\nprecision = "32-true"\n')
    pretrain([folder], tmp_path / "run", preset="nano", steps=2, settings_file=overrides)
    encoder, about = load_encoder(tmp_path / "run")
    assert encoder.config.channels == CHANNELS
    assert about["step"] == 2
    assert about["sessions"]["participant"] == "tester"
    pretrain([folder], tmp_path / "run", preset="nano", resume=True)  # already done: nothing moves
    again, _ = load_encoder(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))
    for preset, text, says in (("huge", "", "there are"), ("nano", "[network]\nwidht = 3", "widht")):
        overrides.write_text(text)
        with pytest.raises(OperatorFault, match=says):
            pretrain([folder], tmp_path / "other", preset=preset, settings_file=overrides)
    with pytest.raises(OperatorFault, match="not a checkpoint"):
        load_encoder(folder)


def test_masks_are_those_of_the_paper():
    usable = np.ones((5, 96), bool)
    batch = _drawn(MaeConfig(), usable)
    assert batch.keep.shape == (5, 192)
    assert (batch.masked.sum(dim=(1, 2)) == 576).all()
    assert all(len(set(row.tolist())) == 192 for row in batch.keep)
    assert len({tuple(row.tolist()) for row in batch.keep}) == 5


def test_dead_channels_are_neither_seen_nor_rebuilt():
    usable = np.ones((5, 96), bool)
    usable[:, 10:40] = False
    batch = _drawn(MaeConfig(), usable)
    assert not batch.masked[:, 10:40].any()
    channels = batch.keep // 8
    assert not ((channels >= 10) & (channels < 40)).any()


def _drawn(network: MaeConfig, usable: np.ndarray):
    class Constant:
        def windows(self, first_bins: np.ndarray, length: int):
            return np.zeros((len(first_bins), 96, length), np.float32), usable[first_bins]

    settings = replace(SETTINGS["paper"], batch=len(usable))
    fake = [Constant()]
    windows = [(0, k) for k in range(len(usable))]
    return assemble(fake, windows, network, settings, np.random.default_rng(0))  # type: ignore[arg-type]


def test_a_sample_is_the_same_in_a_batch_of_any_size(sessions: list[Session]):
    training, _ = split(sessions, 128)
    small, large = (draw(sessions, training, NETWORK, replace(QUICK, batch=n), step=7) for n in (3, 9))
    assert torch.equal(small.window, large.window[:3])
    assert torch.equal(small.keep, large.keep[:3])
    assert torch.equal(small.session, large.session[:3])
    other = draw(sessions, training, NETWORK, replace(QUICK, batch=3), step=8)
    assert not torch.equal(small.keep, other.keep)


def test_held_out_are_the_last_four_dates(tmp_path: Path):
    for k in range(7):
        small_session(
            tmp_path, f"s{k}", date=f"2031-01-{1 + k // 2:02d}" if k < 4 else f"2031-02-0{k}", seconds=1, seed=k
        )
    sessions = open_sessions([tmp_path], tmp_path)
    training, held_out = split(sessions, 128)  # dates: two of two sessions, then three of one
    assert sorted(training) == [0, 1]
    assert sorted(held_out) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(("n", "held"), [(2, [1]), (3, [2]), (6, [4, 5])])
def test_with_few_dates_the_last_sessions_are_held_out(tmp_path: Path, n: int, held: list[int]):
    sessions = [small_session(tmp_path, f"s{k}", seconds=1) for k in range(n)]
    training, held_out = split(sessions, 128)
    assert sorted(held_out) == held
    assert sorted([*training, *held_out]) == list(range(n))


def test_a_single_session_is_split_in_time(tmp_path: Path):
    training, held_out = split([small_session(tmp_path, seconds=2)], 128)
    assert training[0][-1] + 128 <= 1600 <= held_out[0][0]
    with pytest.raises(OperatorFault, match="longer recordings"):
        split([small_session(tmp_path, "short", seconds=0.4)], 128)


def test_windows_over_lost_bins_are_never_drawn(tmp_path: Path):
    session = small_session(tmp_path, seconds=2)
    usable = np.array(session.usable)
    usable[1000:1010] = False
    usable[1500] = np.arange(CHANNELS) < 3  # still some channels: a window like any other
    with_gap = Session(session.header, session.z, usable)
    starts = with_gap.allowed(128)
    assert np.asarray(starts).tolist() == [*range(1000 - 128 + 1), *range(1010, 2000 - 128 + 1)]
    _, channels = with_gap.windows(np.array([1450]), 128)
    assert channels.sum() == 3


def test_sessions_of_another_chain_or_array_are_refused(tmp_path: Path):
    chain = small_session(tmp_path / "a", "s0").header.chain
    small_session(tmp_path / "b", "s1", chain=chain | {"clip_uv": 1.0})
    small_session(tmp_path / "c", "s2", participant="another")
    with pytest.raises(RigFault, match="another signal chain"):
        open_sessions([tmp_path / "a", tmp_path / "b"], tmp_path)
    with pytest.raises(OperatorFault, match="another array or participant"):
        open_sessions([tmp_path / "a", tmp_path / "c" / "s2"], tmp_path)
    with pytest.raises(OperatorFault, match="no session in"):
        open_sessions([tmp_path], tmp_path)


def test_learning_rate_warms_up_and_falls_to_its_end():
    settings = SETTINGS["paper"]
    rates = [learning_rate(step, settings) for step in (0, 4_999, 5_000, 502_500, 1_000_000)]
    assert rates == pytest.approx([1e-4 / 5000, 1e-4, 1e-4, 5.5e-5, 1e-5])


def test_weight_decay_is_on_matrices_only():
    from training.pretrain import _groups

    network = build(NETWORK)
    decayed, others = _groups(network, 0.05)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert all(names[id(p)].endswith("weight") and p.ndim == 2 for p in decayed["params"])
    spared = {names[id(p)] for p in others["params"]}
    assert {"encoder.registers", "reconstructor.sessions.weight", "encoder.positions.space"} <= spared
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))
