"""The same batch, however it is cut over micro-batches and processes, gives the same losses and weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS
from tests.training.sessions import CHANNELS, small_session
from tests.training.two_processes import STEPS
from training.data import open_sessions
from training.pretrain import train
from training.processes import launch, noted, own_rows
from training.settings import to_toml

NETWORK = replace(PRESETS["nano"], channels=CHANNELS, sessions=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and, of one process that sees each batch whole, whole/."""
    folder = tmp_path_factory.mktemp("processes")
    for k in range(7):
        small_session(folder / "data", f"s{k}", date=f"2031-01-0{k + 1}", seed=k, seconds=4)
    train(open_sessions([folder / "data"], folder), folder / "whole", NETWORK, replace(STEPS, micro_batch=0))
    return folder


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_alike(run: Path, other: Path) -> None:
    """In float32 sums of another order differ in the last bits; weights by what Adam makes of those."""
    ours, theirs = lines(run), lines(other)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [2, 4]
    for line, same in zip(ours, theirs, strict=True):
        assert line == pytest.approx(same, rel=2e-5)
    weights, same_weights = load_file(run / "last.safetensors"), load_file(other / "last.safetensors")
    assert weights.keys() == same_weights.keys()
    for name, value in weights.items():
        assert torch.allclose(value, same_weights[name], rtol=1e-3, atol=2e-4), name


def in_two_processes(*command: object) -> None:
    """Each with one thread: processes that spin for each other on few cores take minutes."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr


def test_micro_batches_change_nothing(folder: Path, tmp_path: Path):
    train(open_sessions([folder / "data"], folder), tmp_path, NETWORK, replace(STEPS, micro_batch=3))
    assert_alike(tmp_path, folder / "whole")


def test_nor_with_muon_but_for_what_its_bfloat16_makes_of_last_bits(folder: Path, tmp_path: Path):
    sessions = open_sessions([folder / "data"], folder)
    for micro_batch in (0, 3):
        asked = replace(STEPS, micro_batch=micro_batch, optimizer="muon")
        train(sessions, tmp_path / str(micro_batch), NETWORK, asked)
    for line, same in zip(lines(tmp_path / "0"), lines(tmp_path / "3"), strict=True):
        assert line == pytest.approx(same, rel=1e-3)


def test_the_command_on_two_devices_gives_what_one_gives(folder: Path, tmp_path: Path):
    chosen = tmp_path / "settings.toml"
    chosen.write_text(to_toml(NETWORK, STEPS, open_sessions([folder / "data"], folder)[0].header.chain["normaliser"]))
    data, out = folder / "data", tmp_path / "run"
    options = ["--preset", "nano", "--settings", chosen, "--accelerator", "cpu", "--devices", "2"]
    in_two_processes("-m", "server.cli", "pretrain", data, "--out", out, *options)
    assert_alike(out, folder / "whole")


def test_two_processes_of_torchrun_go_on_to_the_bit(folder: Path):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    in_two_processes(*torchrun, "-m", "tests.training.two_processes", folder)
    assert_alike(folder / "straight", folder / "whole")
    for file in ("last.safetensors", "best.safetensors"):
        straight, ended = (load_file(folder / run / file) for run in ("straight", "ended"))
        assert straight.keys() == ended.keys()
        assert all(torch.equal(straight[name], ended[name]) for name in straight)
    assert lines(folder / "straight") == lines(folder / "ended")


def test_devices_that_are_not_there_are_refused():
    for accelerator, says in (("abacus", "abacus"), *([] if torch.cuda.is_available() else [("cuda", "cuda")])):
        with pytest.raises(OperatorFault, match=f"--accelerator {says}"):
            launch(STEPS, accelerator)


def test_rows_are_shared_out_in_order():
    class Fabric:
        world_size = 4

    rows = []
    for rank in range(4):
        Fabric.global_rank = rank  # type: ignore[attr-defined]
        rows += range(12)[own_rows(Fabric, 12)]
    assert rows == list(range(12))


def test_a_first_ctrl_c_is_noted_and_a_second_raised():
    before = signal.getsignal(signal.SIGINT)
    with noted() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
