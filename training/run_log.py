"""What a run leaves to look at: a line per validation in metrics.jsonl, and curves and pictures for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from models.errors import OperatorFault
from training.batches import Batch

COLOURS = colormaps["RdBu_r"]
RANGE_Z = 3.0  # blue is as far below the mean as red is above
HIDDEN = (0.5, 0.5, 0.5)
PICTURES = 6


class RunLog:
    """`step` is where the run begins: lines and points of later steps, which a kill may have left, are forgotten."""

    def __init__(self, out: Path, step: int) -> None:
        self._lines = out / "metrics.jsonl"
        if self._lines.exists():
            kept = [line for line in self._lines.read_text().splitlines(True) if json.loads(line)["step"] <= step]
            self._lines.write_text("".join(kept))
        self._curves = SummaryWriter(out / "tensorboard", purge_step=step)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._curves.close()

    def curves(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve."""
        for name, value in values.items():
            self._curves.add_scalar(name, value, step)

    def line(self, step: int, values: dict[str, float]) -> None:
        """Raises OperatorFault where the disk takes no more."""
        try:
            with self._lines.open("a") as lines:
                lines.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise OperatorFault(
                f"{self._lines} could not be written ({error}); make room, go on with --resume"
            ) from error

    def picture(self, step: int, batch: Batch, rebuilt: Tensor) -> None:
        self._curves.add_image("reconstruction", drawn(batch, rebuilt), step, dataformats="HWC")
        self._curves.flush()


def drawn(batch: Batch, rebuilt: Tensor) -> NDArray[np.uint8]:
    """The first windows of a batch, one below the other: signal, what the encoder was shown of it (the rest grey), and
    its reconstruction, channels down and bins across; (rows, columns, 3)."""
    n, patches = min(PICTURES, len(batch)), batch.masked.shape[-1]
    width = batch.window.shape[-1] // patches
    usable = batch.usable[:n, :, None].expand_as(batch.window[:n]).cpu().numpy()
    visible = usable & ~batch.masked[:n].repeat_interleave(width, dim=-1).cpu().numpy()
    signal = np.where(usable, batch.window[:n].cpu().numpy(), 0)
    columns = [
        np.where(seen[..., None], COLOURS(z / (2 * RANGE_Z) + 0.5)[..., :3], HIDDEN)
        for z, seen in ((signal, usable), (signal, visible), (rebuilt[:n].float().cpu().numpy(), usable))
    ]
    framed = [np.pad(column, ((0, 0), (0, 4), (0, 4), (0, 0)), constant_values=1.0) for column in columns]
    rows = np.concatenate(framed, axis=2).reshape(-1, sum(one.shape[2] for one in framed), 3)
    return (np.repeat(rows, 2, axis=1) * 255).astype(np.uint8)
