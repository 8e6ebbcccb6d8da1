"""Which fault strikes when: drawn from a seed, so that what went wrong once can be had again.

A calm beginning, against which the tails are held; then one fault after the other, every kind once before any comes
again, but that those which end the service come in every third round only: memory is judged over its longer lives.
Behind each there is time: to arm again, to fire, and to be calm.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Literal

Side = Literal["source", "service", "clients", "machine", "operator"]

# the fault's side, and for how long it lasts
KINDS: dict[str, tuple[Side, tuple[float, float]]] = {
    "garbage": ("clients", (2.0, 5.0)),
    "comers and goers": ("clients", (3.0, 8.0)),
    "silent clients": ("clients", (3.0, 10.0)),
    "source paused": ("source", (0.4, 4.0)),
    "limits edited": ("operator", (1.5, 3.0)),
    "source killed": ("source", (0.5, 3.0)),
    "bundle in shadow": ("operator", (3.0, 6.0)),
    "disk full": ("machine", (1.5, 4.0)),
    "channels masked": ("operator", (1.0, 3.0)),
    "service told to end": ("service", (0.0, 0.0)),
    "cores taken": ("machine", (2.0, 6.0)),
    "second instance": ("operator", (0.0, 0.0)),
    "service paused": ("machine", (0.3, 2.5)),
    "inference hangs": ("service", (0.0, 0.0)),
    "service killed": ("service", (0.0, 0.0)),
}
CALM_S = 60.0
REST_S = (8.0, 40.0)  # behind a fault, where there is time: history, a second of settling, and some pulses
SHORT_S = (1.0, 3.0)  # in a soak of minutes
STARTS_S = 6.0  # at least behind one that ends the service, which is to be seen to predict again
LONG_FROM_S = 600.0
END_S = 4.0  # nothing strikes any more


@dataclass(frozen=True, slots=True)
class Planned:
    """`at_s` seconds from the beginning, for `lasts_s`."""

    at_s: float
    kind: str
    lasts_s: float

    @property
    def side(self) -> Side:
        return KINDS[self.kind][0]


def schedule(seconds: float, seed: int) -> list[Planned]:
    """In order of time."""
    draw = random.Random(seed)
    rest_s = REST_S if seconds >= LONG_FROM_S else SHORT_S
    planned: list[Planned] = []
    at_s = min(CALM_S, 0.4 * seconds)
    for turn in itertools.count():
        for kind in draw.sample(list(KINDS), len(KINDS)):
            if KINDS[kind][0] == "service" and turn % 3:
                continue
            lasts_s = draw.uniform(*KINDS[kind][1])
            if at_s + lasts_s > seconds - END_S:
                return planned
            planned.append(Planned(at_s, kind, lasts_s))
            rested_s = draw.uniform(*rest_s)
            at_s += lasts_s + (max(STARTS_S, rested_s) if KINDS[kind][0] == "service" else rested_s)
    raise AssertionError("a schedule ends")
