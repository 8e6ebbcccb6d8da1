"""A trained encoder that looks at some of its electrodes only: less work for a window, and less of the array seen.

The electrodes are spread over the array, so that what is left out lies near one that is kept: neighbours say much the
same. `training/operating_points.py` measures what is gained and what is given away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.masked_autoencoder import Encoder


def spread(positions: NDArray[np.float64], n: int) -> list[int]:
    """`n` of the places (channels, 2), each as far as can be from those before it, ascending; the first is nearest to
    the middle.

    Raises:
        ValueError: more than there are, or none.
    """
    if not 1 <= n <= len(positions):
        raise ValueError(f"found {n} electrodes, expected 1 to {len(positions)}")
    chosen = [int(np.argmin(np.square(positions - positions.mean(axis=0)).sum(axis=1)))]
    nearest = np.full(len(positions), np.inf)
    while len(chosen) < n:
        nearest = np.minimum(nearest, np.square(positions - positions[chosen[-1]]).sum(axis=1))
        chosen.append(int(np.argmax(nearest)))
    return sorted(chosen)


class FewerElectrodes(nn.Module):
    """Takes a window of all electrodes, as the encoder does, and gives the tokens of `electrodes` (0-based)."""

    def __init__(self, encoder: Encoder, electrodes: Sequence[int]) -> None:
        super().__init__()
        self.reads = encoder.reads
        self.config = replace(encoder.config, channels=len(electrodes))
        self.encoder = Encoder(self.config)
        weights = encoder.state_dict()
        weights["positions.space"] = weights["positions.space"][list(electrodes)]
        self.encoder.load_state_dict(weights)
        self.register_buffer("electrodes", torch.tensor(list(electrodes)))

    def forward(self, window: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (batch, tokens, width) of the electrodes that it looks at, and which of them are usable."""
        return self.encoder(*self.looked_at(window, usable))

    def looked_at(self, window: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen of them."""
        return window[:, self.electrodes], usable[:, self.electrodes]


Reader = Encoder | FewerElectrodes  # of windows of all electrodes
