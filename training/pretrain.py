"""Masked pretraining on recordings of spontaneous MUA: one loop, resumable to the bit.

What a step sees is a function of (seed, step) (`batches`) and there is no other randomness, so weights, the loss's two
scalars, the optimiser's two moments and the step number are the whole state. OUT holds

    settings.toml         everything that was chosen
    last.safetensors      that state: where `resume` goes on
    best.safetensors      weights with the lowest reconstruction loss on the held-out sessions, and what they are of
    metrics.jsonl         a line per validation: the learning curve
    tensorboard/          the same and more, a point every few steps, with pictures of reconstructions
"""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS, MaeConfig
from training.batches import Drawer, validation_batches
from training.checkpoints import BEST, LAST, load_encoder, load_training_state, save, training_state
from training.data import Session, open_sessions
from training.frozen import describe, freeze
from training.learner import Learner, learning_rate
from training.plan import planned, show
from training.processes import launch, noted, own_rows
from training.sampler import choose
from training.settings import (
    SETTINGS,
    PretrainSettings,
    chosen_normaliser,
    override,
    read_settings,
    refuse_other_settings,
    to_toml,
)

__all__ = ["SETTINGS", "PretrainSettings", "chosen_normaliser", "load_encoder", "pretrain", "read_settings", "train"]

POINT_EVERY = 10  # steps between two points of TensorBoard's curves


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
    if preset not in PRESETS:
        raise OperatorFault(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    if settings_file is None and resume and (out / "settings.toml").exists():
        settings_file = out / "settings.toml"
    chosen = read_settings(settings_file) if settings_file else {}
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
        return show(planned(sessions, network.bins), drawn_s / 3600)
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
    _refuse_other_run(out, text, resume)
    choice = choose(sessions, network.bins, settings)
    sessions = freeze(sessions, {i: int(firsts[-1]) + network.bins for i, firsts in choice.training.items()})
    about = {"network": asdict(network), "training": asdict(settings), "sessions": _identity(sessions)}

    learner, last = Learner(fabric, network, settings), out / LAST
    step, best = load_training_state(last, learner.parts, learner.optimizer, about) if last.exists() else (0, math.inf)
    drawer = Drawer(sessions, choice, network, settings, own_rows(fabric, settings.batch))
    held_out = validation_batches(sessions, choice.held_out, network, settings, fabric.global_rank, fabric.world_size)
    fabric.barrier()  # no process reads what stood there any more
    end = settings.steps if stop_at is None else min(stop_at, settings.steps)
    with ExitStack() as stack:
        stop, bar = stack.enter_context(noted()), stack.enter_context(_progress(fabric.is_global_zero))
        batches = stack.enter_context(closing(drawer.from_step(step)))
        log = stack.enter_context(_log(out, text, step)) if fabric.is_global_zero else None
        task = bar.add_task("pretrain", total=settings.steps, completed=step, loss="", held_out="")
        while step < end:
            losses, asked = learner.learn(next(batches), step, learning_rate(step, settings), stop())
            step += 1
            bar.update(task, completed=step, loss=f"{losses['training']:.4f}")
            valid = step % settings.validate_every == 0 or step == settings.steps
            if valid:
                losses |= learner.validate(held_out)
                bar.update(task, held_out=f"{losses['held_out']:.4f}")
            if log and step % POINT_EVERY == 0:
                log.curves(step, losses)
            if log and valid:
                log.line(step, losses)
                log.picture(step, *learner.rebuilt(held_out[0]))
                if losses["held_out"] < best:
                    save(
                        out / BEST,
                        dict(learner.network.state_dict()),
                        about | {"step": step, "held_out": losses["held_out"]},
                    )
            best = min(best, losses.get("held_out", best))
            if log and (valid or asked or step == end):
                save(last, training_state(learner.parts, learner.optimizer), about | {"step": step, "best": best})
            if asked:
                raise KeyboardInterrupt


def _log(out: Path, text: str, step: int) -> Any:
    from training.run_log import RunLog  # TensorBoard takes seconds to load, and other processes need none

    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.toml").write_text(text)
    return RunLog(out, step)


def _identity(sessions: list[Session]) -> dict[str, Any]:
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


def _refuse_other_run(out: Path, text: str, resume: bool) -> None:
    if not (out / LAST).exists():
        return
    if not resume:
        raise OperatorFault(f"{out} holds a run already; continue it with --resume, or name another --out")
    refuse_other_settings(out / "settings.toml", text)


def _refuse_blocks_of_everything(network: MaeConfig, settings: PretrainSettings) -> None:
    hidden = round(settings.mask_ratio * network.patches)
    if settings.masking == "blocks" and not 0 < hidden < network.patches:
        raise OperatorFault(
            f"masking = blocks: found {hidden} of {network.patches} patches of a channel to hide, expected some and "
            "not all; choose shorter patch_bins in [network], or another mask_ratio"
        )


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  held out {task.fields[held_out]}"),
        _Rate(),
        TimeRemainingColumn(),
        disable=not shown,
    )


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.2f} steps/s")
