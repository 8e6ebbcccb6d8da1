"""What `phosphene bench loader` measures: drawing windows from memory-mapped sessions, and what else takes its turn."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from models.networks.masked_autoencoder import PRESETS, MaeConfig, build
from streaming.signal.settings import ChainSettings
from training.batches import Batch, Drawer
from training.data import Session, SessionHeader, open_sessions, write_session
from training.losses import correlation, reconstruction
from training.sampler import choose
from training.settings import SETTINGS

SESSIONS, BINS, CHANNELS = 10, 60_000, 96  # a minute each, 230 MB
STEP_WINDOWS = 4  # of a training step, which is long enough

Turn = tuple[int, Callable[[int], object]]  # windows of a call, and the call


@contextlib.contextmanager
def contestants() -> Iterator[dict[str, Turn]]:
    """Batches of `tiny` by `draw`; the same by PyTorch's DataLoader over arrays in memory; a training step."""
    network, settings = PRESETS["tiny"], SETTINGS["tiny"]
    with tempfile.TemporaryDirectory(prefix="phosphene-") as folder:
        sessions = open_sessions([_noise(Path(folder))], Path(folder) / "cache")
        drawer = Drawer(sessions, choose(sessions, network.bins, settings), network, settings, slice(None))
        plain = iter(DataLoader(_Plain(sessions, network), settings.batch, sampler=_Forever(len(sessions) * BINS // 2)))
        step = _step(drawer.draw(0).split(STEP_WINDOWS)[0], network)
        yield {
            "phosphene": (settings.batch, drawer.draw),
            "torch DataLoader": (settings.batch, lambda _: next(plain)),
            "tiny, a training step": (STEP_WINDOWS, lambda _: step()),
        }


def _noise(folder: Path) -> Path:
    labels = tuple(f"elec{k + 1}" for k in range(CHANNELS))
    for k in range(SESSIONS):
        date, chain = f"2031-01-{k + 1:02d}", ChainSettings().to_dict()
        header = SessionHeader(f"s{k:02d}", date, "nobody", labels, None, 30_000.0, chain)
        z = np.random.default_rng(k).standard_normal((BINS, CHANNELS), np.float32)
        write_session(folder, header, z, np.ones(z.shape, bool))
    return folder


class _Plain(Dataset):  # type: ignore[type-arg]
    """As one would write it: everything in memory, a window and its mask by index, PyTorch for the rest."""

    def __init__(self, sessions: list[Session], network: MaeConfig) -> None:
        self._loaded = [(torch.tensor(one.stored), torch.tensor(np.asarray(one.usable))) for one in sessions]
        self._network = network

    def __getitem__(self, n: int) -> Any:
        session, first = n % SESSIONS, n // SESSIONS
        z, usable = (part[first : first + self._network.bins] for part in self._loaded[session])
        order = torch.randperm(self._network.tokens)
        kept = order[: self._network.tokens // 4]
        masked = torch.ones(self._network.tokens, dtype=torch.bool)
        masked[kept] = False
        return z.T.contiguous(), usable.all(dim=0), kept, masked, session


class _Forever:
    def __init__(self, windows: int) -> None:
        self._windows = windows

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(0)
        while True:
            yield int(rng.integers(self._windows))


def _step(batch: Batch, config: MaeConfig) -> Callable[[], None]:
    """In float32: forward, both losses of a window, backward, AdamW."""
    network = build(config)
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        rebuilt = network(batch.window, batch.usable, batch.keep, batch.row, batch.whole)[0]
        loss = reconstruction(rebuilt, batch.window, batch.masked)
        loss = loss + 0.1 * correlation(rebuilt, batch.window, batch.usable, batch.masked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    return step
