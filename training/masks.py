"""Which tokens the encoder is shown: three ways to hide the rest, and electrodes that are not there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MASKINGS = ("random", "tubes", "blocks")


def order(masking: str, shape: tuple[int, int, int], ratio: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A number in [0, 1) for each token, (windows, channels, patches): those with the lowest are shown.

    "random": any tokens (the paper). "tubes": whole electrodes, so that what is hidden must come from other electrodes.
    "blocks": one stretch of time is hidden on all electrodes, so that it must come from other times.
    """
    windows, channels, patches = shape
    if masking == "tubes":
        return np.broadcast_to(rng.random((windows, channels, 1)), shape)
    noise = rng.random((windows, channels * patches)).reshape(shape)
    if masking == "blocks":
        hidden = round(ratio * patches)
        first = rng.integers(patches - hidden + 1, size=(windows, 1, 1))
        patch = np.arange(patches)
        noise = (noise + ((patch >= first) & (patch < first + hidden))) / 2
    return noise


def shown(
    order: NDArray[np.float64], kept: int, usable: NDArray[np.bool_], hidden: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Indices (windows, kept) of the tokens to show; those of channels `hidden` and then unusable ones come last.

    Args:
        order: of the function above, (windows, channels, patches).
        usable, hidden: (windows, channels).
    """
    last = order + 2.0 * ~usable[:, :, None]
    if hidden is not None:
        last = last + hidden[:, :, None]
    return np.argsort(last.reshape(len(last), -1), axis=1, kind="stable")[:, :kept]
