"""What may be asked for, as it stands on disk: the limits file, and the plan made of it."""

from __future__ import annotations

from collections.abc import Callable

from models.errors import OperatorFault
from streaming.limits import Limits
from streaming.plan import Plan


class Rules:
    """The last look at the limits file. `problem` is the sentence where there are no valid limits.

    As long as the file says the same, limits and plan stay the same objects: thousands of trials need not be planned
    again, and a pattern is found by what it is and not by comparing it.
    """

    def __init__(self, read_limits: Callable[[], Limits], make_plan: Callable[[Limits], Plan]) -> None:
        self._read, self._make_plan = read_limits, make_plan
        self._kept: tuple[Limits, Plan, str] | None = None
        self.limits: Limits | None = None
        self.plan: Plan | None = None
        self.plan_sha256 = ""
        self.problem = ""

    def use(self, make_plan: Callable[[Limits], Plan]) -> None:
        """Another way to plan, from the next look on."""
        self._make_plan, self._kept = make_plan, None

    def on_disk(self) -> Limits | None:
        """The file as it is now, whatever was kept; None where it is not valid, or not there."""
        try:
            return self._read()
        except OperatorFault:
            return None

    def look(self) -> None:
        """Read the file again."""
        self.limits = self.plan = None
        self.problem = ""
        try:
            limits = self._read()
            if self._kept is None or self._kept[0].sha256 != limits.sha256:
                plan = self._make_plan(limits)
                self._kept = limits, plan, plan.sha256
            self.limits, self.plan, self.plan_sha256 = self._kept
        except OperatorFault as fault:
            self.problem = str(fault)
