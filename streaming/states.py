"""The trigger's states, and what moves it between them, as a table. What is not in it is not possible."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where the trigger stands. Only ARMED lets a pulse out; SHADOW decides and says so, and nothing leaves."""

    DISARMED = "DISARMED"
    SHADOW = "SHADOW"
    ARMING = "ARMING"
    ARMED = "ARMED"
    REFRACTORY = "REFRACTORY"
    FAULT = "FAULT"


class Event(StrEnum):
    """What moves it. `lose`: lease, stream, limits, bundle or settings are not what the arming rested on."""

    SHADOW = "shadow"
    REQUEST = "request"
    CONFIRM = "confirm"
    EXPIRE = "expire"
    DISARM = "disarm"
    LOSE = "lose"
    PULSE = "pulse"
    RECOVER = "recover"
    FAIL = "fail"
    STOP = "stop"
    CLEAR = "clear"


_ALWAYS = {Event.FAIL: State.FAULT, Event.STOP: State.FAULT}
_LEAVE = {Event.DISARM: State.DISARMED, Event.LOSE: State.DISARMED, **_ALWAYS}
TABLE: Mapping[State, Mapping[Event, State]] = {
    State.DISARMED: {**_LEAVE, Event.SHADOW: State.SHADOW, Event.REQUEST: State.ARMING},
    State.SHADOW: {**_LEAVE, Event.SHADOW: State.SHADOW, Event.REQUEST: State.ARMING},
    State.ARMING: {**_LEAVE, Event.CONFIRM: State.ARMED, Event.EXPIRE: State.DISARMED},
    State.ARMED: {**_LEAVE, Event.PULSE: State.REFRACTORY},
    State.REFRACTORY: {**_LEAVE, Event.RECOVER: State.ARMED},
    State.FAULT: {**_ALWAYS, Event.DISARM: State.FAULT, Event.LOSE: State.FAULT, Event.CLEAR: State.DISARMED},
}
LIVE = (State.ARMED, State.REFRACTORY)  # an operator's client must be there


def diagram() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> DISARMED"]
    for state, row in TABLE.items():
        targets: dict[State, list[str]] = {}
        for event, to in row.items():
            targets.setdefault(to, []).append(event.value)
        lines += [f"    {state} --> {to}: {', '.join(events)}" for to, events in targets.items() if to is not state]
    return "\n".join(lines)
