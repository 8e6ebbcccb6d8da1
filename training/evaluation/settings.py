"""How much of everything an evaluation does. Frozen, so that a hash of them names what was computed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from streaming.participant.settings import StateCode
from streaming.participant.trials import Protocol

CODES: tuple[StateCode, ...] = ("mixed", "power", "linear")


@dataclass(frozen=True)
class Measures:
    """What is asked of trials, whoever gave them."""

    labels: tuple[int, ...] = (50, 100, 200, 500, 2000)
    draws: int = 5  # stretches of so many labels; fewer where they would overlap
    permutations: int = 50
    components: int = 768
    rest_windows: int = 30_000  # for what is learned without labels; at most, an hour of them
    held_out_windows: int = 400  # of resting sessions that no encoder was trained on
    removed_electrodes: int = 10


@dataclass(frozen=True)
class Stimulation:
    """`learning` sessions of `trials` each give labels to learn from; `new` sessions of `new_trials` are only tested
    on. They lie on `days` consecutive days behind the resting ones, in turn."""

    learning: int
    trials: int
    new: int
    new_trials: int
    days: int


@dataclass(frozen=True)
class Simulated:
    """A study of simulated participants, whose `seeds` were never used to choose anything.

    `seeds` answer many thousand threshold trials each, so that a point of balanced accuracy can be resolved. Those of
    `control_seeds` answer about as many as the paper's participant did, threshold and psychometric, and get everything
    else: each session by itself and left out, every control with an encoder of its own, every pooling.
    """

    seeds: tuple[int, ...] = (501, 502, 503, 504, 505)
    control_seeds: tuple[int, ...] = (506,)
    codes: tuple[StateCode, ...] = CODES
    linear_seeds: int = 1  # the code on which principal components are near the best there is is only reported beside
    preset: str = "tiny"
    network: dict[str, Any] = field(default_factory=lambda: {"patch_bins": 128})
    training: dict[str, Any] = field(default_factory=dict)
    steps: int = 1000  # of every encoder: the controls' budget is the same
    rest_days: int = 12
    rest_sessions: int = 24
    rest_s: int = 150
    many: Stimulation = Stimulation(learning=10, trials=260, new=10, new_trials=410, days=5)
    threshold: Stimulation = Stimulation(learning=10, trials=176, new=6, new_trials=200, days=5)
    psychometric: Stimulation = Stimulation(learning=6, trials=200, new=2, new_trials=300, days=2)

    def participants(self) -> list[tuple[StateCode, int, bool]]:
        """Code, seed, and whether all controls are wanted."""
        found: list[tuple[StateCode, int, bool]] = []
        for code in self.codes:
            linear = code == "linear"
            found += [(code, seed, False) for seed in (self.seeds[: self.linear_seeds] if linear else self.seeds)]
            found += [(code, seed, True) for seed in (() if linear and self.seeds else self.control_seeds)]
        return found

    def stimulation(self, full: bool) -> dict[Protocol, Stimulation]:
        """What a participant goes through."""
        both: dict[Protocol, Stimulation] = {"threshold": self.threshold, "psychometric": self.psychometric}
        return both if full else {"threshold": self.many}


QUICK_MEASURES = Measures(labels=(50,), draws=1, permutations=5, components=64, rest_windows=200, held_out_windows=40)
QUICK = Simulated(
    seeds=(),
    control_seeds=(506,),
    codes=("mixed",),
    preset="nano",
    network={},
    steps=30,
    rest_days=6,
    rest_sessions=6,
    rest_s=20,
    threshold=Stimulation(learning=2, trials=40, new=1, new_trials=40, days=1),
    psychometric=Stimulation(learning=2, trials=48, new=1, new_trials=48, days=1),
)


def quick(study: Simulated) -> Simulated:
    """The study in the size of a test: one participant with every control, a network of seconds."""
    return replace(QUICK, control_seeds=study.control_seeds[:1], codes=study.codes[:1])
