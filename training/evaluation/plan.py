"""What an evaluation will compute, and about how long it takes on this machine.

Costs are measured: a few seconds each of simulating, encoding, training and fitting, at the sizes that will be met, and
counted up. What a step costs depends on what else the machine does; the estimate is of cores to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from models.networks.masked_autoencoder import MaeConfig, build
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.settings import BIN_RATE_HZ, ParticipantSettings
from streaming.signal.normaliser import Normaliser
from streaming.signal.settings import NormaliserSettings
from training.evaluation.costs import FITTED, cost_s
from training.evaluation.embedding import tokens
from training.evaluation.steps import Step
from training.pretrain import PretrainSettings
from training.readout import fit


def measure(network: MaeConfig, training: PretrainSettings) -> dict[str, float]:
    """TYPICAL, of this machine and network, on one thread, as the work is done: some ten seconds."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with threadpool_limits(1):
        reader, normaliser = LevelA(Participant(ParticipantSettings())), Normaliser(NormaliserSettings(), 96)
        usable = np.ones((BIN_RATE_HZ, 96), bool)
        model = build(network)
        windows, there = torch.randn(16, network.channels, network.bins), torch.ones(16, network.channels, dtype=bool)
        kept = max(1, round(network.tokens * (1 - training.mask_ratio)))
        keep = torch.stack([torch.randperm(network.tokens)[:kept] for _ in range(16)])

        def simulate() -> None:
            normaliser.push(reader.read(BIN_RATE_HZ), usable[:, 0], usable)

        def encode(exact: bool = True) -> None:
            tokens(model.encoder, windows.numpy(), there.numpy(), exact)

        def train() -> None:
            rebuilt, _ = model(windows, there, keep, torch.zeros(16, dtype=torch.long))
            rebuilt.square().mean().backward()

        found = {
            "simulated": _seconds(simulate, 5),
            "encoded": _seconds(encode, 2) / 16,
            "rest encoded": _seconds(partial(encode, exact=False), 2) / 16,
            "trained": _seconds(train, 2) / 16 * training.batch,
        }
        for features in (2, 384, 768, 12_288):
            x, y = rng.standard_normal((FITTED, features)).astype(np.float32), np.arange(FITTED) % 3 == 0
            found[f"fit {features}"] = _seconds(partial(fit, x, y), 1)
    return found


def _seconds(work: Callable[[], object], times: int) -> float:
    """Of one turn, after one to warm up."""
    work()
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def show(steps: list[list[Step]], costs: dict[str, float], cores: int, console: Console) -> None:
    """A line for each kind of step, and how long all takes on so many cores, each with whole participants."""
    table = Table("what", "steps", "done", "minutes of one core", title="phosphene evaluate")
    every = [step for each in steps for step in each]
    for kind in dict.fromkeys(step.kind for step in every):
        those = [step for step in every if step.kind == kind]
        left = sum(cost_s(step, costs) for step in those if not step.done)
        table.add_row(kind, str(len(those)), str(sum(step.done for step in those)), f"{left / 60:.1f}")
    console.print(table)
    loads = [sum(cost_s(step, costs) for step in each if not step.done) for each in steps]
    console.print(f"participants: {len(steps)}; about {_busiest(loads, cores) / 3600:.1f} h on {cores} cores")


def _busiest(loads: list[float], cores: int) -> float:
    """When the last core is done, each taking the longest participant that is left."""
    busy = [0.0] * cores
    for load in sorted(loads, reverse=True):
        busy[busy.index(min(busy))] += load
    return max(busy)
