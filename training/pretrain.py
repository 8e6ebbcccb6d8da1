"""Masked pretraining on recordings of spontaneous MUA: what a run is made of; `loop` runs it.

OUT also gets pictures of reconstructions, in `tensorboard/`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS, MaeConfig
from training.batches import Drawer, validation_batches
from training.checkpoints import load_encoder
from training.data import Session, open_sessions
from training.frozen import describe, freeze
from training.learner import Learner
from training.loop import refuse_other_run, run
from training.plan import planned, show
from training.processes import launch, own_rows
from training.sampler import choose
from training.settings import (
    SETTINGS,
    PretrainSettings,
    asked_for,
    chosen_normaliser,
    override,
    read_settings,
    to_toml,
)

__all__ = ["SETTINGS", "PretrainSettings", "chosen_normaliser", "load_encoder", "pretrain", "read_settings", "train"]


def pretrain(
    data: list[Path],
    out: Path,
    preset: str = "live",
    steps: int | None = None,
    settings_file: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    plan: bool = False,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
) -> None:
    """Pretrains on recordings (what `open_sessions` takes) and leaves checkpoints in `out`; `plan`: says what it would
    train on and hold out, and trains nothing.

    `settings_file` is TOML with tables [network] and [training] that override the preset, and [normaliser], by which
    the recordings are normalised instead of the default; `settings.toml` of another run is one. The batch is spread
    over `devices` of each of `nodes`.

    Raises:
        OperatorFault: an unknown preset or setting, devices that are not there, or `out` holds a run that this call
            would not continue.
        RigFault: a recording cannot be used.
    """
    chosen = asked_for(preset, out, settings_file, resume)
    settings = override(replace(SETTINGS[preset], seed=seed), chosen.get("training", {}), "training")
    if steps is not None:
        settings = replace(settings, steps=steps)
    fabric = launch(settings, accelerator, devices, nodes)
    with fabric.rank_zero_first(local=True):  # the first makes the cache, the others find it
        sessions = open_sessions(data, out / "cache", chosen_normaliser(chosen))
    window = {"channels": sessions[0].usable.shape[1], "sessions": max(len(sessions), 1)}
    network = override(PRESETS[preset], window | chosen.get("network", {}), "network")
    if plan:
        drawn_s = settings.steps * settings.batch * network.bins / sessions[0].header.bin_rate_hz
        return show(planned(sessions, network.bins, settings), drawn_s / 3600)
    train(sessions, out, network, settings, resume=resume, fabric=fabric)


def train(
    sessions: list[Session],
    out: Path,
    network: MaeConfig,
    settings: PretrainSettings,
    resume: bool = False,
    stop_at: int | None = None,
    fabric: Any = None,
) -> None:
    """The run itself. `stop_at` ends it early, as Ctrl-C would, with nothing but the last step saved."""
    fabric = launch(settings) if fabric is None else fabric
    text = to_toml(network, settings, sessions[0].header.chain["normaliser"])
    _refuse_blocks_of_everything(network, settings)
    refuse_other_run(out, text, resume)
    choice = choose(sessions, network.bins, settings)
    sessions = freeze(sessions, {i: int(firsts[-1]) + network.bins for i, firsts in choice.training.items()})
    about = {"network": asdict(network), "training": asdict(settings), "sessions": identity(sessions)}

    learner = Learner(fabric, network, settings)
    drawer = Drawer(sessions, choice, network, settings, own_rows(fabric, settings.batch))
    held_out = validation_batches(sessions, choice.held_out, network, settings, fabric.global_rank, fabric.world_size)

    def picture(log: Any, step: int) -> None:
        log.picture(step, *learner.rebuilt(held_out[0]))

    run("pretrain", learner, drawer.from_step, held_out, out, text, about, settings, fabric, stop_at, picture)


def identity(sessions: list[Session]) -> dict[str, Any]:
    """What the weights were trained on, for provenance and so that probes and bundles can refuse other arrays."""
    first = sessions[0].header
    return {
        "participant": first.participant,
        "array_sha256": first.array.sha256(),
        "chain": first.chain,
        "frozen": describe(sessions),
        "names": [session.header.name for session in sessions],
        "dates": sorted({session.header.date for session in sessions}),
        "hours": sum(session.seconds for session in sessions) / 3600,
    }


def _refuse_blocks_of_everything(network: MaeConfig, settings: PretrainSettings) -> None:
    hidden = round(settings.mask_ratio * network.patches)
    if settings.masking == "blocks" and not 0 < hidden < network.patches:
        raise OperatorFault(
            f"masking = blocks: found {hidden} of {network.patches} patches of a channel to hide, expected some and "
            "not all; choose shorter patch_bins in [network], or another mask_ratio"
        )
