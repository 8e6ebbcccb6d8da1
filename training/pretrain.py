"""Masked pretraining on recordings of spontaneous MUA: one loop, resumable to the bit.

What a step sees is a function of (seed, step) (`batches`) and there is no other randomness, so weights, the optimiser's
two moments and the step number are the whole state. OUT holds

    settings.toml         everything that was chosen
    last.safetensors      weights, moments and, in its header, the step: where `resume` goes on
    best.safetensors      weights with the lowest reconstruction loss on the held-out sessions, and what they are of
    metrics.jsonl         a line per validation
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import lightning as L
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS, Encoder, MaeConfig, MaskedAutoencoder, build
from streaming.signal.settings import NormaliserKind, NormaliserSettings
from training.batches import Batch, draw, split, validation_batches
from training.data import Session, open_sessions
from training.frozen import describe, freeze
from training.losses import correlation, reconstruction
from training.plan import planned, show

TABLES = ("network", "training", "normaliser")  # of a settings file


@dataclass(frozen=True)
class PretrainSettings:
    """Defaults are the paper's. Learning rate: linear warm-up, then a cosine down to `final_rate`."""

    steps: int = 1_000_000
    batch: int = 32
    rate: float = 1e-4
    final_rate: float = 1e-5
    warmup_steps: int = 5_000
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05  # of matrices; never of norms, biases, embeddings and tokens
    clip_norm: float = 1.0
    mask_ratio: float = 0.75
    correlation_weight: float = 0.1
    session_dropout: float = 0.1  # how often a window's session is the unknown one
    precision: str = "bf16-mixed"
    validate_every: int = 2_000
    validation_windows: int = 2_048
    seed: int = 0


_SMALL = PretrainSettings(
    steps=4_000, batch=64, rate=2e-3, final_rate=2e-5, warmup_steps=100, validate_every=200, validation_windows=512
)
SETTINGS: dict[str, PretrainSettings] = {
    "paper": PretrainSettings(),
    "base": PretrainSettings(),
    "small": replace(PretrainSettings(), rate=5e-4, steps=200_000),
    "tiny": replace(_SMALL, rate=1e-3, steps=20_000),
    "micro": _SMALL,
    "live": _SMALL,
    "nano": replace(_SMALL, steps=200, batch=16, validate_every=50, validation_windows=64),
}


def pretrain(
    data: list[Path],
    out: Path,
    preset: str = "live",
    steps: int | None = None,
    settings_file: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    plan: bool = False,
) -> None:
    """Pretrains on recordings (what `open_sessions` takes) and leaves checkpoints in `out`; `plan`: says what it would
    train on and hold out, and trains nothing.

    `settings_file` is TOML with tables [network] and [training] that override the preset, and [normaliser], by which
    the recordings are normalised instead of the default; `settings.toml` of another run is one.

    Raises:
        OperatorFault: an unknown preset or setting, or `out` holds a run that this call would not continue.
        RigFault: a recording cannot be used.
    """
    if preset not in PRESETS:
        raise OperatorFault(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    if settings_file is None and resume and (out / "settings.toml").exists():
        settings_file = out / "settings.toml"
    chosen = read_settings(settings_file) if settings_file else {}
    sessions = open_sessions(data, out / "cache", chosen_normaliser(chosen))
    network = PRESETS[preset]
    window = {"channels": sessions[0].usable.shape[1], "sessions": max(len(sessions), 1)}
    network = _override(network, window | chosen.get("network", {}), "network")
    settings = _override(replace(SETTINGS[preset], seed=seed), chosen.get("training", {}), "training")
    if steps is not None:
        settings = replace(settings, steps=steps)
    if plan:
        drawn_s = settings.steps * settings.batch * network.bins / sessions[0].header.bin_rate_hz
        return show(planned(sessions, network.bins), drawn_s / 3600)
    train(sessions, out, network, settings, resume=resume)


def train(
    sessions: list[Session],
    out: Path,
    network_config: MaeConfig,
    settings: PretrainSettings,
    resume: bool = False,
    stop_at: int | None = None,
) -> None:
    """The run itself. `stop_at` ends it early, as a kill would, only with the last step saved."""
    last, best = out / "last.safetensors", out / "best.safetensors"
    text = _to_toml(network_config, settings, sessions[0].header.chain["normaliser"])
    _refuse_other_run(out, text, resume)
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.toml").write_text(text)
    fabric = L.Fabric(accelerator="auto", devices=1, precision=settings.precision)
    torch.manual_seed(settings.seed)
    network = build(network_config)
    optimizer = torch.optim.AdamW(
        _groups(network, settings.weight_decay), lr=0.0, betas=(settings.beta1, settings.beta2)
    )
    step, best_loss = _load(last, network, optimizer) if resume and last.exists() else (0, math.inf)
    model, optimizer = fabric.setup(network, optimizer)
    training, held_out = split(sessions, network_config.bins)
    ends = {i: int(firsts[-1]) + network_config.bins for i, firsts in training.items() if len(firsts)}
    sessions = freeze(sessions, ends)
    fixed = list(validation_batches(sessions, held_out, network_config, settings))
    about = {"network": asdict(network_config), "training": asdict(settings), "sessions": _identity(sessions)}

    with _progress() as bar:
        task = bar.add_task("pretrain", total=settings.steps, completed=step, loss="", held_out="")
        while step < (settings.steps if stop_at is None else min(stop_at, settings.steps)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings)
            batch = draw(sessions, training, network_config, settings, step).to(fabric.device)
            rebuilt, _ = model(batch.window, batch.usable, batch.keep, batch.session)
            mse = reconstruction(rebuilt, batch.window, batch.masked)
            loss = mse + settings.correlation_weight * correlation(rebuilt, batch.window, batch.usable)
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=True)
            optimizer.step()
            step += 1
            bar.update(task, completed=step, loss=f"{float(mse.detach()):.4f}")
            if step % settings.validate_every == 0 or step == settings.steps or step == stop_at:
                held_out_loss = _validate(model, fixed, fabric.device)
                bar.update(task, held_out=f"{held_out_loss:.4f}")
                line = {"step": step, "training": float(mse.detach()), "held_out": held_out_loss}
                with (out / "metrics.jsonl").open("a") as metrics:
                    metrics.write(json.dumps(line) + "\n")
                if held_out_loss < best_loss:
                    best_loss = held_out_loss
                    _save(best, dict(network.state_dict()), about | {"step": step, "held_out": best_loss})
                _save(last, _state(network, optimizer), {"step": step, "best": best_loss})


@torch.no_grad()
def _validate(model: torch.nn.Module, batches: list[Batch], device: torch.device) -> float:
    """Reconstruction loss over the fixed batches, every masked patch weighing the same."""
    model.eval()
    total = count = 0.0
    for batch in (b.to(device) for b in batches):
        rebuilt, _ = model(batch.window, batch.usable, batch.keep, batch.session)
        patches = float(batch.masked.sum())
        total += float(reconstruction(rebuilt, batch.window, batch.masked)) * patches
        count += patches
    model.train()
    return total / count


# Optimiser and checkpoints -------------------------------------------------------------------------------------------


def learning_rate(step: int, settings: PretrainSettings) -> float:
    if step < settings.warmup_steps:
        return settings.rate * (step + 1) / settings.warmup_steps
    along = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.final_rate + (settings.rate - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * along))


def _groups(network: MaskedAutoencoder, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on the matrices of linear layers only."""
    matrices = {id(m.weight) for m in network.modules() if isinstance(m, torch.nn.Linear)}
    decayed = [p for p in network.parameters() if id(p) in matrices]
    others = [p for p in network.parameters() if id(p) not in matrices]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def load_encoder(checkpoint: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder of `best.safetensors` (or of the run's folder that holds it), and what it was trained on.

    Raises:
        OperatorFault: there is no such checkpoint.
    """
    file = checkpoint / "best.safetensors" if checkpoint.is_dir() else checkpoint
    try:
        with safe_open(file, framework="pt") as stored:
            about = json.loads(stored.metadata()["json"])
            encoder = Encoder(MaeConfig(**about["network"]))
            encoder.load_state_dict({name: stored.get_tensor(f"encoder.{name}") for name in encoder.state_dict()})
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise OperatorFault(f"{file} is not a checkpoint of `phosphene pretrain`: {error}") from error
    return encoder.eval(), about


def _state(network: MaskedAutoencoder, optimizer: Any) -> dict[str, Tensor]:
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for moment, value in optimizer.state[parameter].items():
            state[f"{moment}.{name}"] = value
    return state


def _load(file: Path, network: MaskedAutoencoder, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    with safe_open(file, framework="pt") as stored:
        about = json.loads(stored.metadata()["json"])
        network.load_state_dict({name: stored.get_tensor(f"network.{name}") for name in network.state_dict()})
        for name, parameter in network.named_parameters():
            moments = ("step", "exp_avg", "exp_avg_sq")
            optimizer.state[parameter] = {moment: stored.get_tensor(f"{moment}.{name}") for moment in moments}
    return int(about["step"]), float(about["best"])


def _save(file: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """One file, replaced in one move: a kill at any moment leaves the old or the new."""
    draft = file.with_suffix(".draft")
    own = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(own, draft, metadata={"json": json.dumps(about)})
    os.replace(draft, file)


def _identity(sessions: list[Session]) -> dict[str, Any]:
    """What the weights were trained on, for provenance and so that probes and bundles can refuse other arrays."""
    first = sessions[0].header
    return {
        "participant": first.participant,
        "array_sha256": first.array.sha256(),
        "chain": first.chain,
        "frozen": describe(sessions),
        "names": [session.header.name for session in sessions],
        "hours": sum(len(session.usable) for session in sessions) / 3_600_000,
    }


# Settings ------------------------------------------------------------------------------------------------------------


def _refuse_other_run(out: Path, text: str, resume: bool) -> None:
    if not (out / "last.safetensors").exists():
        return
    if not resume:
        raise OperatorFault(f"{out} holds a run already; continue it with --resume, or name another --out")
    if (out / "settings.toml").read_text() != text:
        raise OperatorFault(f"{out} holds a run with other settings or sessions; continue it as its settings.toml says")


def read_settings(file: Path) -> dict[str, Any]:
    """The tables of a settings file.

    Raises:
        OperatorFault: not TOML, or a table that is not one of ours.
    """
    try:
        chosen = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise OperatorFault(f"{file} is not a settings file: {error}") from error
    if unknown := chosen.keys() - set(TABLES):
        raise OperatorFault(f"{file}: found {', '.join(sorted(unknown))}, expected tables of {', '.join(TABLES)}")
    return chosen


def chosen_normaliser(chosen: dict[str, Any]) -> NormaliserSettings | None:
    """The normaliser that the settings ask for; None where they do not say.

    Raises:
        OperatorFault: an unknown kind or setting, or a number that is none.
    """
    if "normaliser" not in chosen:
        return None
    found = _override(NormaliserSettings(), chosen["normaliser"], "normaliser")
    if found.kind not in get_args(NormaliserKind):
        raise OperatorFault(f"[normaliser]: no kind {found.kind!r}; there are: {', '.join(get_args(NormaliserKind))}")
    for name in ("window_s", "min_history_s", "floor_uv"):
        value = getattr(found, name)
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise OperatorFault(f"[normaliser]: found {name} = {value!r}, expected a number above 0")
    return found


def _override(settings: Any, changes: dict[str, Any], table: str) -> Any:
    try:
        return replace(settings, **changes)
    except (TypeError, ValueError) as error:
        raise OperatorFault(f"[{table}]: {error}") from error


def _to_toml(network: MaeConfig, settings: PretrainSettings, normaliser: dict[str, Any]) -> str:
    """Numbers and plain strings only, so a JSON scalar is a TOML scalar. The default normaliser goes unsaid."""
    tables = {"network": asdict(network), "training": asdict(settings)}
    if normaliser != asdict(NormaliserSettings()):
        tables["normaliser"] = normaliser
    return "\n".join(
        f"[{table}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        for table, values in tables.items()
    )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  held out {task.fields[held_out]}"),
        TimeRemainingColumn(),
    )
