"""What a teacher makes of a fixed set of windows: each is read by it once, and kept.

A large teacher costs a hundred students and more, so a student cannot afford to ask it anew at every step. Rows of the
file that are NaN are still to be asked: who is interrupted goes on from there, to the bit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import OperatorFault
from models.networks.masked_autoencoder import Encoder, pool_some
from training.batches import read_windows
from training.data import Session
from training.loop import progress
from training.processes import noted
from training.sampler import Windows

BATCH = 32  # windows that the teacher reads at once


@dataclass(frozen=True, eq=False)
class Targets:
    """`embedding` (n, width) float32, the teacher's of each of `windows` (session, first bin)."""

    windows: Windows
    embedding: NDArray[np.float32]

    @property
    def centre(self) -> NDArray[np.float32]:
        return self.embedding.mean(axis=0)

    @property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation of each number over windows, (width,); 1 for one that never moves."""
        found = self.embedding.std(axis=0)
        return np.where(found > 1e-6, found, 1).astype(np.float32)


def targets(
    teacher: Encoder, known_as: str, sessions: list[Session], windows: Windows, folder: Path, fabric: Any
) -> Targets:
    """The teacher's embeddings of these windows, every usable channel visible, as it would serve them. Kept in
    `folder`; `known_as` is the hash of its weights.

    Raises:
        OperatorFault: the teacher's embedding is not finite, or the disk is full.
        KeyboardInterrupt: behind a whole batch.
    """
    names = [[one.header.name, len(one.usable)] for one in sessions]
    text = json.dumps([known_as, names, windows])
    file = folder / f"teacher-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"
    kept = _open(file, (len(windows), teacher.config.latent_width))
    blocks = [slice(k, k + BATCH) for k in range(0, len(windows), BATCH)]  # whole ones: a row alone sums otherwise
    missing = [rows for rows in blocks if np.isnan(kept[rows]).any()]
    teacher = teacher.to(fabric.device)
    with noted() as stop, progress(len(missing) > 0, "windows") as bar:
        done = len(windows) - sum(len(windows[rows]) for rows in missing)
        task = bar.add_task("teacher", total=len(windows), completed=done, loss="", held_out="")
        for rows in missing:
            window, usable = read_windows(sessions, windows[rows], teacher.config.bins)
            found = _embedded(teacher, window, usable, fabric.device)
            if not np.isfinite(found).all():
                raise OperatorFault(
                    f"found a teacher's embedding that is not finite, of {names[windows[rows][0][0]][0]} or behind it, "
                    "expected numbers; its checkpoint is of no use"
                )
            kept[rows] = found
            bar.advance(task, len(found))
            if stop():
                kept.flush()
                raise KeyboardInterrupt
    kept.flush()
    return Targets(windows, np.array(kept))


@torch.no_grad()
def _embedded(
    teacher: Encoder, window: NDArray[np.float32], usable: NDArray[np.bool_], device: torch.device
) -> NDArray[np.float32]:
    shown, seen = (torch.from_numpy(one).to(device) for one in (window, usable))
    embedding = pool_some(*teacher(shown, seen, whole=bool(usable.all())))
    return embedding.float().cpu().numpy()


def _open(file: Path, shape: tuple[int, int]) -> np.memmap[Any, Any]:
    try:
        if file.exists():
            return np.lib.format.open_memmap(file, "r+", np.float32, shape)  # type: ignore[no-any-return]
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        with draft.open("wb") as stream:
            np.save(stream, np.full(shape, np.nan, np.float32))
        draft.rename(file)
    except OSError as error:
        raise OperatorFault(f"{file} could not be written ({error}); make room, and run it again") from error
    return _open(file, shape)
