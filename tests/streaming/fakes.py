"""A source that gives what it was told to, and a decoder whose answer can be computed by hand."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from models.decoder import Decoded
from models.errors import RigFault
from streaming.chunk import ArrayMap, Chunk, EndOfRecording, SourceCounters, StreamInfo
from streaming.events import Marker
from streaming.signal.settings import ChainSettings, NormaliserSettings

RATE = 30000
QUICK = ChainSettings(normaliser=NormaliserSettings(window_s=1.0, min_history_s=0.2))


def stream(channels: int = 4, **changes: Any) -> StreamInfo:
    labels = tuple(f"elec{i + 1}" for i in range(channels))
    facts: dict[str, Any] = {"kind": "live", "name": "fake", "participant": "P1", "rate_hz": float(RATE)} | changes
    return StreamInfo(array=ArrayMap(labels), **facts)


def manifest(channels: int = 4, chain: ChainSettings = QUICK, **changes: Any) -> Any:
    array = stream(channels).array
    facts = {
        "full_name": "fake@1",
        "participant": "P1",
        "manifest_sha256": "5ea1",
        "array": SimpleNamespace(name="A1", labels=array.labels, sha256=array.sha256(), masked=()),
        "input": SimpleNamespace(channels=channels, bins=128, bin_rate_hz=1000, rate_hz=float(RATE)),
        "chain": chain.to_dict(),
        "chain_sha256": "0" * 64,
        "frozen": None,
        "drift": None,
        "min_usable_channels": channels - 1,
        "probes": {},
    }
    return SimpleNamespace(**(facts | changes))


@dataclass
class MeanDecoder:
    """Embedding: mean z of each channel; probability: sigmoid of `slope` times their mean. `bad`: a broken network."""

    manifest: Any = field(default_factory=manifest)
    name: str = "fake@1"
    provider: str = "cpu"
    precision: str = "float32"
    bad: bool = False
    slope: float = 1.0
    n_bins: int = 128
    calls: int = 0

    @property
    def n_channels(self) -> int:
        return int(self.manifest.input.channels)

    def step(self, window: Any, usable: Any) -> Decoded:
        self.calls += 1
        embedding = window.mean(axis=1)
        if self.bad:
            embedding = embedding * np.nan
        value = float(1 / (1 + np.exp(-self.slope * embedding.mean())))
        return Decoded(embedding, value, value)


class ListSource:
    """Hands out a list of chunks, markers (with the sample at which they arrive) and faults, in order."""

    def __init__(self, items: list[Chunk | tuple[int, Marker] | Exception], info: StreamInfo) -> None:
        self.items = list(items)
        self.info = info
        self.counters = SourceCounters()
        self.closed = 0
        self._markers: list[tuple[int, Marker]] = []

    def wait(self, stop: threading.Event) -> bool:
        return not stop.is_set()

    def read(self, timeout_s: float) -> Chunk | None:
        while self.items:
            item = self.items.pop(0)
            if isinstance(item, tuple):
                self._markers.append(item)
            elif isinstance(item, Exception):
                raise item
            else:
                self.counters.samples += len(item.samples_uv)
                return item
        raise EndOfRecording

    def markers(self) -> list[tuple[int, Marker]]:
        taken, self._markers = self._markers, []
        return taken

    def close(self) -> None:
        self.closed += 1


def chunks(
    x: np.ndarray, cuts: list[int], first: int = 0, epoch: int = 0, offset: int = 0, **facts: Any
) -> list[Chunk]:
    """x cut into chunks; `offset` is the sample index of x's first row."""
    edges = [first, *sorted({c for c in cuts if first < c < len(x)}), len(x)]
    return [
        Chunk(x[a:b], offset + a, (offset + b - 1) / RATE, (offset + b - 1) / RATE, epoch, **facts)
        for a, b in itertools.pairwise(edges)
        if b > a
    ]


LOST = RigFault("the stream is gone")
