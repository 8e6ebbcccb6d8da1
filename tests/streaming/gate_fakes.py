"""A rig for the gate: clocks that stand still until they are moved, a device and a journal that can fail."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from models.errors import OperatorFault, RigFault
from streaming.gate import Gate
from streaming.limits import Limits, Pattern, parse_limits
from streaming.matching import Decoding
from streaming.plan import Plan, simple_plan
from streaming.predictions import Prediction
from streaming.stimulators.stimulator import Capabilities, NotSent, Outcome, Status
from tests.streaming.test_trigger import TOML, prediction

DECODING = Decoding(
    source="live",
    participant="p07",
    rate_hz=1000.0,
    model="m@1",
    bundle_sha256="b" * 64,
    min_usable_channels=64,
    fitted_to="p07",
)


@dataclass
class Device:
    """Busy for 0.2 s after each pulse; keeps a log of its own."""

    rig: Rig
    capabilities: Capabilities = field(default_factory=lambda: Capabilities("fake"))
    armed: bool = False
    broken: str = ""
    refuses: bool = False
    fails_at_fire: bool = False
    log: list[tuple[float, str, Pattern]] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def arm(self, limits: Limits) -> None:
        if limits.simulated_only and not self.capabilities.simulated:
            raise OperatorFault("simulated only")
        if self.broken:
            raise RigFault(self.broken)
        self.armed = True

    def fire(self, pattern: Pattern, trigger_id: str, marker: str) -> None:
        if not self.armed or self.refuses:
            raise NotSent("the device refuses")
        self.log.append((self.rig.now, trigger_id, pattern))
        self.markers.append(marker)
        if self.fails_at_fire:
            self.broken = "it broke"
            self.outcomes.append(Outcome(trigger_id, "unknown", self.rig.now))
            raise RigFault("it broke")
        self.outcomes.append(Outcome(trigger_id, "delivered", self.rig.now))

    def status(self) -> Status:
        told, self.outcomes = tuple(self.outcomes), []
        if self.broken:
            return Status("fault", self.broken, told)
        if not self.armed:
            return Status("not_armed", "", told)
        busy = self.log and self.rig.now - self.log[-1][0] < 0.2
        return Status("busy" if busy else "idle", "", told)

    def disarm(self) -> None:
        self.armed = False

    def close(self) -> None:
        self.armed = False


@dataclass
class FakeJournal:
    healthy: bool = True
    ids_left: int = 1_000_000
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    taken: int = 0

    @property
    def next_id(self) -> str | None:
        return f"run-{self.taken}" if self.ids_left else None

    def take_id(self) -> str | None:
        taken = self.next_id
        if taken is not None:
            self.ids_left, self.taken = self.ids_left - 1, self.taken + 1
        return taken

    def write(self, kind: str, fields: dict[str, Any]) -> bool:
        self.rows.append((kind, fields))
        return True

    def kinds(self, *kinds: str) -> list[dict[str, Any]]:
        return [fields for kind, fields in self.rows if kind in kinds]


class Rig:
    """A gate with its clocks at `now`, and predictions every 10 ms of them."""

    def __init__(self, extra: str = "", plan: Plan | None = None, capabilities: Capabilities | None = None) -> None:
        self.now = 1000.0
        self.text = TOML + extra
        self.device, self.journal = Device(self), FakeJournal()
        if capabilities is not None:
            self.device.capabilities = capabilities
        self.announced: list[str] = []
        self.happened: list[tuple[str, dict[str, Any]]] = []
        self._plan = plan
        self.hop = 0
        self.token = ""
        self.restart()
        self.gate.decoding(DECODING)

    def restart(self, pulses_ago: tuple[tuple[float, int | None, float], ...] = ()) -> None:
        self.gate = Gate(
            self.limits,
            self.device,
            self.journal,
            make_plan=lambda limits: self._plan or simple_plan(limits),
            pulses_ago=pulses_ago,
            announce=self.announced.append,
            happened=lambda kind, fields: self.happened.append((kind, fields)),
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )

    def limits(self) -> Limits:
        return parse_limits(self.text.encode())

    @property
    def state(self) -> str:
        return self.gate.engine.state.value

    def arm(self) -> Rig:
        confirm, _ = self.gate.request(self.limits().sha256)
        self.token = self.gate.confirm(confirm)
        return self

    def prediction(self, probability: float | None, age_s: float, **changes: Any) -> Prediction:
        told = prediction(self.hop, probability)
        return told._replace(sample_time=self.now - age_s, **changes)

    def push(self, probability: float | None = 0.9, age_s: float = 0.003, step_s: float = 0.01, **changes: Any) -> bool:
        """One hop later; whether a pulse left."""
        self.hop += 1
        self.now += step_s
        return self.gate.predict(self.prediction(probability, age_s, **changes)) is not None

    def run(self, seconds: float, probability: float = 0.1, beat: bool = True) -> int:
        """Predictions for so long, with heartbeats and the watch at 2 and 10 Hz; how many pulses left."""
        pulses = 0
        for i in range(round(seconds * 100)):
            if beat and i % 50 == 0 and self.state in ("ARMED", "REFRACTORY"):
                with contextlib.suppress(OperatorFault):  # it may be over by now
                    self.gate.heartbeat(self.token)
            if i % 10 == 0:
                self.gate.watch()
            pulses += self.push(probability)
        return pulses
