"""Markers of the event stream: stimulations and reports, one JSON object each (CONTRACT, event stream)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from models.errors import RigFault


@dataclass(frozen=True, slots=True)
class Stimulation:
    """A train of current pulses through one electrode. `electrode` is 1-based, as printed on the array."""

    trial: int | None
    electrode: int | None
    current_ua: float | None
    duration_s: float
    pulses: int | None = None
    phase_us: float | None = None
    interphase_us: float | None = None
    frequency_hz: float | None = None
    trigger_id: str | None = None

    @property
    def last_pulse_end_s(self) -> float:
        """Seconds from onset to the end of the last pulse; the whole duration where the pulses are not given.

        (pulses - 1) / frequency + 2 phases + interphase; 163.73 ms for the 50-pulse train of the MAE paper.
        """
        if self.pulses and self.frequency_hz and self.phase_us is not None and self.interphase_us is not None:
            return (self.pulses - 1) / self.frequency_hz + (2 * self.phase_us + self.interphase_us) * 1e-6
        return self.duration_s


@dataclass(frozen=True, slots=True)
class Report:
    """The participant's answer to a trial."""

    trial: int | None
    perceived: bool


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a kind that we do not know: logged, otherwise ignored."""

    event: str


Marker = Stimulation | Report | UnknownEvent

LONGEST_TRAIN_S = 10.0
LARGEST_NUMBER = 2.0**53  # whole numbers beyond are not kept by every reader of JSON


def parse_marker(text: str) -> Marker:
    """One marker string of the event stream as a Marker.

    Raises:
        RigFault: not a JSON object, or a known event whose fields are missing, of the wrong type or not finite.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RigFault(f"malformed marker: found {text[:80]!r}, expected one JSON object with an 'event'")
    event = fields.get("event")
    if event == "stim":
        stimulation = Stimulation(
            trial=_integer(fields, "trial"),
            electrode=_integer(fields, "electrode"),
            current_ua=_number(fields, "current_ua"),
            duration_s=_required_duration(fields),
            pulses=_integer(fields, "pulses"),
            phase_us=_number(fields, "phase_us"),
            interphase_us=_number(fields, "interphase_us"),
            frequency_hz=_number(fields, "frequency_hz"),
            trigger_id=None if fields.get("trigger_id") is None else _sendable(str(fields["trigger_id"])[:200]),
        )
        _check_length(stimulation)
        return stimulation
    if event == "report":
        perceived = fields.get("perceived")
        if not isinstance(perceived, bool):
            raise RigFault(f"malformed report marker: found perceived={perceived!r}, expected true or false")
        return Report(trial=_integer(fields, "trial"), perceived=perceived)
    return UnknownEvent(str(event)[:80])


def marker_text(marker: Marker) -> str:
    """A marker as the event stream carries it: one JSON object; what is not known is left out."""
    if isinstance(marker, UnknownEvent):
        return json.dumps({"event": marker.event})
    event = "stim" if isinstance(marker, Stimulation) else "report"
    return json.dumps({"event": event} | {key: value for key, value in asdict(marker).items() if value is not None})


def _number(fields: dict[str, object], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST_NUMBER:
        raise RigFault(f"malformed marker: found {name}={str(value)[:40]}, expected a number from 0 to 2^53")
    return float(value)


def _integer(fields: dict[str, object], name: str) -> int | None:
    value = _number(fields, name)
    if value is None:
        return None
    if not value.is_integer():
        raise RigFault(f"malformed marker: found {name}={value!r}, expected an integer")
    return int(value)


def _sendable(text: str) -> str:
    """JSON can say half a character (\\ud800), which neither the journal nor a client could be told."""
    return text.encode("utf-8", "replace").decode()


def _required_duration(fields: dict[str, object]) -> float:
    duration = _number(fields, "duration_s")
    if duration is None:
        raise RigFault("malformed stim marker: found no duration_s, expected the train's length in seconds")
    return duration


def _check_length(train: Stimulation) -> None:
    """The pulses must fit into the duration, up to one period: 0.3 Hz where 300 was meant would blank three minutes."""
    period_s = 1 / train.frequency_hz if train.frequency_hz else 0.0
    longest_s = min(LONGEST_TRAIN_S, train.duration_s + period_s)
    if train.duration_s > LONGEST_TRAIN_S or not train.last_pulse_end_s <= longest_s:
        raise RigFault(
            f"malformed stim marker: found duration_s={train.duration_s:g} and pulses that end after "
            f"{train.last_pulse_end_s:g} s, expected at most {LONGEST_TRAIN_S:g} s and pulses that fit into it"
        )
