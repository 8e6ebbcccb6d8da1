"""What an experiment compares: arms, interleaved by a seeded schedule that is written down before the first trial.

A pulse at a favourable moment shows nothing by itself; only beside moments chosen blindly does it show that the state
mattered. Each trial has an arm, which says what its pulse waits for:

    favourable     the probability is high           unfavourable   the probability is low
    random         a time drawn from the waits that favourable trials needed: rate-matched, blind to the state
    yoked          the wait of the same trial of another session           open_loop   a fixed wait

and may be a sham: everything happens but the pulse. Waits count from the moment at which a pulse became lawful again.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

import orjson

from models.errors import OperatorFault
from streaming.limits import Limits, Pattern

Arm = Literal["favourable", "unfavourable", "random", "yoked", "open_loop"]
STATE_ARMS: tuple[Arm, ...] = ("favourable", "unfavourable")
ENDLESS = 1_000_000


@dataclass(frozen=True, slots=True)
class Trial:
    """One planned stimulation. `draw` is a uniform number in [0, 1) that was drawn with the schedule: whatever the
    trial decides by chance, it decides by it."""

    arm: Arm
    sham: bool
    pattern: Pattern
    draw: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole schedule. `waits_s` is what yoked trials wait, `open_loop_s` what open-loop ones do, and `random_s`
    the mean wait of random trials while no favourable one has fired yet. `blind`: probability and arm are hidden."""

    seed: int
    trials: tuple[Trial, ...]
    blind: bool = False
    waits_s: tuple[float, ...] = ()
    open_loop_s: float = 5.0
    random_s: float = 5.0

    @property
    def sha256(self) -> str:
        """Of everything in the plan: what the journal holds before the first trial."""
        told = [
            self.seed,
            self.blind,
            self.waits_s,
            self.open_loop_s,
            self.random_s,
            [(trial.arm, trial.sham, trial.pattern.name, trial.draw) for trial in self.trials],
        ]
        return hashlib.sha256(orjson.dumps(told)).hexdigest()

    def wait_s(self, index: int, favourable_waits_s: list[float]) -> float:
        """How long the trial waits, where its arm waits for a time."""
        trial = self.trials[index]
        if trial.arm == "open_loop":
            return self.open_loop_s
        if trial.arm == "yoked":
            return self.waits_s[index % len(self.waits_s)]
        if favourable_waits_s:
            return favourable_waits_s[int(trial.draw * len(favourable_waits_s))]
        return -self.random_s * math.log(1.0 - trial.draw)


def simple_plan(limits: Limits, electrode: int | None = None, current_ua: float | None = None) -> Plan:
    """Favourable moments only, one pattern: the first of the limits where none is named."""
    first = limits.patterns[0]
    pattern = limits.pattern(
        first.electrode if electrode is None else electrode, first.current_ua if current_ua is None else current_ua
    )
    return Plan(seed=0, trials=(Trial("favourable", False, pattern, 0.0),) * limits.budget.pulses_per_session)


def make_plan(
    limits: Limits,
    arms: tuple[Arm, ...],
    trials_per_arm: int,
    sham_fraction: float = 0.2,
    seed: int = 0,
    patterns: tuple[Pattern, ...] = (),
    blind: bool = False,
    waits_s: tuple[float, ...] = (),
    open_loop_s: float = 5.0,
) -> Plan:
    """Blocks that hold every arm (and its shams) once in a shuffled order, so that drift strikes all arms alike.

    Raises:
        OperatorFault: an unknown arm, a fraction outside [0, 1), yoked without waits, or a pattern that is not listed.
    """
    if not arms or any(arm not in get_args(Arm) for arm in arms):
        raise OperatorFault(
            f"plan: found arms {', '.join(arms) or 'none'}, expected some of {', '.join(get_args(Arm))}"
        )
    if not 0 <= sham_fraction < 1 or not 1 <= trials_per_arm <= ENDLESS:
        raise OperatorFault("plan: expected a sham fraction in [0, 1) and at least one trial in each arm")
    if "yoked" in arms and not waits_s:
        raise OperatorFault(
            "plan: the yoked arm needs the waits of another session's trials (waits_s); `phosphene journal waits "
            "JOURNAL` prints those of a run"
        )
    patterns = tuple(limits.pattern(p.electrode, p.current_ua) for p in patterns) or limits.patterns
    generator = random.Random(seed)
    trials: list[Trial] = []
    for block in range(trials_per_arm):
        # exactly that share of the blocks, spread evenly; a hair more than the product, which is a hair less than whole
        sham = math.floor((block + 1) * sham_fraction + 1e-9) > math.floor(block * sham_fraction + 1e-9)
        pattern = patterns[block % len(patterns)]  # equal electrode and current in every arm
        order = list(arms)
        generator.shuffle(order)
        trials += [Trial(arm, sham, pattern, generator.random()) for arm in order]
    return Plan(seed, tuple(trials), blind=blind, waits_s=waits_s, open_loop_s=open_loop_s)
