"""A decoder: a running bundle behind `step`. The seam between streaming and whatever runs the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Decoded:
    """`embedding` float32 (D,), a copy the caller may keep; probabilities in [0, 1], or None where the bundle has no
    such probe. A value that is not finite is passed on as it is: the caller judges."""

    embedding: NDArray[np.float32]
    prestimulus: float | None
    evoked: float | None


class Decoder(Protocol):
    """Runs one window. `name` is name@version of the bundle; `provider` what really runs it."""

    @property
    def name(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def manifest(self) -> Manifest: ...

    @property
    def n_channels(self) -> int: ...

    @property
    def n_bins(self) -> int: ...

    def step(self, window: NDArray[np.float32], usable: NDArray[np.bool_]) -> Decoded:
        """`window` (channels, bins) of normalised MUA, `usable` (channels,); unusable channels are dropped tokens."""

    def warm_up(self) -> bool:
        """For the thread that decodes live, where `provider` is a GPU's; whether it is done."""
