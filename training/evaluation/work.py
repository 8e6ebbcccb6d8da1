"""Which files a participant's evaluation needs and in which order they are made: simulated, or recorded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Protocol

import torch
from threadpoolctl import threadpool_limits

from streaming.participant.settings import StateCode
from training.evaluation import study, subject
from training.evaluation.settings import Measures, Simulated
from training.evaluation.steps import Step
from training.evaluation.subject import Subject
from training.slow_pooling import worth_reading


class Work(Protocol):
    """One participant's evaluation. It travels to another process, so it is plain values."""

    folder: Path

    def subject(self) -> Subject: ...

    def steps(self) -> list[Step]: ...


@dataclass(frozen=True)
class SimulatedWork:
    settings: Simulated
    measures: Measures
    code: StateCode
    seed: int
    full: bool
    folder: Path

    def subject(self) -> Subject:
        return study.subject(self.settings, self.measures, self.code, self.seed, self.full, self.folder)

    def steps(self) -> list[Step]:
        one = self.subject()
        before = study.steps(self.settings, self.measures, self.code, self.seed, one)
        return before + subject.steps(one)


def simulated(settings: Simulated, measures: Measures, cache: Path) -> list[Work]:
    measures = replace(measures, rest_windows=min(measures.rest_windows, worth_reading(study.network(settings))))
    return [
        SimulatedWork(settings, measures, code, seed, full, cache / f"{code}-{seed}")
        for code, seed, full in settings.participants()
    ]


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps that are done one after the other."""

    folder: Path
    steps: tuple[Step, ...]


def do(work: Work) -> None:
    """Every step that is not done."""
    do_chain(Chain(work.folder, tuple(work.steps())))


def do_chain(chain: Chain) -> None:
    """On one thread. In a process of its own it is silent: its log lies with the files."""
    torch.set_num_threads(1)
    chain.folder.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        if parent_process() is None:
            _do(chain.steps)
        else:
            with (chain.folder / "log.txt").open("a") as log, redirect_stdout(log), redirect_stderr(log):
                _do(chain.steps)


def beside(work: Work) -> list[list[Chain]]:
    """One participant's work for several cores: chains of a turn need nothing of each other. Trials are made while
    encoders are trained; fits, which take longest, need embeddings only."""
    steps = [step for step in work.steps() if not step.done]
    last = [step for step in steps if step.kind in ("fits", "looks")]
    trials, embedded = ([step for step in steps if step.kind == kind] for kind in ("trials", "embeddings"))
    first = [step for step in steps if step not in (*last, *trials, *embedded)]
    turns = [[first, trials], [embedded], [[step] for step in last]]
    return [chains for turn in turns if (chains := [Chain(work.folder, tuple(each)) for each in turn if each])]


def _do(steps: Sequence[Step]) -> None:
    for step in steps:
        if not step.done:
            print(step.words, flush=True)
            step.do()
