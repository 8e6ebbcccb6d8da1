"""What may be asked for, as it stands on disk: the limits file, and the plan made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from models.errors import OperatorFault
from streaming.limits import Limits
from streaming.plan import Plan

Found = Limits | OperatorFault
MakePlan = Callable[[Limits], Plan]
Planned = tuple[Limits, Plan, str]  # and the hash of the plan


class Rules:
    """Limits and plan as of the last look, which `found` them; `problem` is the sentence where there are none to use.

    To read waits for the disk and to look does not, so that whoever holds a lock need only look. As long as the file
    says the same, limits and plan stay the same objects: thousands of trials need not be planned again, and a pattern
    is found by what it is and not by comparing it.
    """

    def __init__(self, read_limits: Callable[[], Limits], make_plan: MakePlan) -> None:
        self._read, self._make_plan = read_limits, make_plan
        self._kept: Planned | None = None
        self.limits: Limits | None = None
        self.plan: Plan | None = None
        self.plan_sha256 = ""
        self.problem = ""
        self.told: dict[str, Any] | None = None  # the limits, for status
        self.found = self.read()
        self.look(self.found)

    def read(self) -> Found:
        """The file as it is now."""
        try:
            return self._read()
        except OperatorFault as fault:
            return fault

    def look(self, found: Found) -> None:
        """What `read` gave is what holds."""
        self.found = found
        self.limits = self.plan = self.told = None
        self.problem = ""
        if isinstance(found, OperatorFault):
            self.problem = str(found)
            return
        try:
            if self._kept is None or self._kept[0].sha256 != found.sha256:
                plan = self._make_plan(found)
                self._kept = found, plan, plan.sha256
        except OperatorFault as fault:
            self.problem = str(fault)
            return
        self.limits, self.plan, self.plan_sha256 = self._kept
        self.told = _told(self.limits)

    def planned(self, make_plan: MakePlan) -> Planned | None:
        """What `use` takes along. Thousands of trials take a tenth of a second, which no lock should."""
        limits = self.found
        if isinstance(limits, Limits):
            with contextlib.suppress(OperatorFault):  # `use` finds it again, and says so
                plan = make_plan(limits)
                return limits, plan, plan.sha256
        return None

    def use(self, make_plan: MakePlan, planned: Planned | None) -> None:
        """Plan in another way, of which `planned` has the first."""
        self._make_plan, self._kept = make_plan, planned
        self.look(self.found)


def says(found: Found) -> str:
    """What tells two looks at the file apart."""
    return found.sha256 if isinstance(found, Limits) else str(found)


def _told(limits: Limits) -> dict[str, Any]:
    return {
        "name": limits.name,
        "participant": limits.participant,
        "sha256": limits.sha256,
        "simulated_only": limits.simulated_only,
        "electrodes": sorted({pattern.electrode for pattern in limits.patterns}),
        "currents_ua": sorted({pattern.current_ua for pattern in limits.patterns}),
        "budget": limits.budget.model_dump(),
    }
