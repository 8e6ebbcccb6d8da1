"""Markers of the trigger stream, as CONTRACT has them: one JSON object, encoded once."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import orjson

from streaming.limits import Pattern


def trigger_marker(
    event: Literal["trigger", "would_fire"],
    *,
    trigger_id: str,
    seq: int,
    probability: float | None,
    pattern: Pattern,
    limits_sha256: str,
    sample_time: float,
) -> str:
    """A pulse, or in shadow one that would have been. `probability` None: blind mode.

    Raises:
        ValueError: a probability that is none, or a time that is not finite; JSON has no word for either.
    """
    if probability is not None and not 0.0 <= probability <= 1.0:
        raise ValueError(f"found probability {probability!r}, expected one in [0, 1], or None in blind mode")
    if not math.isfinite(sample_time):
        raise ValueError(f"found sample_time {sample_time!r}, expected finite seconds")
    known = _known_ahead(pattern, limits_sha256)
    return (
        f'{{"event":"{event}","trigger_id":{orjson.dumps(trigger_id).decode()},"seq":{seq},'
        f'"probability":{_number(probability)},{known},"sample_time":{_number(sample_time)}}}'
    )


@lru_cache(maxsize=256)
def _known_ahead(pattern: Pattern, limits_sha256: str) -> str:
    """The part of the marker that is the same for every pulse of this pattern, without its braces."""
    part = {
        "electrode": pattern.electrode,
        "current_ua": float(pattern.current_ua),
        "pattern": pattern.name,
        "limits_sha256": limits_sha256,
    }
    return orjson.dumps(part).decode()[1:-1]


def _number(value: float | None) -> str:
    """A finite number as JSON has it, to the last bit."""
    return "null" if value is None else repr(float(value))


def state_marker(event: Literal["armed", "disarmed", "fault"], reason: str) -> str:
    """The trigger was armed, disarmed, or is at fault."""
    return orjson.dumps({"event": event, "reason": reason}).decode()
