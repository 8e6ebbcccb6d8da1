"""What a step of pretraining sees: windows, masks, forgotten sessions, all drawn from (seed, step).

Each is drawn from its own generator, row by row, so that row i is the same in a batch of any size and in every
process, which reads only the rows that are its own; nothing else in training is random, so a step number is all the
state that drawing has.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import RigFault
from models.networks.masked_autoencoder import MaeConfig
from training.data import Session
from training.masks import order, shown
from training.sampler import Choice, Starts, evenly, sample
from training.sampler import split as split
from training.settings import PretrainSettings

Drawn = TypeVar("Drawn")

# streams of random numbers of one step; VALIDATION's are beneath it
WINDOWS, MASKS, FORGOTTEN, VALIDATION, HIDDEN, SHUFFLED = range(6)


@dataclass(frozen=True, eq=False)
class Batch:
    """`window` (B, channels, bins), `usable` (B, channels), `keep` (B, kept) token indices, `masked` (B, channels,
    patches) what is to be reconstructed, `session` (B,) whose windows they are, `row` (B,) of the reconstructor's
    table, `seen` (B,) where anything is visible. `whole`: every kept token is of a usable channel."""

    window: Tensor
    usable: Tensor
    keep: Tensor
    masked: Tensor
    session: Tensor
    row: Tensor
    seen: Tensor
    whole: bool

    def __len__(self) -> int:
        return len(self.window)

    def to(self, device: torch.device) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def split(self, size: int) -> list[Batch]:
        """In pieces of `size` windows, the last one of what is left; 0: in one piece."""
        if not size or size >= len(self):
            return [self]
        return [self._each(lambda tensor, k=k: tensor[k : k + size]) for k in range(0, len(self), size)]

    def _each(self, change: object) -> Batch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: change(one) if isinstance(one, Tensor) else one for name, one in tensors.items()})


@dataclass(frozen=True, eq=False)
class Drawer:
    """Draws the batches of a run. `rows`: those of this process."""

    sessions: list[Session]
    choice: Choice
    network: MaeConfig
    settings: PretrainSettings
    rows: slice

    def draw(self, step: int) -> Batch:
        """The batch of a step: random windows, random masks, some sessions forgotten."""
        network, settings, seed = self.network, self.settings, (self.settings.seed, step)
        windows = sample(self.choice, settings, np.random.default_rng((*seed, WINDOWS)))
        hidden = None
        if settings.electrode_dropout:
            draws = np.random.default_rng((*seed, HIDDEN)).random((len(windows), network.channels))
            hidden = draws < settings.electrode_dropout
        rngs = (np.random.default_rng((*seed, stream)) for stream in (MASKS, SHUFFLED))
        batch = assemble(self.sessions, windows, network, settings, *rngs, hidden=hidden, rows=self.rows)
        draws = np.random.default_rng((*seed, FORGOTTEN)).random(len(windows))[self.rows]
        forgotten = torch.from_numpy(draws < settings.session_dropout)
        return replace(batch, row=torch.where(forgotten, network.sessions, batch.row))

    def from_step(self, step: int) -> Generator[Batch, None, None]:
        """The batches of `step` and all that follow."""
        return drawn_ahead(self.draw, step)


def drawn_ahead(draw: Callable[[int], Drawn], step: int) -> Generator[Drawn, None, None]:
    """What `draw` gives for `step` and all that follow, each drawn while the one before is learnt from."""
    with ThreadPoolExecutor(1, "draw") as thread:
        ahead = thread.submit(draw, step)
        while True:
            ready, step = ahead.result(), step + 1
            ahead = thread.submit(draw, step)
            yield ready


def assemble(
    sessions: list[Session],
    windows: list[tuple[int, int]],
    network: MaeConfig,
    settings: PretrainSettings,
    mask: np.random.Generator,
    shuffle: np.random.Generator,
    hidden: NDArray[np.bool_] | None = None,
    rows: slice = slice(None),
) -> Batch:
    """The batch of these windows (session, first bin), of which only `rows` are read.

    Args:
        mask, shuffle: where masks come from and, for shuffled time, the bins.
        hidden: (windows, channels), electrodes that the encoder is not shown though they work.
    """
    noise = order(settings.masking, (len(windows), network.channels, network.patches), settings.mask_ratio, mask)
    if settings.shuffle_time:
        within = shuffle.random((len(windows), network.bins))[rows]
        read = [_shuffled(sessions[i], part) for (i, _), part in zip(windows[rows], within, strict=True)]
        window, usable = _together(read, [sessions[i].header.name for i, _ in windows[rows]])
    else:
        window, usable = read_windows(sessions, windows[rows], network.bins)
    kept = max(1, round(network.tokens * (1 - settings.mask_ratio)))
    keep = shown(noise[rows], kept, usable, None if hidden is None else hidden[rows])
    masked = usable.repeat(network.patches, axis=1)
    visible = np.take_along_axis(masked, keep, axis=1)
    np.put_along_axis(masked, keep, False, axis=1)
    session = torch.tensor([i for i, _ in windows[rows]])
    return Batch(
        window=torch.from_numpy(window),
        usable=torch.from_numpy(usable),
        keep=torch.from_numpy(keep),
        masked=torch.from_numpy(masked).view(len(window), network.channels, network.patches),
        session=session,
        row=session.clamp(max=network.sessions),
        seen=torch.from_numpy(visible.any(axis=1)),
        whole=bool(visible.all()),
    )


def _shuffled(session: Session, within: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A window (1, channels, bins) of bins from anywhere in the session, each as it was on all channels: what channels
    share at a moment is left, and nothing of time."""
    allowed = session.allowed(1)
    bins, usable = session.windows(np.asarray(allowed[(within * len(allowed)).astype(np.int64)]), 1)
    return np.ascontiguousarray(bins[:, :, 0].T[None]), usable.all(axis=0)[None]


def read_windows(
    sessions: list[Session], windows: list[tuple[int, int]], length: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The windows (session, first bin), (n, channels, length), and their usable channels (n, channels).

    Raises:
        RigFault: a usable channel holds what is no number.
    """
    read = [sessions[i].windows(np.array([first]), length) for i, first in windows]
    return _together(read, [sessions[i].header.name for i, _ in windows])


def _together(read: list[Any], names: list[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    window, usable = (np.concatenate(part) for part in zip(*read, strict=True))
    _refuse_no_numbers(window, usable, names)
    return window, usable


def _refuse_no_numbers(window: NDArray[np.float32], usable: NDArray[np.bool_], names: list[str]) -> None:
    good = np.isfinite(window).all(axis=2) | ~usable
    if not good.all():
        n, channel = (int(one) for one in np.argwhere(~good)[0])
        raise RigFault(
            f"{names[n]}: found values that are not finite on channel {channel + 1}, expected finite ones wherever a "
            "channel is usable; make the cache again"
        )


def validation_batches(
    sessions: list[Session],
    held_out: Starts,
    network: MaeConfig,
    settings: PretrainSettings,
    process: int = 0,
    processes: int = 1,
) -> list[Batch]:
    """The same windows and masks at every validation, evenly over the held-out time, their sessions unknown; every
    `processes`-th batch of them is this process's."""
    windows, batches = evenly(held_out, settings.validation_windows), []
    for k in range(process * settings.batch, len(windows), processes * settings.batch):
        rngs = [np.random.default_rng((settings.seed, k, VALIDATION, stream)) for stream in range(2)]
        batch = assemble(sessions, windows[k : k + settings.batch], network, settings, *rngs)
        batches += replace(batch, row=torch.full_like(batch.row, network.sessions)).split(settings.micro_batch)
    return batches
