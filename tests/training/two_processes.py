"""Run by torchrun in each of its processes: a run straight through, and one that ends early and goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from models.networks.masked_autoencoder import PRESETS
from training.data import open_sessions
from training.pretrain import SETTINGS, train
from training.processes import launch

STEPS = replace(
    SETTINGS["nano"],
    steps=4,
    batch=8,
    micro_batch=3,
    optimizer="adamw",  # Muon works in bfloat16, where the last bits of a sum are worth more
    rate=2e-3,
    warmup_steps=2,
    validate_every=2,
    validation_windows=20,
    precision="32-true",
    cross_session_weight=0.05,
    cross_session_neighbours=2,
    sessions_per_batch=3,
)


def main(folder: Path) -> None:
    sessions = open_sessions([folder / "data"], folder)
    network = replace(PRESETS["nano"], channels=sessions[0].usable.shape[1], sessions=len(sessions))
    fabric = launch(STEPS, "cpu")
    assert fabric.world_size == 2
    train(sessions, folder / "straight", network, STEPS, fabric=fabric)
    train(sessions, folder / "ended", network, STEPS, stop_at=3, fabric=fabric)
    train(sessions, folder / "ended", network, STEPS, resume=True, fabric=fabric)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
