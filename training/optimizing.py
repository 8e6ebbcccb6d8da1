"""How a step changes the weights, whatever is learnt: which optimiser moves what, the rate, clipping, refusals."""

from __future__ import annotations

import math
from typing import Any

import torch

from models.errors import OperatorFault

MOMENTUM = 0.95  # of Muon


def begin_step(optimizers: list[Any], rate: float) -> None:
    """At this learning rate, with gradients of nothing yet."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()


def clipped(fabric: Any, model: Any, optimizers: list[Any], most: float) -> float:
    """The norm of all the model's gradients, which are scaled down to `most` where it is larger."""
    return float(fabric.clip_gradients(model, optimizers[0], max_norm=most, error_if_nonfinite=False))


def refuse_not_finite(step: int, rate: float, name: str, loss: float, norm: float) -> None:
    """Raises OperatorFault; asked before anything is changed."""
    if not math.isfinite(norm + loss):
        raise OperatorFault(
            f"step {step + 1}: found {name} {loss:g} and gradient {norm:g}, expected finite ones; lower the rate "
            f"(now {rate:g}) or choose precision 32-true in the settings, and go on with --resume"
        )


def learning_rate(step: int, settings: Any) -> float:
    if step < settings.warmup_steps:
        return settings.rate * (step + 1) / settings.warmup_steps
    along = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.final_rate + (settings.rate - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * along))


def optimizers(parts: torch.nn.Module, settings: Any, device: torch.device) -> list[torch.optim.Optimizer]:
    """AdamW alone, or Muon for the matrices of the blocks and AdamW for what is left. Muon's steps are scaled to the
    size of AdamW's, so that one rate and one weight decay serve both (Liu et al. 2025, arXiv 2502.16982); the rate is
    set before each step."""
    muon: list[torch.optim.Optimizer] = []
    left = list(parts.parameters())
    if settings.optimizer == "muon":
        linear = [(name, m) for name, m in parts.named_modules() if isinstance(m, torch.nn.Linear)]
        inside = [m.weight for name, m in linear if ".blocks." in name]
        left = [p for p in left if not any(p is one for one in inside)]
        decay, scale = settings.weight_decay, "match_rms_adamw"
        muon = [torch.optim.Muon(inside, lr=0.0, weight_decay=decay, momentum=MOMENTUM, adjust_lr_fn=scale)]
    betas, fused = (settings.beta1, settings.beta2), device.type == "cuda"
    return [*muon, torch.optim.AdamW(groups(parts, left, settings.weight_decay), lr=0.0, betas=betas, fused=fused)]


def groups(parts: torch.nn.Module, parameters: list[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on the matrices of linear layers only."""
    matrices = {id(m.weight) for m in parts.modules() if isinstance(m, torch.nn.Linear)}
    decayed = [p for p in parameters if id(p) in matrices]
    others = [p for p in parameters if id(p) not in matrices]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
