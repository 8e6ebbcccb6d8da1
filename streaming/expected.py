"""Pulses of our own that no marker has answered yet: which marker answers them, and what rests on them meanwhile.

Without its marker a pulse is neither ruled out nor blanked. Its artifact would stay in the normaliser's window and
shrink every z value; a decoder that reads power takes that for a state, and fired every 1.5 s in a closed loop, each
pulse caused by the one before. So nothing is vouched for until it has left that window, or its marker came.
"""

from __future__ import annotations

from dataclasses import dataclass

EXPECT_S = 0.5  # for so long bins are held back until the marker of a pulse of our own comes


@dataclass(frozen=True, slots=True)
class Pulse:
    """Expected between the samples `start` and `deadline`; from bin `gone` on nothing rests on it any more."""

    trigger_id: str | None
    start: int
    deadline: int
    gone: int


class Expected:
    """The pulses that are expected on one stream.

    A marker answers the pulse whose `trigger_id` it names. One that names none answers a pulse whose time it lies in,
    until a marker of this stream has named a pulse that was expected: then ours are known to come with their ids, and
    the nameless are somebody else's. A pulse that was expected without an id is answered by any marker in its time.
    """

    def __init__(self) -> None:
        self._pulses: list[Pulse] = []
        self._ids_come = False

    def add(self, pulse: Pulse, at_bin: int) -> None:
        """Another one; those that are gone at `at_bin` are forgotten."""
        self._pulses = [*(one for one in self._pulses if one.gone >= at_bin), pulse]

    def answered_by(self, trigger_id: str | None, start: int, end: int) -> bool:
        """Whether a train in samples [start, end) is one of these; it is then no longer expected."""
        self._ids_come |= trigger_id is not None and any(one.trigger_id == trigger_id for one in self._pulses)
        before = len(self._pulses)
        self._pulses = [one for one in self._pulses if not self._answers(one, trigger_id, start, end)]
        return len(self._pulses) < before

    def touches(self, first_sample: int, last_sample: int, last_bin: int) -> bool:
        """Whether a window that ends with `last_sample`, of bin `last_bin`, rests on a pulse that has no answer.
        `first_sample` is the first that its statistics may know of."""
        return any(first_sample <= one.start <= last_sample and last_bin <= one.gone for one in self._pulses)

    def _answers(self, pulse: Pulse, trigger_id: str | None, start: int, end: int) -> bool:
        if trigger_id is not None and pulse.trigger_id is not None:
            return trigger_id == pulse.trigger_id
        in_its_time = start <= pulse.deadline and pulse.start <= end
        return in_its_time and (pulse.trigger_id is None or not self._ids_come)
