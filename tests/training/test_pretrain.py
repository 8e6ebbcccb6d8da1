"""The training line: that it learns, that a run that ended goes on to the bit, and what becomes of bad input."""

from __future__ import annotations

import json
import math
import resource
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.errors import OperatorFault, RigFault
from models.networks.masked_autoencoder import PRESETS, build
from tests.training.sessions import CHANNELS, small_session
from training.cross_session import CrossSession
from training.data import Session, open_sessions
from training.losses import reconstruction
from training.optimizing import groups, learning_rate, optimizers
from training.pretrain import SETTINGS, PretrainSettings, load_encoder, pretrain, read_settings, train
from training.settings import override, to_toml

NETWORK = replace(PRESETS["nano"], channels=CHANNELS, sessions=3)
QUICK = replace(
    SETTINGS["nano"], steps=6, batch=4, warmup_steps=2, validate_every=3, validation_windows=8, precision="32-true"
)
COMPARING = replace(QUICK, cross_session_weight=0.05, sessions_per_batch=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sessions")
    for k in range(3):
        small_session(folder, f"s{k}", date=f"2031-01-0{k + 1}", seed=k)
    return folder


@pytest.fixture
def sessions(folder: Path) -> list[Session]:
    return open_sessions([folder], folder / "cache")


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(run: Path, other: Path) -> None:
    for file in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(run / file), load_file(other / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert lines(run) == lines(other)


# Going on ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [QUICK, COMPARING, replace(COMPARING, micro_batch=3)])
@pytest.mark.parametrize("stop_at", [3, 4])
def test_resume_is_bit_reproducible(tmp_path: Path, sessions: list[Session], settings: PretrainSettings, stop_at: int):
    train(sessions, tmp_path / "straight", NETWORK, settings)
    train(sessions, tmp_path / "ended", NETWORK, settings, stop_at=stop_at)
    train(sessions, tmp_path / "ended", NETWORK, settings, resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "ended")


def test_what_a_kill_left_behind_the_checkpoint_is_told_once(tmp_path: Path, sessions: list[Session]):
    """Killed after the line of step 6, before its checkpoint was saved."""
    train(sessions, tmp_path / "straight", NETWORK, QUICK)
    train(sessions, tmp_path / "killed", NETWORK, QUICK, stop_at=3)
    shutil.copy(tmp_path / "straight" / "metrics.jsonl", tmp_path / "killed")
    train(sessions, tmp_path / "killed", NETWORK, QUICK, resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "killed")


class Interrupting:
    """A session at whose n-th window somebody presses Ctrl-C."""

    def __init__(self, session: Session, n: int) -> None:
        self._session, self._left, self._once = session, n, threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def windows(self, first_bins: np.ndarray, length: int):
        with self._once:
            self._left -= 1
            if self._left == 0:
                signal.raise_signal(signal.SIGINT)
        return self._session.windows(first_bins, length)


def test_ctrl_c_ends_behind_a_whole_step_and_goes_on_to_the_bit(tmp_path: Path, sessions: list[Session]):
    train(sessions, tmp_path / "straight", NETWORK, QUICK)
    pressed: list = [Interrupting(sessions[0], 5), *sessions[1:]]
    with pytest.raises(KeyboardInterrupt):
        train(pressed, tmp_path / "ended", NETWORK, QUICK)
    train(sessions, tmp_path / "ended", NETWORK, QUICK, resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "ended")


def test_a_run_is_not_overwritten_nor_continued_otherwise(tmp_path: Path, sessions: list[Session]):
    train(sessions, tmp_path, NETWORK, QUICK, stop_at=1)
    with pytest.raises(OperatorFault, match="holds a run already"):
        train(sessions, tmp_path, NETWORK, QUICK)
    with pytest.raises(OperatorFault, match=r"other settings or sessions: found \[training\] rate = 0.003, .*1.0;"):
        train(sessions, tmp_path, NETWORK, replace(QUICK, rate=1.0), resume=True)
    train(sessions, tmp_path, NETWORK, replace(QUICK, micro_batch=2), stop_at=2, resume=True)  # only where it is held


def test_a_checkpoint_of_another_preset_or_other_sessions_is_refused(
    tmp_path: Path, sessions: list[Session], folder: Path
):
    train(sessions, tmp_path / "nano", NETWORK, QUICK, stop_at=1)
    other = replace(NETWORK, depth=1, width=32)
    train(sessions, tmp_path / "other", other, QUICK, stop_at=1)
    shutil.copy(tmp_path / "other" / "last.safetensors", tmp_path / "nano")
    with pytest.raises(OperatorFault, match="another network: found width 32, depth 1, expected width 64, depth 2"):
        train(sessions, tmp_path / "nano", NETWORK, QUICK, resume=True)
    with pytest.raises(OperatorFault, match="of other sessions"):
        train(sessions[::-1], tmp_path / "other", other, QUICK, resume=True)
    with pytest.raises(OperatorFault, match="not a checkpoint"):
        load_encoder(tmp_path / "other" / "last.safetensors")
    (tmp_path / "nano" / "last.safetensors").write_bytes(b"half a file")
    with pytest.raises(OperatorFault, match="cannot be gone on from"):
        train(sessions, tmp_path / "nano", NETWORK, QUICK, resume=True)


# Disk ----------------------------------------------------------------------------------------------------------------


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """As on a disk that is full: what is written beyond `size` fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_the_old_checkpoint_stands(tmp_path: Path, sessions: list[Session]):
    train(sessions, tmp_path / "straight", NETWORK, QUICK)
    train(sessions, tmp_path / "full", NETWORK, QUICK, stop_at=4)
    before = {file.name: file.read_bytes() for file in (tmp_path / "full").glob("*.safetensors")}
    with files_end_at(300_000), pytest.raises(OperatorFault, match=r"could not be written.*--resume"):
        train(sessions, tmp_path / "full", NETWORK, QUICK, resume=True)
    assert {file.name: file.read_bytes() for file in (tmp_path / "full").glob("*.safetensors")} == before
    assert not list((tmp_path / "full").glob("*.draft"))
    train(sessions, tmp_path / "full", NETWORK, QUICK, resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "full")


# What it learns ------------------------------------------------------------------------------------------------------


def test_it_learns(tmp_path: Path, sessions: list[Session]):
    """What one channel shares with the others is rebuilt: held-out error well below that of the mean, which is 1."""
    settings = replace(QUICK, steps=300, batch=32, rate=3e-3, warmup_steps=20, validate_every=300)
    train(sessions, tmp_path, NETWORK, settings)
    z = sessions[2].z
    (line,) = lines(tmp_path)
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


def test_what_it_says_of_itself(tmp_path: Path, sessions: list[Session]):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(sessions, tmp_path, NETWORK, replace(COMPARING, steps=20, validate_every=10))
    for line in lines(tmp_path):
        assert line["above_floor"] < line["cross_session"] < 10
        assert 1 < line["participation"] < line["rank"] < 8
        assert line["training"] > 0
        assert line["gradient"] > 0
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    tags = curves.Tags()
    assert {"training", "held_out", "above_floor", "rank", "gradient", "rate"} <= set(tags["scalars"])
    assert [point.step for point in curves.Scalars("held_out")] == [10, 20]
    assert [image.step for image in curves.Images("reconstruction")] == [10, 20]


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ({"bins": 256}, {}),
        ({"bins": 512, "patch_bins": 16}, {}),
        ({"patch_bins": 16}, {"masking": "blocks"}),
        ({"patch_bins": 16}, {"masking": "tubes", "electrode_dropout": 0.1}),
        ({}, {"precision": "bf16-mixed", "correlation_over": "masked"}),
        ({}, {"cross_session_norm": "mean", "correlation_over": "window"}),
        ({}, {"cross_session_norm": "balanced", "cross_session_embedding": "projector", "micro_batch": 1}),
        ({}, {"cross_session_embedding": "register", "cross_session_neighbours": 1}),
        ({}, {"shuffle_time": True}),
        ({}, {"deterministic": True}),
    ],
)
def test_options_train_and_can_be_loaded(tmp_path: Path, sessions: list[Session], network: dict, changes: dict):
    config = replace(NETWORK, **network)
    try:
        train(sessions, tmp_path, config, replace(COMPARING, steps=2, **changes))
    finally:
        torch.use_deterministic_algorithms(False)
    encoder, about = load_encoder(tmp_path)
    assert encoder.config == config
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    assert about["training"].items() >= changes.items()
    assert math.isfinite(lines(tmp_path)[0]["held_out"])


def test_bfloat16_costs_little(tmp_path: Path, sessions: list[Session]):
    for precision in ("32-true", "bf16-mixed"):
        train(sessions, tmp_path / precision, NETWORK, replace(COMPARING, precision=precision))
    for full, half in zip(lines(tmp_path / "32-true"), lines(tmp_path / "bf16-mixed"), strict=True):
        for name in ("training", "held_out", "cross_session"):
            assert half[name] == pytest.approx(full[name], rel=0.02)


def test_the_cross_session_loss_starts_near_its_floor(tmp_path: Path, sessions: list[Session]):
    """b is calibrated on the first batch; what is left above the floor is the spread of an untrained embedding."""
    train(sessions, tmp_path, NETWORK, replace(COMPARING, steps=1))
    (line,) = lines(tmp_path)
    prior = -(8 * math.log(8 / 12) + 4 * math.log(4 / 12)) / 4  # two sessions by two windows: 8 pairs of 12 differ
    assert line["cross_session"] - line["above_floor"] == pytest.approx(prior, rel=1e-5)
    assert 0 < line["above_floor"] < prior
    state = load_file(tmp_path / "last.safetensors")
    assert float(state["cross_session.log_t"]) == pytest.approx(math.log(10), abs=0.01)
    assert float(state["cross_session.bias"]) < 0  # embeddings point the same way


def test_learning_rate_warms_up_and_falls_to_its_end():
    settings = SETTINGS["paper"]
    rates = [learning_rate(step, settings) for step in (0, 4_999, 5_000, 502_500, 1_000_000)]
    assert rates == pytest.approx([1e-4 / 5000, 1e-4, 1e-4, 5.5e-5, 1e-5])


def test_weight_decay_is_on_matrices_only():
    network = build(NETWORK)
    parts = torch.nn.ModuleDict({"network": network, "cross_session": CrossSession(64, embedding="projector")})
    decayed, others = groups(parts, list(parts.parameters()), 0.05)
    names = {id(parameter): name for name, parameter in parts.named_parameters()}
    assert all(names[id(p)].endswith("weight") and p.ndim == 2 for p in decayed["params"])
    spared = {names[id(p)] for p in others["params"]}
    assert {"network.encoder.registers", "network.reconstructor.sessions.weight"} <= spared
    assert {"network.encoder.positions.space", "cross_session.log_t", "cross_session.bias"} <= spared
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert len(decayed["params"]) + len(others["params"]) == len(list(parts.parameters()))


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest():
    network = build(NETWORK)
    parts = torch.nn.ModuleDict({"network": network, "cross_session": CrossSession(64)})
    names = {id(parameter): name for name, parameter in parts.named_parameters()}
    muon, adamw = (
        [names[id(p)] for group in one.param_groups for p in group["params"]]
        for one in optimizers(parts, QUICK, torch.device("cpu"))
    )
    assert sorted([*muon, *adamw]) == sorted(names.values())
    assert all(".blocks." in name and name.endswith("weight") and "norm" not in name for name in muon)
    per_block = len({"qkv", "out", "gate_up", "down"})
    assert len(muon) == per_block * (NETWORK.depth + NETWORK.reconstructor_depth)


# Bad input -----------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_its_step_and_changes_nothing(tmp_path: Path, sessions: list[Session]):
    with pytest.raises(OperatorFault, match=r"step 2: found reconstruction loss \S+ and gradient nan.*lower the rate"):
        train(sessions, tmp_path, NETWORK, replace(QUICK, rate=1e30, warmup_steps=0))
    assert not (tmp_path / "last.safetensors").exists()


def test_sessions_without_a_working_channel_are_no_data(tmp_path: Path):
    dead = [small_session(tmp_path, f"s{k}", seconds=2, seed=k) for k in range(2)]
    dead = [Session(one.header, one.stored, np.zeros(one.usable.shape, bool)) for one in dead]
    with pytest.raises(OperatorFault, match="no valid window"):
        train(dead, tmp_path / "run", NETWORK, QUICK)


def test_windows_in_which_no_channel_works_throughout_do_no_harm(tmp_path: Path, sessions: list[Session]):
    """Every bin has a channel, no channel has them all: such a window is in no loss, and spoils no gradient."""
    shape = sessions[0].usable.shape
    in_turns = np.arange(shape[0])[:, None] // 10 % CHANNELS == np.arange(CHANNELS)
    spoiled = [Session(sessions[0].header, sessions[0].stored, in_turns), *sessions[1:]]
    train(spoiled, tmp_path, NETWORK, COMPARING)
    assert all(math.isfinite(value) for line in lines(tmp_path) for value in line.values())


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


# The command ---------------------------------------------------------------------------------------------------------


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
    with pytest.raises(OperatorFault, match="not a checkpoint"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[network]\nwidht = 3", "widht"),
        ("[netwrok]", "netwrok"),
        ("[training]\nsteps = 0", "steps = 0, expected 1 or more"),
        ('[training]\nsteps = "many"', "steps = 'many', expected a int"),
        ("[training]\nmask_ratio = 75", "mask_ratio = 75, expected a share"),
        ('[training]\nmasking = "stripes"', "masking = 'stripes', expected one of: random, tubes, blocks"),
        ('[training]\nprecision = "16-mixed"', "precision = '16-mixed'"),
        ("[training]\ncross_session_weight = 0.1", "sessions_per_batch = 0, expected 2 or more"),
        ('[training]\nmasking = "blocks"', "2 of 2 patches"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, folder: Path, text: str, says: str):
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(OperatorFault, match=says):
        pretrain([folder], tmp_path / "run", preset="nano", settings_file=tmp_path / "settings.toml")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_presets_that_are_not_there_are_refused(tmp_path: Path, folder: Path):
    with pytest.raises(OperatorFault, match="there are: paper"):
        pretrain([folder], tmp_path, preset="huge")
    assert SETTINGS.keys() == PRESETS.keys()


@pytest.mark.parametrize("preset", SETTINGS)
def test_settings_come_back_from_their_file(tmp_path: Path, preset: str):
    (tmp_path / "settings.toml").write_text(to_toml(PRESETS[preset], SETTINGS[preset], {}))
    found = read_settings(tmp_path / "settings.toml")
    assert override(PRESETS["paper"], found["network"], "network") == PRESETS[preset]
    assert override(SETTINGS["paper"], found["training"], "training") == SETTINGS[preset]
