"""What may ever be asked for. One TOML file, by the people who answer for it, stands between two fences in this source:
conservative defaults below it, ceilings that no file can pass above it.

    name = "threshold sessions, November"
    participant = "p07"
    electrodes = [34, 35, 44]
    currents_ua = [10.0, 20.0]

    [pulse]                      # one shape, for all of them
    phase_us = 170
    interphase_us = 60
    frequency_hz = 300
    pulses = 50

    [limits]                     # each may be left out; the default then holds
    current_ua = 20.0
    charge_per_phase_nc = 3.4

Whoever decides (trigger, policy, optimiser, message) chooses among `patterns`; nobody can add one. In this project's
words a *pulse* is one stimulation, a whole train; `pulses` in a file counts the current pulses inside it, as on the
wire. Sources of the numbers: docs/safety.md.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import OperatorFault

LARGEST_FILE = 64 * 1024
MOST_CURRENT_UA = 128.0
LONGEST_TRAIN_S = 1.0
MOST_CURRENT_PULSES = 255
AFTER_TRAIN_S = 0.3  # blanking and settling: before it is over, no window is whole again

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
Number = float  # strict: 20 is as good as 20.0, and "20" is not


class Pulse(BaseModel):
    """The shape of a train: biphasic, both phases alike, so that the charge is balanced by construction."""

    model_config = STRICT
    phase_us: Number = Field(ge=50, le=1000)
    interphase_us: Number = Field(ge=53, le=1000)
    frequency_hz: Number = Field(gt=0, le=300)
    pulses: int = Field(ge=1, le=MOST_CURRENT_PULSES)

    @property
    def duration_s(self) -> float:
        """From onset to the end of the last current pulse."""
        return (self.pulses - 1) / self.frequency_hz + (2 * self.phase_us + self.interphase_us) * 1e-6

    @model_validator(mode="after")
    def _fits(self) -> Pulse:
        if self.duration_s > LONGEST_TRAIN_S:
            raise ValueError(f"found a train of {self.duration_s:.3f} s, expected at most {LONGEST_TRAIN_S:g} s")
        return self


class Budget(BaseModel):
    """How much, how often. The default of each field is what holds where a file is silent; its bound is the ceiling."""

    model_config = STRICT
    current_ua: Number = Field(default=10.0, gt=0, le=MOST_CURRENT_UA)
    charge_per_phase_nc: Number = Field(default=2.0, gt=0, le=25.0)
    charge_per_electrode_day_uc: Number = Field(default=290.0, gt=0, le=2880.0)
    duty: Number = Field(
        default=0.10, gt=0, le=0.50, description="share of a minute that an electrode's trains may fill"
    )
    pulses_per_minute: int = Field(default=10, ge=1, le=120)
    pulses_per_session: int = Field(default=200, ge=1, le=10_000)
    refractory_s: Number = Field(default=2.0, ge=0.5, le=3600)
    armed_max_s: Number = Field(default=1800.0, gt=0, le=14_400)


class _File(BaseModel):
    model_config = STRICT
    name: str = Field(min_length=1, max_length=200)
    participant: str = Field(min_length=1, max_length=200)
    simulated_only: bool = False
    electrodes: list[Annotated[int, Field(ge=1, le=1024)]] = Field(min_length=1)
    currents_ua: list[Annotated[Number, Field(gt=0, le=MOST_CURRENT_UA)]] = Field(min_length=1, max_length=64)
    pulse: Pulse
    limits: Budget = Budget()


@dataclass(frozen=True, slots=True)
class Pattern:
    """One stimulation that may be asked for: through which electrode (1-based), how strong, and the train's shape."""

    electrode: int
    current_ua: float
    pulse: Pulse

    def __hash__(self) -> int:  # of the shape, which all patterns share, a hash costs twenty times as much
        return hash((self.electrode, self.current_ua))

    @property
    def name(self) -> str:
        """How messages and journal name it."""
        return f"e{self.electrode}-{self.current_ua:g}uA"

    @property
    def charge_nc(self) -> float:
        """Charge of one phase, nanocoulombs."""
        return self.current_ua * self.pulse.phase_us * 1e-3

    @property
    def train_charge_uc(self) -> float:
        """Charge of all leading phases of the train, microcoulombs."""
        return self.charge_nc * self.pulse.pulses * 1e-3

    def quantised(self, current_step_ua: float, time_step_us: float) -> Pattern:
        """What a device of these steps really delivers; 0 stands for no steps."""
        pulse = self.pulse.model_copy(
            update={
                "phase_us": _nearest(self.pulse.phase_us, time_step_us),
                "interphase_us": _nearest(self.pulse.interphase_us, time_step_us),
            }
        )
        return replace(self, current_ua=_nearest(self.current_ua, current_step_ua), pulse=pulse)


@dataclass(frozen=True, slots=True)
class Limits:
    """A limits file that was read and found valid. `sha256` is that of its bytes."""

    name: str
    participant: str
    simulated_only: bool
    budget: Budget
    patterns: tuple[Pattern, ...]
    sha256: str

    def pattern(self, electrode: int, current_ua: float) -> Pattern:
        """The listed pattern.

        Raises:
            OperatorFault: it is not listed.
        """
        for pattern in self.patterns:
            if pattern.electrode == electrode and pattern.current_ua == current_ua:
                return pattern
        raise OperatorFault(
            f"electrode {electrode} at {current_ua:g} µA: not listed in the limits {self.name!r}; choose one of "
            f"{_some(p.name for p in self.patterns)}"
        )

    def refusal(self, pattern: Pattern) -> str | None:
        """Why this pattern, as a device quantised it, is beyond the limits; None where it is within."""
        budget = self.budget
        if pattern.current_ua > budget.current_ua:
            return f"{pattern.name}: {pattern.current_ua:g} µA, expected at most {budget.current_ua:g} µA"
        if pattern.charge_nc > budget.charge_per_phase_nc:
            return (
                f"{pattern.name}: {pattern.charge_nc:g} nC a phase, expected at most {budget.charge_per_phase_nc:g} nC"
            )
        if pattern.pulse.duration_s > 60 * budget.duty:
            return f"{pattern.name}: one train alone is beyond the duty of {budget.duty:g}"
        return None


def read_limits(path: Path) -> Limits:
    """A limits file.

    Raises:
        OperatorFault: no such file, not TOML, an unknown key (a typo, a unit missing), or a value beyond its ceiling.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise OperatorFault(f"limits {path}: {error.strerror or error}; write one (docs/safety.md)") from error
    if len(content) > LARGEST_FILE:
        raise OperatorFault(f"limits {path}: found more than {LARGEST_FILE} bytes, expected a short TOML file")
    try:
        return parse_limits(content)
    except OperatorFault as fault:
        raise OperatorFault(f"limits {path}: {fault}") from fault


@lru_cache(maxsize=8)  # an armed service asks twice a second, and six thousand patterns take 30 ms
def parse_limits(content: bytes) -> Limits:
    """The bytes of a limits file; raises as `read_limits`."""
    try:
        file = _File.model_validate(tomllib.loads(content.decode("utf-8")))
    except ValidationError as error:
        raise OperatorFault("; ".join(map(_sentence, error.errors()))) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise OperatorFault(f"found no TOML: {error}") from error
    limits = Limits(
        name=file.name,
        participant=file.participant,
        simulated_only=file.simulated_only,
        budget=file.limits,
        patterns=tuple(
            Pattern(electrode, current, file.pulse)
            for electrode in dict.fromkeys(file.electrodes)
            for current in dict.fromkeys(file.currents_ua)
        ),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    for pattern in limits.patterns:
        if refusal := limits.refusal(pattern):
            raise OperatorFault(f"{refusal}; lower it, or raise [limits] below its ceiling")
    if limits.budget.refractory_s < file.pulse.duration_s + AFTER_TRAIN_S:
        raise OperatorFault(
            f"found refractory_s = {limits.budget.refractory_s:g}, expected at least the train and {AFTER_TRAIN_S:g} s "
            f"of settling, {file.pulse.duration_s + AFTER_TRAIN_S:.2f} s"
        )
    return limits


def _sentence(error: object) -> str:
    """One pydantic error as found, expected, where."""
    assert isinstance(error, dict)
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{where}: not a key of a limits file (a typo, or its unit is missing?)"
    if error["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: found {error.get('input')!r}, {error['msg'][:1].lower()}{error['msg'][1:]}"[:300]


def _nearest(value: float, step: float) -> float:
    return round(round(value / step) * step, 9) if step > 0 else value  # without the dust of 12 · 0.1


def _some(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
