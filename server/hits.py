"""Running hit rate by arm: percept reports matched to the triggers that they answer. Pure.

A rig's `stim` marker names our `trigger_id` and gives the stimulation a trial number; the `report` names the trial.
What is not ours (the rig's own schedule) is left out, so that arms are compared with each other alone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from streaming.scoring import wilson

HELD = 1024  # triggers that wait for their stimulation, and stimulations that wait for their report
HIDDEN = "hidden"  # the arm, in a blind experiment


@dataclass(slots=True)
class _Arm:
    pulses: int = 0
    shams: int = 0
    answered: int = 0
    perceived: int = 0


class Hits:
    """What was asked for, what was answered. The three calls come in the order of the events."""

    def __init__(self) -> None:
        self._arms: dict[str, _Arm] = {}
        self._fired: OrderedDict[str, str] = OrderedDict()  # trigger_id → arm
        self._trials: OrderedDict[int, str] = OrderedDict()  # the rig's trial → trigger_id

    def triggered(self, trigger_id: str, arm: str | None, sham: bool) -> None:
        """A trial of ours. Where a sham, no report will come."""
        arm = arm or HIDDEN
        counts = self._arms.setdefault(arm, _Arm())
        if sham:
            counts.shams += 1
            return
        counts.pulses += 1
        _hold(self._fired, trigger_id, arm)

    def stimulated(self, trigger_id: str | None, trial: int | None) -> None:
        """The rig's marker of a stimulation."""
        if trial is None:
            return
        if trigger_id in self._fired and trigger_id is not None:
            _hold(self._trials, trial, trigger_id)
        else:
            self._trials.pop(trial, None)  # the number serves another stimulation now

    def reported(self, trial: int | None, perceived: bool) -> str | None:
        """The participant's answer. Returns the trigger's id that it belongs to, or None."""
        trigger_id = None if trial is None else self._trials.pop(trial, None)
        arm = None if trigger_id is None else self._fired.pop(trigger_id, None)
        if arm is None:
            return None
        self._arms[arm].answered += 1
        self._arms[arm].perceived += perceived
        return trigger_id

    def table(self) -> list[dict[str, Any]]:
        """One row for each arm so far: counts, hit rate, and its 95 % interval; null without an answer."""
        rows = []
        for arm, counts in sorted(self._arms.items()):
            low, high = wilson(counts.perceived, counts.answered)
            known = counts.answered > 0
            rows.append(
                {
                    "arm": arm,
                    "pulses": counts.pulses,
                    "shams": counts.shams,
                    "answered": counts.answered,
                    "perceived": counts.perceived,
                    "rate": counts.perceived / counts.answered if known else None,
                    "interval": [low, high] if known else None,
                }
            )
        return rows


def _hold(held: OrderedDict[Any, str], key: Any, value: str) -> None:
    held[key] = value
    held.move_to_end(key)
    if len(held) > HELD:
        held.popitem(last=False)
