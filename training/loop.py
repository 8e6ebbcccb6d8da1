"""The loop of every training here: a batch, a step, now and then a look at what is held out; resumable to the bit.

What a step sees is a function of (seed, step) and there is no other randomness, so weights, the optimiser's moments and
the step number are the whole state. OUT holds

    settings.toml         everything that was chosen
    last.safetensors      that state: where `resume` goes on
    best.safetensors      weights with the lowest loss on the held-out windows, and what they are of
    metrics.jsonl         a line per validation: the learning curve
    tensorboard/          the same and more, a point every few steps
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from models.errors import OperatorFault
from training.checkpoints import BEST, LAST, load_training_state, save, training_state
from training.optimizing import learning_rate
from training.processes import noted
from training.settings import refuse_other_settings

POINT_EVERY = 10  # steps between two points of TensorBoard's curves


class Learns(Protocol):
    """Network and optimisers of one process. `parts` holds all that training changes, `weights` what is kept of it."""

    parts: torch.nn.Module
    optimizers: list[Any]

    def learn(self, batch: Any, step: int, rate: float, stop: bool) -> tuple[dict[str, float], bool]: ...

    def validate(self, held_out: Any) -> dict[str, float]: ...

    def weights(self) -> dict[str, Tensor]: ...


def run(
    name: str,
    learner: Learns,
    from_step: Callable[[int], Generator[Any, None, None]],
    held_out: Any,
    out: Path,
    text: str,
    about: dict[str, Any],
    settings: Any,
    fabric: Any,
    stop_at: int | None = None,
    picture: Callable[[Any, int], None] | None = None,
) -> None:
    """From the state that `out` holds, or from the beginning, to the last step.

    Args:
        from_step: the batches of a step and all that follow.
        text, about: what was chosen, as settings.toml; what the weights are of, for the head of a checkpoint.
        stop_at: ends early, as Ctrl-C would, with nothing but the last step saved.
        picture: shows what was learnt, of the log and the step.
    """
    last = out / LAST
    step, best = load_training_state(last, learner.parts, learner.optimizers, about) if last.exists() else (0, math.inf)
    fabric.barrier()  # no process reads what stood there any more
    end = settings.steps if stop_at is None else min(stop_at, settings.steps)
    with ExitStack() as stack:
        stop, bar = stack.enter_context(noted()), stack.enter_context(progress(fabric.is_global_zero))
        batches = stack.enter_context(closing(from_step(step)))
        log = stack.enter_context(_log(out, text, step)) if fabric.is_global_zero else None
        task = bar.add_task(name, total=settings.steps, completed=step, loss="", held_out="")
        while step < end:
            losses, asked = learner.learn(next(batches), step, learning_rate(step, settings), stop())
            step += 1
            bar.update(task, completed=step, loss=f"loss {losses['training']:.4f}")
            valid = step % settings.validate_every == 0 or step == settings.steps
            if valid:
                losses |= learner.validate(held_out)
                bar.update(task, held_out=f"held out {losses['held_out']:.4f}")
            if log and step % POINT_EVERY == 0:
                log.curves(step, losses)
            if log and valid:
                log.line(step, losses)
                if picture is not None:
                    picture(log, step)
                if losses["held_out"] < best:
                    save(out / BEST, learner.weights(), about | {"step": step, "held_out": losses["held_out"]})
            best = min(best, losses.get("held_out", best))
            if log and (valid or asked or step == end):
                save(last, training_state(learner.parts, learner.optimizers), about | {"step": step, "best": best})
            if asked:
                raise KeyboardInterrupt


def refuse_other_run(out: Path, text: str, resume: bool) -> None:
    """
    Raises:
        OperatorFault: `out` holds a run, and it is not to be gone on with, or was of other settings.
    """
    if not (out / LAST).exists():
        return
    if not resume:
        raise OperatorFault(f"{out} holds a run already; continue it with --resume, or name another --out")
    refuse_other_settings(out / "settings.toml", text)


def _log(out: Path, text: str, step: int) -> Any:
    from training.run_log import RunLog  # TensorBoard takes seconds to load, and other processes need none

    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.toml").write_text(text)
    return RunLog(out, step)


def progress(shown: bool, unit: str = "steps") -> Progress:
    """A bar with the rate and the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}  {task.fields[held_out]}"),
        _Rate(unit),
        TimeRemainingColumn(),
        disable=not shown,
    )


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.2f} {self._unit}/s")
