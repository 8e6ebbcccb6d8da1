"""Checkpoints: one safetensors file each, replaced in one move.

`best.safetensors`: the weights alone, and in the header what they are of. `last.safetensors`: weights, the loss's own
scalars, the optimisers' moments and the step, all that `--resume` needs. A write that fails, on a full disk or by
a kill, leaves the file that stood there.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.errors import OperatorFault
from models.networks.masked_autoencoder import Encoder, MaeConfig

LAST, BEST = "last.safetensors", "best.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")  # of a parameter: three of AdamW, the last of Muon


def save(file: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Raises OperatorFault where it cannot be written."""
    draft = file.with_suffix(".draft")
    own = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(own, draft, metadata={"json": json.dumps(about)})
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, file)
    except (OSError, SafetensorError) as error:
        stands = "the one before stands" if file.exists() else "there is none before it"
        raise OperatorFault(
            f"{file} could not be written ({error}); {stands}. Make room and go on with --resume"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def training_state(parts: torch.nn.Module, optimizers: list[Any]) -> dict[str, Tensor]:
    """Everything in `parts`, and what an optimiser keeps of each parameter that it has ever moved."""
    state = dict(parts.state_dict())
    for name, parameter in parts.named_parameters():
        for optimizer in optimizers:
            kept = optimizer.state.get(parameter, {})
            state |= {f"{moment}.{name}": kept[moment] for moment in MOMENTS if moment in kept}
    return state


def load_training_state(
    file: Path, parts: torch.nn.Module, optimizers: list[Any], about: dict[str, Any]
) -> tuple[int, float]:
    """Back from `training_state`, into all. `about` is what this run would save with it.

    Returns:
        The step, and the best held-out loss so far.

    Raises:
        OperatorFault: not such a file, or of another network or other sessions.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            found = json.loads(stored.metadata()["json"])
            _refuse_another(file, found, about)
            names = set(stored.keys())
            parts.load_state_dict({name: stored.get_tensor(name) for name in parts.state_dict()})
            for optimizer in optimizers:
                optimizer.load_state_dict(_moments(stored, names, parts, optimizer))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise OperatorFault(f"{file} cannot be gone on from ({error}); start anew in another --out") from error
    return int(found["step"]), float(found["best"])


def _refuse_another(file: Path, found: dict[str, Any], about: dict[str, Any]) -> None:
    network, before = about["network"], asdict(MaeConfig(**found["network"]))
    if differ := [name for name in network if before[name] != network[name]]:
        was = ", ".join(f"{name} {before[name]}" for name in differ)
        now = ", ".join(f"{name} {network[name]}" for name in differ)
        raise OperatorFault(f"{file} is of another network: found {was}, expected {now}; name the preset that it is of")
    if found["sessions"]["names"] != about["sessions"]["names"]:
        raise OperatorFault(f"{file} is of other sessions; go on with {', '.join(found['sessions']['names'])}")


def _moments(stored: Any, names: set[str], parts: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    """The optimiser's own state dict; loading that puts each tensor on the device where it belongs."""
    state, name_of = optimizer.state_dict(), {id(p): name for name, p in parts.named_parameters()}
    for group, numbered in zip(optimizer.param_groups, state["param_groups"], strict=True):
        for parameter, number in zip(group["params"], numbered["params"], strict=True):
            name = name_of[id(parameter)]
            kept = [moment for moment in MOMENTS if f"{moment}.{name}" in names]
            if kept:
                state["state"][number] = {moment: stored.get_tensor(f"{moment}.{name}") for moment in kept}
    return state


def load_encoder(checkpoint: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder of `best.safetensors` (or of the run's folder that holds it), and what it was trained on.

    Raises:
        OperatorFault: there is no such checkpoint.
    """
    file = checkpoint / BEST if checkpoint.is_dir() else checkpoint
    try:
        with safe_open(file, framework="pt") as stored:
            about = json.loads(stored.metadata()["json"])
            encoder = Encoder(MaeConfig(**about["network"]))
            encoder.load_state_dict({name: stored.get_tensor(f"encoder.{name}") for name in encoder.state_dict()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise OperatorFault(f"{file} is not a checkpoint of `phosphene pretrain` or `distill`: {error}") from error
    return encoder.eval(), about
