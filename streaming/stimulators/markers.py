"""Markers of the trigger stream, as CONTRACT has them: one JSON object, encoded once."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import orjson

from streaming.limits import Pattern


class TriggerForm:
    """The marker of a pulse, or in shadow of one that would have been, with holes for what its prediction says: all
    else is known long before."""

    def __init__(
        self,
        event: Literal["trigger", "would_fire"],
        trigger_id: str,
        pattern: Pattern,
        limits_sha256: str,
        blind: bool = False,
    ) -> None:
        self.trigger_id, self.pattern, self._blind = trigger_id, pattern, blind
        known = {
            "electrode": pattern.electrode,
            "current_ua": float(pattern.current_ua),
            "pattern": pattern.name,
            "limits_sha256": limits_sha256,
        }
        self._head = f'{{"event":"{event}","trigger_id":{orjson.dumps(trigger_id).decode()},"seq":'
        self._known = f",{orjson.dumps(known).decode()[1:-1]},"

    def fill(self, seq: int, probability: float, sample_time: float) -> str:
        """The marker; numbers as JSON has them, to the last bit. Where it is blind, the probability is null.

        Raises:
            ValueError: a probability that is none, or a time that is not finite; JSON has no word for either.
        """
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"found probability {probability!r}, expected one in [0, 1]")
        if not -math.inf < sample_time < math.inf:
            raise ValueError(f"found sample_time {sample_time!r}, expected finite seconds")
        chance = "null" if self._blind else repr(float(probability))
        return f'{self._head}{seq},"probability":{chance}{self._known}"sample_time":{float(sample_time)!r}}}'


trigger_form = lru_cache(maxsize=256)(TriggerForm)


def state_marker(event: Literal["armed", "disarmed", "fault"], reason: str) -> str:
    """The trigger was armed, disarmed, or is at fault."""
    return orjson.dumps({"event": event, "reason": reason}).decode()
