"""One step of distillation: a student's embedding is drawn towards its teacher's of the same window.

    loss = mean squared error of the standardised embedding + 1 - its cosine with the teacher's

Standardised: each number less the teacher's mean over resting windows, in units of its standard deviation there. As
they come, embeddings point almost the same way, and a student that always said their mean would have a cosine of 1.
Inside, the student speaks in these units; its checkpoint speaks the teacher's, the scale folded into the projection.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.masked_autoencoder import MaeConfig, build, pool_some
from training.batches import drawn_ahead, read_windows
from training.data import Session
from training.distill_settings import DistillSettings
from training.optimizing import begin_step, clipped, optimizers, refuse_not_finite
from training.targets import Targets

WINDOWS, HIDDEN = range(2)  # streams of random numbers of one step


@dataclass(frozen=True, eq=False)
class Lesson:
    """`window` (B, channels, bins), `usable` (B, channels), `target` (B, width) in the teacher's units."""

    window: Tensor
    usable: Tensor
    target: Tensor


@dataclass(frozen=True, eq=False)
class Lessons:
    """Draws what each step sees, from (seed, step)."""

    sessions: list[Session]
    targets: Targets
    bins: int
    settings: DistillSettings

    def draw(self, step: int) -> Lesson:
        settings, seed = self.settings, (self.settings.seed, step)
        rows = np.random.default_rng((*seed, WINDOWS)).integers(len(self.targets.windows), size=settings.batch)
        lesson = self._of(rows)
        if not settings.electrode_dropout:
            return lesson
        draws = np.random.default_rng((*seed, HIDDEN)).random(lesson.usable.shape)
        left = lesson.usable & torch.from_numpy(draws >= settings.electrode_dropout)
        return Lesson(lesson.window, torch.where(left.any(1, keepdim=True), left, lesson.usable), lesson.target)

    def from_step(self, step: int) -> Generator[Lesson, None, None]:
        return drawn_ahead(self.draw, step)

    def all(self) -> list[Lesson]:
        """Every window once, in order."""
        n, size = len(self.targets.windows), self.settings.batch
        return [self._of(np.arange(k, min(k + size, n))) for k in range(0, n, size)]

    def _of(self, rows: Any) -> Lesson:
        windows = [self.targets.windows[row] for row in rows]
        window, usable = read_windows(self.sessions, windows, self.bins)
        return Lesson(*(torch.from_numpy(one) for one in (window, usable, self.targets.embedding[rows])))


class Pupil:
    """Student and optimiser; what `loop.run` drives."""

    def __init__(self, fabric: Any, config: MaeConfig, settings: DistillSettings, targets: Targets) -> None:
        torch.manual_seed(settings.seed)
        self.fabric, self.settings = fabric, settings
        self.student = build(config).encoder
        self.centre, self.spread = (torch.from_numpy(v).to(fabric.device) for v in (targets.centre, targets.spread))
        self.parts = torch.nn.ModuleDict({"encoder": self.student})
        chosen = optimizers(self.parts, settings, fabric.device)
        module = torch.compile(self.student) if settings.compile else self.student
        self.model, *self.optimizers = fabric.setup(module, *chosen)

    def learn(self, batch: Lesson, step: int, rate: float, stop: bool = False) -> tuple[dict[str, float], bool]:
        """Takes step number `step`, counted from 0, at this learning rate.

        Raises:
            OperatorFault: the loss or a gradient is not finite; nothing was changed.
        """
        begin_step(self.optimizers, rate)
        said, wanted = self._answers(batch, self.model)
        error, cosine = apart(said, wanted)
        loss = error.mean() + (1 - cosine).mean()
        self.fabric.backward(loss)
        norm = clipped(self.fabric, self.model, self.optimizers, self.settings.clip_norm)
        refuse_not_finite(step, rate, "loss", float(loss.detach()), norm)
        for optimizer in self.optimizers:
            optimizer.step()
        told = {"training": loss, "error": error.mean(), "cosine": cosine.mean()}
        return {name: float(one.detach()) for name, one in told.items()} | {"gradient": norm, "rate": rate}, stop

    @torch.no_grad()
    def validate(self, held_out: list[Lesson]) -> dict[str, float]:
        """The loss on the held-out windows, and `explained`: the share of the teacher's variance there, over all of its
        numbers alike, that the student gives."""
        with self.fabric.autocast():
            both = [self._answers(one, self.student) for one in held_out]
        said, wanted = (torch.cat(part).double() for part in zip(*both, strict=True))
        error, cosine = apart(said, wanted)
        explained = 1 - error.mean() / wanted.var(dim=0, correction=0).mean().clamp(min=1e-9)
        loss = error.mean() + (1 - cosine).mean()
        found = {"held_out": loss, "held_out_cosine": cosine.mean(), "explained": explained}
        return {name: float(one) for name, one in found.items()}

    def weights(self) -> dict[str, Tensor]:
        """An encoder's, in the units of the teacher's embedding."""
        found = {f"encoder.{name}": value.detach() for name, value in self.student.state_dict().items()}
        scale, bias = self.spread.to(found["encoder.project.bias"]), found["encoder.project.bias"]
        found["encoder.project.weight"] = found["encoder.project.weight"] * scale[:, None]
        found["encoder.project.bias"] = bias * scale + self.centre.to(bias)
        return found

    def _answers(self, lesson: Lesson, model: Any) -> tuple[Tensor, Tensor]:
        """Standardised, (seen windows, width): the student's and the teacher's."""
        window, usable, target = (
            one.to(self.fabric.device, non_blocking=True) for one in (lesson.window, lesson.usable, lesson.target)
        )
        said = pool_some(*model(window, usable, None, bool(lesson.usable.all()))).float()
        seen = usable.any(dim=1)
        return said[seen], ((target - self.centre) / self.spread)[seen]


def apart(said: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error and cosine of each pair, (n,) each, of (n, width)."""
    return (said - wanted).square().mean(dim=1), F.cosine_similarity(said, wanted, dim=1)
