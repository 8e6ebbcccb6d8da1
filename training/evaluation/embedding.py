"""Windows to embeddings: what a frozen encoder says of each, its tokens pooled in one of four ways.

mean              of the visible tokens: the paper's
mean_and_spread   and their standard deviation
registers         the encoder's registers side by side
attention         a weighted mean for each of a few learned queries, see `attention`
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.masked_autoencoder import Encoder, pool
from training.evaluation.attention import AttentionPool
from training.evaluation.features import Windows

POOLINGS = ("mean", "mean_and_spread", "registers", "attention")
BATCH = 32


def embeddings(
    encoder: Encoder, windows: Windows, usable: NDArray[np.bool_], attention: AttentionPool | None = None
) -> dict[str, NDArray[np.float32]]:
    """(n, …) for each pooling, every usable channel visible, as live; without `attention` there is none of that."""
    found: dict[str, list[Any]] = {}
    for k in range(0, len(windows), BATCH):
        # windows are kept as float16 on disk
        batch = torch.from_numpy(np.asarray(windows[k : k + BATCH], np.float32))
        latents, registers, visible = tokens(encoder, batch, torch.from_numpy(usable[k : k + BATCH]))
        mean = pool(latents, visible)
        pooled = {
            "mean": mean,
            "mean_and_spread": torch.cat([mean, _spread(latents, visible, mean)], dim=1),
            "registers": registers.flatten(1),
        }
        if attention is not None:
            with torch.no_grad():
                pooled["attention"] = attention(latents, visible)
        for name, value in pooled.items():
            found.setdefault(name, []).append(value.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@torch.no_grad()
def tokens(encoder: Encoder, windows: Tensor, usable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (n, tokens, width), registers (n, registers, width), which tokens are visible (n, tokens)."""
    kept = []
    # the encoder returns its tokens only; the registers leave its last norm together with them
    hook = encoder.norm.register_forward_hook(lambda module, given, out: kept.append(out))
    try:
        latents, visible = encoder(windows, usable)
    finally:
        hook.remove()
    return latents, kept[0][:, : encoder.config.registers], visible


def _spread(latents: Tensor, visible: Tensor, mean: Tensor) -> Tensor:
    away = (latents - mean[:, None]).square() * visible[:, :, None]
    return (away.sum(dim=1) / visible.sum(dim=1, keepdim=True)).sqrt()
