"""Windows to embeddings: the tokens of a frozen encoder pooled in one of five ways, all without labels.

    mean              of the visible tokens: the paper's
    mean_and_spread   and their standard deviation
    registers         the encoder's registers side by side
    attention         a weighted mean for each of a few learned queries, see `attention`
    place             mean and spread, how each place on the array departs from its usual, and the power of the
                      leading components of that: what is quadratic, or weighted by place, a mean forgets

Each can be read as it is, or by its slow directions (`slow`); those of the last are half of what is served
(`models.networks.slow_pooling`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.masked_autoencoder import Encoder
from models.networks.slow_pooling import by_place, mean_and_spread, plain_and_power
from training.evaluation import attention
from training.evaluation.features import Windows
from training.evaluation.rest import Rest
from training.slow_pooling import learn_places, learned_from

POOLINGS = ("mean", "mean_and_spread", "registers", "attention", "place")
BATCH = 32
Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pooling:
    """What is learned from resting windows: `queries` (queries, width); `usual` the mean tokens (tokens, width);
    `directions` (width, 8) of a token about them; `centre` (channels · 8,) and `components` (channels · 8, 24) of the
    places."""

    queries: Array
    usual: Array
    directions: Array
    centre: Array
    components: Array

    def __call__(self, latents: Tensor, registers: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """(n, …) by name."""
        queries, usual, directions, centre, components = (torch.from_numpy(value) for value in vars(self).values())
        both = mean_and_spread(latents, visible)
        channels = len(centre) // directions.shape[1]
        places = by_place(latents, visible, usual, directions, channels)
        return {
            "mean": both[:, : latents.shape[2]],
            "mean_and_spread": both,
            "registers": registers.flatten(1),
            "attention": attention.attend(latents, visible, queries),
            "place": torch.cat([both, plain_and_power(places, centre, components, channels)], dim=1),
        }


def learned(encoder: Encoder, rest: Rest) -> Pooling:
    config = encoder.config
    chosen = learned_from(len(rest.first), config)
    rows, behind = rest.first[chosen], rest.second[chosen]
    usable = rest.usable[rows] & rest.usable[behind]
    visible = torch.from_numpy(usable).repeat_interleave(config.patches, dim=1)
    first, second = (_latents(encoder, rest.windows[each], usable) for each in (rows, behind))
    queries = attention.learn(first, second, visible, torch.from_numpy(rest.session[rows]))
    return Pooling(queries.numpy(), **vars(learn_places(first, visible, config.channels)))


@torch.no_grad()
def tokens(
    encoder: Encoder, windows: Windows, usable: NDArray[np.bool_], exact: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (n, tokens, width), registers (n, registers, width), which tokens are visible (n, tokens).

    Not `exact` is in bfloat16, in which encoders are trained: enough to learn from (poolings of tokens correlate with
    those in float32 by 0.9999), in half the time.
    """
    registers = encoder.config.registers
    with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        x, visible = encoder.read(torch.from_numpy(np.asarray(windows, np.float32)), torch.from_numpy(usable))
        latents = encoder.project(x[:, registers:])
    return latents.float(), x[:, :registers].float(), visible


def _latents(encoder: Encoder, windows: Windows, usable: NDArray[np.bool_]) -> Tensor:
    batches = (slice(k, k + BATCH) for k in range(0, len(windows), BATCH))
    return torch.cat([tokens(encoder, windows[rows], usable[rows], exact=False)[0].half() for rows in batches])


def embeddings(
    encoder: Encoder, pooling: Pooling, windows: Windows, usable: NDArray[np.bool_], exact: bool = True
) -> dict[str, Array]:
    """By name of the pooling, (n, …) each; every usable channel visible, as live."""
    found: dict[str, list[Any]] = {}
    for k in range(0, len(windows), BATCH):
        with torch.no_grad():
            pooled = pooling(*tokens(encoder, windows[k : k + BATCH], usable[k : k + BATCH], exact))
        for name, value in pooled.items():
            found.setdefault(name, []).append(value.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}
