"""What happened to one stream, in absolute sample indices, and what the chain therefore does next. It holds no samples.

    blanks    a train of stimulation, bridged by a straight line; one that is only expected holds everything back
    gaps      samples that never arrived; the filters start anew behind them
    masks     from which sample on the operator's usable channels hold

The chain takes one step after the other and never tells how far it is, so that it can walk again from an earlier sample
when a marker came late. Walking leaves the timeline as it is, but for an expected train that is given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

NEVER = 2**62

Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Blank:
    """Samples [start, end) that carry a stimulation artifact. `end` is NEVER while an expected train awaits its marker,
    which must come before sample `deadline`."""

    start: int
    end: int
    deadline: int = NEVER


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples [start, end) never arrived."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to the samples up to `end`.

    `good`: they go through the filters. `lost`: there are none, the filters start anew at `end`. `bridge`: a straight
    line from sample `start` − 1 to sample `end` stands for them. Bins that begin before sample `gap_until` or
    `blank_until` are not vouched for, for that reason.
    """

    kind: Literal["good", "lost", "bridge"]
    end: int
    start: int = 0
    gap_until: int = 0
    blank_until: int = 0


class Timeline:
    """The timeline of one stream.

    Args:
        settle: samples behind a gap in which the filters settle.
        blank_settle: samples behind a blank in which they do.
    """

    def __init__(self, settle: int, blank_settle: int) -> None:
        self._settle, self._blank_settle = settle, blank_settle
        self._blanks: list[Blank] = []
        self._gaps: list[Gap] = []
        self._masks: list[tuple[int, Mask]] = []

    def begin(self, first_sample: int) -> None:
        """Everything new from this sample on, but for blanks that are not over by then and masks still to come."""
        self._gaps = []
        self._masks = [change for change in self._masks if change[0] > first_sample]
        self._blanks = [blank for blank in self._blanks if blank.end > first_sample]
        for blank in self._blanks:
            blank.start = max(blank.start, first_sample)

    def forget(self, oldest: int) -> None:
        """Drop what ended at sample `oldest` or before: no walk begins there any more."""
        self._gaps = [gap for gap in self._gaps if gap.end > oldest]
        self._blanks = [blank for blank in self._blanks if blank.end > oldest]
        self._masks = [change for change in self._masks if change[0] > oldest]

    # What happens ----------------------------------------------------------------------------------------------------

    def lose(self, start: int, end: int) -> None:
        """Samples [start, end) never came; they lie behind all that came."""
        self._gaps.append(Gap(start, end))

    def expect(self, start: int, deadline: int) -> None:
        """A train may begin at `start` or later; its marker comes before sample `deadline`, or there was none."""
        self._insert(Blank(start, NEVER, deadline))

    def unknown_from(self, start: int, end: int) -> int | None:
        """Where the stretch begins that a train in [start, end) becomes part of: two that touch are bridged by one
        line. None where it lies in a known one."""
        if any(blank.start <= start and end <= blank.end < NEVER for blank in self._blanks):
            return None
        return min([start] + [blank.start for blank in self._touching(start, end)])

    def blank(self, start: int, end: int, confirms: bool) -> None:
        """A train in [start, end). Where it `confirms`, it is what expected ones of its time or before waited for."""
        if confirms:
            self._blanks = [blank for blank in self._blanks if blank.end != NEVER or blank.start > end]
        if self.unknown_from(start, end) is None:
            return
        parts = self._touching(start, end)
        self._blanks = [blank for blank in self._blanks if blank not in parts]
        parts.append(Blank(start, end))
        self._insert(Blank(min(part.start for part in parts), max(part.end for part in parts)))

    def set_mask(self, from_sample: int, mask: Mask) -> None:
        """The operator's usable channels from this sample on."""
        self._masks.append((from_sample, mask))
        self._masks.sort(key=lambda change: change[0])

    # What follows from it --------------------------------------------------------------------------------------------

    @property
    def awaits_marker(self) -> bool:
        """A train is expected, and its marker has not come."""
        return any(blank.end == NEVER for blank in self._blanks)

    def mask_at(self, sample: int) -> Mask | None:
        """The mask that holds at a sample; None: the one from before everything that is known."""
        return next((mask for at, mask in reversed(self._masks) if at <= sample), None)

    def over(self, at: int) -> bool:
        """Nothing is known to happen at sample `at` or later."""
        return all(blank.end <= at for blank in self._blanks) and all(change[0] <= at for change in self._masks)

    def step(self, at: int, received: int) -> Step | None:
        """What comes next at sample `at`, where the samples before `received` are here; None: nothing yet."""
        gap = next((gap for gap in self._gaps if gap.end > at), None)
        blank = next((blank for blank in self._blanks if blank.end > at), None)
        if gap is not None and gap.start <= at:
            return self._lost(gap, blank)
        if blank is None or blank.start > at:
            ends = [received, *(found.start for found in (gap, blank) if found is not None)]
            ends += [change_at for change_at, _ in self._masks if change_at > at]
            return Step("good", min(ends)) if min(ends) > at else None
        if blank.end == NEVER:
            if received < blank.deadline:
                return None
            self._blanks.remove(blank)  # no marker came: what was held back is data like any other
            return self.step(at, received)
        if gap is not None and gap.start <= blank.end:
            # samples are lost before the line could end: nothing to draw it to, and the filters restart anyway
            return self._lost(gap, blank, blank_until=gap.end)
        if received <= blank.end:
            return None
        return Step("bridge", blank.end, blank.start, blank_until=blank.end + self._blank_settle)

    def _lost(self, gap: Gap, blank: Blank | None, blank_until: int = 0) -> Step:
        """Where the gap ends in a blank, the filters start behind that."""
        end = gap.end
        if blank is not None and blank.start < end < blank.end < NEVER:
            end = blank.end
        return Step("lost", end, gap_until=end + self._settle, blank_until=blank_until)

    def _touching(self, start: int, end: int) -> list[Blank]:
        return [blank for blank in self._blanks if blank.end != NEVER and blank.start <= end and start <= blank.end]

    def _insert(self, blank: Blank) -> None:
        self._blanks = sorted([*self._blanks, blank], key=lambda one: one.start)
