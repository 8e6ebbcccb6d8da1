"""What a step of pretraining sees: windows, masks, forgotten sessions, all drawn from (seed, step).

Each is drawn from its own generator, row by row, so that sample i is the same in a batch of any size; nothing else in
training is random, so a step number is all the state that drawing has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import OperatorFault
from models.networks.masked_autoencoder import MaeConfig
from training.data import Session

if TYPE_CHECKING:
    from training.pretrain import PretrainSettings

HELD_OUT_DATES = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """`window` (B, channels, bins), `usable` (B, channels), `keep` (B, kept) token indices, `masked` (B, channels,
    patches) what is to be reconstructed, `session` (B,) rows of the reconstructor's table."""

    window: Tensor
    usable: Tensor
    keep: Tensor
    masked: Tensor
    session: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


Starts = dict[int, NDArray[np.int64]]  # session index -> first bins of the windows that may be drawn


def split(sessions: list[Session], length: int) -> tuple[Starts, Starts]:
    """Windows to train on and windows held out: the last four dates; of fewer than five dates the last fifth of the
    sessions, of a single session its last fifth.

    Raises:
        OperatorFault: nothing is left to train on or to hold out.
    """
    order = sorted(range(len(sessions)), key=lambda i: (sessions[i].header.date, sessions[i].header.name))
    dates = sorted({session.header.date for session in sessions})
    if len(dates) > HELD_OUT_DATES:
        held = {i for i in order if sessions[i].header.date in dates[-HELD_OUT_DATES:]}
    else:
        held = set(order[-math.ceil(len(order) / 5) :]) if len(order) > 1 else set()
    if held:
        training = {i: sessions[i].allowed(length) for i in order if i not in held}
        held_out = {i: sessions[i].allowed(length) for i in held}
    else:
        cut = len(sessions[0].usable) * 4 // 5
        training, held_out = ({0: sessions[0].allowed(length, *ends)} for ends in ((0, cut), (cut, None)))
    if not sum(map(len, training.values())) or not sum(map(len, held_out.values())):
        raise OperatorFault(f"no valid window of {length} bins to train on or to hold out; give longer recordings")
    return training, held_out


def draw(sessions: list[Session], starts: Starts, network: MaeConfig, settings: PretrainSettings, step: int) -> Batch:
    """The batch of a step: windows uniform over all valid time, random masks, some sessions forgotten."""
    pick, mask, forget = (np.random.default_rng((settings.seed, step, stream)) for stream in range(3))
    ends = np.cumsum([len(first_bins) for first_bins in starts.values()])
    chosen = pick.integers(ends[-1], size=settings.batch)
    windows = [_locate(starts, ends, int(n)) for n in chosen]
    batch = assemble(sessions, windows, network, settings, mask)
    forgotten = torch.from_numpy(forget.random(settings.batch) < settings.session_dropout)
    return replace(batch, session=torch.where(forgotten, network.sessions, batch.session))


def _locate(starts: Starts, ends: NDArray[np.int64], n: int) -> tuple[int, int]:
    which = int(np.searchsorted(ends, n, side="right"))
    session, first_bins = list(starts.items())[which]
    return session, int(first_bins[n - (ends[which - 1] if which else 0)])


def assemble(
    sessions: list[Session],
    windows: list[tuple[int, int]],
    network: MaeConfig,
    settings: PretrainSettings,
    mask: np.random.Generator,
) -> Batch:
    read = [sessions[i].windows(np.array([first]), network.bins) for i, first in windows]
    window, usable = (np.concatenate(part) for part in zip(*read, strict=True))
    noise = mask.random((len(windows), network.tokens))
    noise += ~usable.repeat(network.patches, axis=1)  # an unusable channel is the last that would be kept
    kept = max(1, round(network.tokens * (1 - settings.mask_ratio)))
    keep = np.argsort(noise, axis=1)[:, :kept]
    masked = usable.repeat(network.patches, axis=1)
    np.put_along_axis(masked, keep, False, axis=1)
    return Batch(
        window=torch.from_numpy(window),
        usable=torch.from_numpy(usable),
        keep=torch.from_numpy(keep),
        masked=torch.from_numpy(masked).view(len(windows), network.channels, network.patches),
        session=torch.tensor([min(i, network.sessions) for i, _ in windows]),
    )


def validation_batches(
    sessions: list[Session], held_out: Starts, network: MaeConfig, settings: PretrainSettings
) -> list[Batch]:
    """The same windows and masks at every validation, evenly over the held-out time, their sessions unknown."""
    ends = np.cumsum([len(first_bins) for first_bins in held_out.values()])
    chosen = np.linspace(0, ends[-1] - 1, min(settings.validation_windows, int(ends[-1]))).astype(int)
    mask = np.random.default_rng((settings.seed, 0, 3))
    batches = []
    for k in range(0, len(chosen), settings.batch):
        windows = [_locate(held_out, ends, int(n)) for n in chosen[k : k + settings.batch]]
        batch = assemble(sessions, windows, network, settings, mask)
        batches.append(replace(batch, session=torch.full_like(batch.session, network.sessions)))
    return batches
