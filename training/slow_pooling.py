"""How the tokens of a frozen encoder are pooled and which directions of that are slow, learned from rest alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.flops import flops
from models.networks.masked_autoencoder import Encoder, MaeConfig
from models.networks.slow_pooling import Places, Slow, by_place, features
from training.data import Session
from training.evaluation.slow import KEPT, SlowMap
from training.resting import Pairs, pairs, quiet

DIRECTIONS = 8  # of a token, kept at each place
POWERS = 24  # components, whose power is taken
LEARNED_FROM = 30_000_000  # numbers of latents, which half precision holds in 60 MB
READ_FLOP, READ_WINDOWS = 3e13, (5_000, 60_000)  # of rest, by the encoder
BATCH = 32
SHRINKS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean variance
FOLDS = 3
TINY = 1e-12


def resting(sessions: list[Session], ends: dict[int, int], config: MaeConfig) -> Pairs:
    """Windows before `ends` (session -> bin) that no stimulation touches, as many as are worth their time: a small
    network reads them all in minutes, one of the paper's size a few thousand of them.

    Raises:
        OperatorFault: less than half a minute of them.
    """
    n = int(np.clip(READ_FLOP / flops(config), *READ_WINDOWS))
    return pairs(sessions, quiet(sessions, ends, config.bins), config.bins, n)


def learn(encoder: Encoder, pairs: Pairs, kept: int = KEPT) -> Slow:
    rows = learned_from(len(pairs.windows), encoder.config)
    latents, visible = zip(*_tokens(encoder, pairs.windows[rows], pairs.usable[rows]), strict=True)
    places = learn_places(torch.cat(latents), torch.cat(visible), encoder.config.channels)
    slow = steady(_features(encoder, places, pairs), pairs, kept)
    return Slow(places, slow.centre.astype(np.float32), slow.directions.astype(np.float32))


def steady(features: NDArray[np.floating[Any]], pairs: Pairs, kept: int = KEPT) -> SlowMap:
    """Slow directions of `features` (n, …) of the pairs' windows, shrunk as far as they hold best where they were not
    learned from: in every third session, or third of time where there are fewer sessions. A few thousand noisy pairs
    ask for a thousand times more than clean ones: without it, directions are slow in the pairs that they come from and
    in no others."""
    first, second, session = features[pairs.first], features[pairs.second], pairs.session[pairs.first]
    sessions = np.unique(session)
    order = np.arange(len(session)) * FOLDS // len(session)
    group = np.searchsorted(sessions, session) if len(sessions) >= FOLDS else order
    lasting = np.zeros(len(SHRINKS))
    for fold in range(FOLDS):
        test = group % FOLDS == fold
        for k, slow in enumerate(SlowMap.each(first[~test], second[~test], session[~test], 1, SHRINKS)):
            lasting[k] += _lasts(slow, first[test], second[test], session[test])
    return SlowMap.each(first, second, session, kept, [SHRINKS[int(np.argmax(lasting))]])[0]


def _lasts(
    slow: SlowMap, first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]], session: NDArray[np.int64]
) -> float:
    """Correlation of the first direction with itself a moment later, within sessions."""
    now, later = slow(first)[:, 0], slow(second)[:, 0]
    for one in np.unique(session):
        rows = session == one
        usual = (now[rows].mean() + later[rows].mean()) / 2
        now[rows] -= usual
        later[rows] -= usual
    return float((now * later).sum() / ((now**2).sum() + (later**2).sum() + TINY) * 2)


def learned_from(n: int, config: MaeConfig) -> NDArray[np.int64]:
    """Which of n windows, evenly, so that their tokens fit into memory."""
    most = max(64, LEARNED_FROM // (config.tokens * config.latent_width))
    return np.linspace(0, n - 1, min(most, n)).astype(int)


def learn_places(latents: Tensor, visible: Tensor, channels: int) -> Places:
    """From tokens (n, tokens, width), half precision will do, and which of them are visible (n, tokens)."""
    latents = latents.float()
    usual = latents.mean(dim=0)
    away = ((latents - usual) * visible[:, :, None]).flatten(0, 1)
    directions = _leading(away, DIRECTIONS)
    places = by_place(latents, visible, usual, directions, channels)
    centre = places.mean(dim=0)
    components = _leading(places - centre, POWERS)
    components = components / ((places - centre) @ components).std(dim=0)
    return Places(*(value.numpy() for value in (usual, directions, centre, components)))


def _leading(values: Tensor, n: int) -> Tensor:
    """The n directions, (columns, n), in which rows vary most, the first one first."""
    return torch.linalg.eigh(values.T @ values)[1][:, -n:].flip(1)


@torch.no_grad()
def _tokens(encoder: Encoder, windows: NDArray[np.float16], usable: NDArray[np.bool_]) -> list[tuple[Tensor, Tensor]]:
    found = []
    for k in range(0, len(windows), BATCH):
        rows = slice(k, k + BATCH)
        latents, visible = encoder(torch.from_numpy(windows[rows].astype(np.float32)), torch.from_numpy(usable[rows]))
        found.append((latents.half(), visible))
    return found


@torch.no_grad()
def _features(encoder: Encoder, places: Places, pairs: Pairs) -> NDArray[np.float32]:
    fields, found = [torch.from_numpy(value) for value in vars(places).values()], []
    for k in range(0, len(pairs.windows), BATCH):
        some = torch.from_numpy(pairs.windows[k : k + BATCH].astype(np.float32))
        found.append(features(*encoder(some, torch.from_numpy(pairs.usable[k : k + BATCH])), *fields).numpy())
    return np.concatenate(found)
