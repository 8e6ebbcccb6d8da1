"""What of a frozen encoder's tokens, and of the window itself, is slow: learned from rest alone, without answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.fewer_electrodes import Reader
from models.networks.flops import flops
from models.networks.masked_autoencoder import MaeConfig
from models.networks.slow_pooling import Array, Places, Slow, by_place, features, slow_statistics
from models.networks.window_statistics import COMPONENTS, STEP_BINS, averaged, scales_of, statistics
from training.data import Session
from training.evaluation.slow import KEPT, SlowMap
from training.resting import Pairs, pairs, quiet

DIRECTIONS = 8  # of a token, kept at each place
POWERS = 24  # components, whose power is taken
LEARNED_FROM = 30_000_000  # numbers of latents, which half precision holds in 60 MB
READ_FLOP, READ_CHANNELS, READ_WINDOWS = 6e13, 60_000 * 96, (5_000, 60_000)  # of rest; a window's, summed over them
PATTERNS_FROM = 3000  # windows of rest
BATCH = 32
SHRINKS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean variance
FOLDS = 3
TINY = 1e-12
LookedAt = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # what of windows and usable channels


def worth_reading(config: MaeConfig) -> int:
    """How many windows of rest: a small network reads 60 000 of 96 channels in minutes, one of the paper's size a few
    thousand; features of many channels fill the memory."""
    n = min(READ_FLOP / flops(config), READ_CHANNELS / config.channels)
    return int(np.clip(n, *READ_WINDOWS))


def resting(sessions: list[Session], ends: dict[int, int], config: MaeConfig) -> Pairs:
    """Windows before `ends` (session -> bin) that no stimulation touches, as many as are worth reading.

    Raises:
        OperatorFault: less than half a minute of them.
    """
    return pairs(sessions, quiet(sessions, ends, config.bins), config.bins, worth_reading(config))


def learn(encoder: Reader, pairs: Pairs, kept: int = KEPT) -> Slow:
    rows = learned_from(len(pairs.windows), encoder.config)
    latents, visible = zip(*_tokens(encoder, pairs.windows[rows], pairs.usable[rows]), strict=True)
    places = learn_places(torch.cat(latents), torch.cat(visible), encoder.config.channels)
    tokens = steady(_features(encoder, places, pairs), pairs, kept)
    patterns, loading, window = learn_window(pairs, kept, encoder.looked_at)
    learned = (tokens.centre, tokens.directions, patterns, loading, window.centre, window.directions)
    return Slow(places, *(one.astype(np.float32) for one in learned))


def learn_window(
    pairs: Pairs, kept: int = KEPT, looked_at: LookedAt = lambda *whole: whole
) -> tuple[Array, Array, SlowMap]:
    """Patterns (channels, components) of rest; what the channels' statistics have in common, (kinds · channels,); and
    slow directions of all statistics."""
    rows = np.linspace(0, len(pairs.windows) - 1, min(PATTERNS_FROM, len(pairs.windows))).astype(int)
    some, _ = looked_at(torch.from_numpy(pairs.windows[rows].astype(np.float32)), torch.from_numpy(pairs.usable[rows]))
    patterns = leading_patterns(some)
    found, known = [], []
    for k in range(0, len(pairs.windows), BATCH):
        window = torch.from_numpy(pairs.windows[k : k + BATCH].astype(np.float32))
        seen = looked_at(window, torch.from_numpy(pairs.usable[k : k + BATCH]))
        for column, value in zip((found, known), statistics(*seen, torch.from_numpy(patterns)), strict=True):
            column.append(value.numpy())
    values, there = np.concatenate(found), np.concatenate(known)
    usual = values.sum(axis=0, where=there, dtype=np.float64) / np.maximum(there.sum(axis=0), 1)
    values = np.where(there, values, usual.astype(np.float32))
    kinds = 1 + len(scales_of(some.shape[2]))  # means, and ln variances
    return patterns, _in_common(values, len(patterns), kinds), steady(values, pairs, kept)


def _in_common(values: Array, channels: int, kinds: int) -> Array:
    """For each kind of statistic the direction over channels in which it varies most, of length 1."""
    found = []
    for kind in range(kinds):
        some = values[:, kind * channels : (kind + 1) * channels].astype(np.float64)
        found.append(np.linalg.eigh(np.atleast_2d(np.cov(some, rowvar=False)))[1][:, -1])
    return np.concatenate(found).astype(np.float32)


@torch.no_grad()
def see_window(
    windows: NDArray[np.floating[Any]], usable: NDArray[np.bool_], patterns: Array, loading: Array, slow: SlowMap
) -> NDArray[np.float64]:
    """What is served of the statistics of windows (n, channels, bins), (n, kept)."""
    learned = [np.asarray(one, np.float32) for one in (patterns, loading, slow.centre, slow.directions)]
    learned = [torch.from_numpy(one) for one in learned]
    found = []
    for k in range(0, len(windows), BATCH):
        some = torch.from_numpy(np.asarray(windows[k : k + BATCH], np.float32))
        found.append(slow_statistics(some, torch.from_numpy(usable[k : k + BATCH]), *learned).numpy())
    return np.concatenate(found).astype(np.float64)


def leading_patterns(rest: Tensor, components: int = COMPONENTS) -> Array:
    """The patterns over channels, (channels, components), in which windows of rest vary most, averaged over 8 ms; none
    where windows are too short to move along them."""
    if rest.shape[2] < 2 * STEP_BINS:
        return np.zeros((rest.shape[1], 0), np.float32)
    flat = averaged(rest, STEP_BINS).transpose(1, 2).flatten(0, 1).double().numpy()
    _, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
    return np.ascontiguousarray(vectors[:, ::-1][:, :components], np.float32)


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
    slow = SlowMap.each(first, second, session, kept, [SHRINKS[int(np.argmax(lasting))]])[0]
    along = slow(first)
    for one in sessions:
        along[session == one] -= along[session == one].mean(axis=0)
    size = along.std(axis=0)
    return SlowMap(slow.centre, slow.directions / np.where(size > TINY, size, 1.0))


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
def _tokens(encoder: Reader, windows: NDArray[np.float16], usable: NDArray[np.bool_]) -> list[tuple[Tensor, Tensor]]:
    found = []
    for k in range(0, len(windows), BATCH):
        rows = slice(k, k + BATCH)
        latents, visible = encoder(torch.from_numpy(windows[rows].astype(np.float32)), torch.from_numpy(usable[rows]))
        found.append((latents.half(), visible))
    return found


@torch.no_grad()
def _features(encoder: Reader, places: Places, pairs: Pairs) -> NDArray[np.float32]:
    fields, found = [torch.from_numpy(value) for value in vars(places).values()], []
    for k in range(0, len(pairs.windows), BATCH):
        some = torch.from_numpy(pairs.windows[k : k + BATCH].astype(np.float32))
        found.append(features(*encoder(some, torch.from_numpy(pairs.usable[k : k + BATCH])), *fields).numpy())
    return np.concatenate(found)
