"""From a frozen encoder's tokens to the embedding that is served: a few slow directions, then the mean of the tokens.

A mean over tokens forgets what is quadratic (the size of a wave) and what is weighted by place, and it spreads what is
left over a hundred dimensions, each of which costs answers. So more is kept of a window at first: mean and spread of
the tokens, how each place on the array departs from its usual, and the power of a few components of that. Of all
this only the directions are kept that are still the same a moment later. The same is done to simple statistics of the
window itself (window_statistics.py), which no network has seen. All is learned from resting activity, without answers
(training/slow_pooling.py); docs/decisions/slow-directions.md has the measurements.

The probes read the slow directions alone. The mean, which is the paper's embedding, follows them for whoever wants it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.fewer_electrodes import FewerElectrodes
from models.networks.masked_autoencoder import Encoder, pool
from models.networks.window_statistics import statistics

Array = NDArray[np.float32]
PLAIN = 3  # directions of a place that are read as they are
LEAST_SEEN = 0.1  # of what channels share: with less what is lost is not made up for
FURTHEST = 8.0  # standard deviations of rest: what an artifact does to covariances is not that much more of a state


def mean_and_spread(latents: Tensor, visible: Tensor) -> Tensor:
    """Of the visible among tokens (n, tokens, width): (n, 2 · width). NaN where nothing is visible."""
    mean = pool(latents, visible)
    away = (latents - mean[:, None]).square() * visible[:, :, None]
    return torch.cat([mean, (away.sum(dim=1) / visible.sum(dim=1, keepdim=True)).sqrt()], dim=1)


def by_place(latents: Tensor, visible: Tensor, usual: Tensor, directions: Tensor, channels: int) -> Tensor:
    """Each channel's tokens less their usual, averaged over the window, in a few directions: (n, channels · few). A
    channel that is not there counts as one at its usual."""
    away = (latents - usual) * visible[:, :, None]
    return (away.unflatten(1, (channels, -1)).mean(dim=2) @ directions).flatten(1)


def plain_and_power(places: Tensor, centre: Tensor, components: Tensor, channels: int) -> Tensor:
    """The leading directions of each place as they are, and ln (1 + square) of the components of all: (n, some). The
    logarithm keeps one outlier from being all that a window says."""
    plain = places.unflatten(1, (channels, -1))[:, :, :PLAIN].flatten(1)
    power = ((places - centre) @ components).square()
    return torch.cat([plain, torch.log(1 + power)], dim=1)


@dataclass(frozen=True, eq=False)
class Places:
    """`usual` the mean tokens (tokens, width); `directions` (width, few) of a token about them; `centre` (places,) and
    `components` (places, some) of all places, channels · few of them."""

    usual: Array
    directions: Array
    centre: Array
    components: Array


def features(
    latents: Tensor, visible: Tensor, usual: Tensor, directions: Tensor, centre: Tensor, components: Tensor
) -> Tensor:
    """Of the tokens, by the fields of `Places`: (n, features)."""
    channels = len(centre) // directions.shape[1]
    places = by_place(latents, visible, usual, directions, channels)
    whole = mean_and_spread(latents, visible)
    return torch.cat([whole, plain_and_power(places, centre, components, channels)], dim=1)


@dataclass(frozen=True, eq=False)
class Slow:
    """(features - centre) @ directions, of the tokens' features and of the window's statistics, each by itself.
    `patterns` (channels, components) are what the statistics look along; `window_loading` (kinds · channels,) is each
    channel's share in what all have in common, for each kind of statistic. A centre is (features,), directions
    (features, kept), the slowest first, each of variance 1 over resting windows, within sessions."""

    places: Places
    centre: Array
    directions: Array
    patterns: Array
    window_loading: Array
    window_centre: Array
    window_directions: Array

    @property
    def read(self) -> int:
        """How many numbers they are together."""
        return self.directions.shape[1] + self.window_directions.shape[1]

    def arrays(self) -> dict[str, Array]:
        return vars(self.places) | {
            "slow_centre": self.centre,
            "slow_directions": self.directions,
            "patterns": self.patterns,
            "window_loading": self.window_loading,
            "window_centre": self.window_centre,
            "window_directions": self.window_directions,
        }

    @classmethod
    def of(cls, arrays: dict[str, Array]) -> Slow:
        """Back from `arrays`.

        Raises:
            KeyError: one is missing.
        """
        places = Places(**{name: arrays[name] for name in Places.__dataclass_fields__})
        names = (
            *("slow_centre", "slow_directions"),
            *("patterns", "window_loading", "window_centre", "window_directions"),
        )
        return cls(places, *(arrays[name] for name in names))


class SlowPooling(nn.Module):
    """Tokens and their window to slow directions, (n, read): of the tokens, then of the window's statistics."""

    def __init__(self, slow: Slow) -> None:
        super().__init__()
        for name, value in slow.arrays().items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def forward(self, latents: Tensor, visible: Tensor, window: Tensor, usable: Tensor) -> Tensor:
        tokens = features(latents, visible, self.usual, self.directions, self.centre, self.components)
        of_tokens = ((tokens - self.slow_centre) @ self.slow_directions).clamp(-FURTHEST, FURTHEST)
        of_window = slow_statistics(
            window, usable, self.patterns, self.window_loading, self.window_centre, self.window_directions
        )
        return torch.cat([of_tokens, of_window], dim=1)


def slow_statistics(
    window: Tensor, usable: Tensor, patterns: Tensor, loading: Tensor, centre: Tensor, directions: Tensor
) -> Tensor:
    """Slow directions of the window's statistics, (n, kept). Those of a lost channel are as far from their centre as
    the others' say by what they share at rest (`loading`: a direction that weighs channels against each other would
    see them disagree otherwise). Where no channel is usable all are NaN."""
    found, known = statistics(window, usable, patterns)
    away = torch.where(known, found - centre, 0.0)
    n = len(loading)
    by_channel, there = (some[:, :n].unflatten(1, (-1, usable.shape[1])) for some in (away, known))
    shared = loading.unflatten(0, by_channel.shape[1:])
    seen = (shared.square() * there).sum(dim=2).clamp(min=LEAST_SEEN)
    common = (by_channel * shared).sum(dim=2) / seen
    by_channel = torch.where(there, by_channel, common[:, :, None] * shared)
    along = torch.cat([by_channel.flatten(1), away[:, n:]], dim=1) @ directions
    return torch.where(usable.any(dim=1, keepdim=True), along, torch.nan).clamp(-FURTHEST, FURTHEST)


class Embedder(nn.Module):
    """Windows and usable channels to embeddings. `read`: so many of their first numbers are for the probes."""

    def __init__(self, encoder: Encoder | FewerElectrodes, slow: Slow | None = None) -> None:
        super().__init__()
        self.encoder, self.slow = encoder, slow
        self.pooling = None if slow is None else SlowPooling(slow)
        self.read = encoder.config.latent_width if slow is None else slow.read
        self.size = encoder.config.latent_width + (0 if slow is None else self.read)

    def forward(self, window: Tensor, usable: Tensor) -> Tensor:
        """(n, size), from a window (n, channels, bins) as the encoder takes it. NaN where no channel is usable."""
        latents, visible = self.encoder(window, usable)
        mean = pool(latents, visible)
        if self.pooling is None:
            return mean
        return torch.cat([self.pooling(latents, visible, *self.encoder.looked_at(window, usable)), mean], dim=1)
