"""A prediction: what the decoder said about one window, when, and how far it may be believed."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.chunk import SourceKind

Mode = Literal["continuous", "evoked"]
Flag = Literal[
    "gap",
    "backlog",
    "blanking",
    "late_marker",
    "settling",
    "channels",
    "not_finite",
    "not_calibrated",
    "overload",
    "drift",
]


class Latency(NamedTuple):
    """Where the time went, in milliseconds: signal chain, waiting, inference; `total` from the newest sample's clock
    time to the moment the prediction was handed over."""

    signal: float
    queue: float
    inference: float
    total: float


class Prediction(NamedTuple):  # a tuple is made in a fifth of a frozen dataclass' time, and a pulse waits for it
    """One prediction per due window. `probability` and `embedding` are None where they cannot be vouched for, and
    `flags` then says why. `sample_time` belongs to `last_sample`, the newest sample that the window rests on, counted
    from the first one of its `epoch`."""

    seq: int
    source: SourceKind
    sample_time: float
    last_sample: int
    epoch: int
    mode: Mode
    trial: int | None
    model: str
    probability: float | None
    embedding: NDArray[np.float32] | None
    usable_channels: int
    flags: tuple[Flag, ...]
    latency_ms: Latency
    full_history: bool = True  # the normaliser has seen its whole trailing window
