"""Each driver on a bench: a clock that only tests move, and the far end, where what really left can be counted."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from streaming.limits import Limits, parse_limits
from streaming.stimulators.lsl import LslSettings, LslStimulator
from streaming.stimulators.markers import TriggerForm
from streaming.stimulators.serial import SerialSettings, SerialStimulator
from streaming.stimulators.simulated import Faults, SimulatedStimulator
from streaming.stimulators.stimulator import Outcome, Steps
from streaming.stimulators.udp import UdpSettings, UdpStimulator

ACKNOWLEDGED, REFUSED = 6, 21


def limits(currents: str = "10.0", electrodes: str = "34", simulated_only: bool = False, more: str = "") -> Limits:
    text = f"""
        name = "bench"
        participant = "p07"
        simulated_only = {str(simulated_only).lower()}
        electrodes = [{electrodes}]
        currents_ua = [{currents}]
        [pulse]
        phase_us = 170
        interphase_us = 60
        frequency_hz = 300
        pulses = 50
        [limits]
        current_ua = 20.0
        charge_per_phase_nc = 3.4
        {more}
    """
    return parse_limits(text.encode())


def marker(trigger_id: str, found: Limits) -> str:
    return TriggerForm("trigger", trigger_id, found.patterns[0], found.sha256).fill(1, 0.8, 1.0)


def until(happens: Callable[[], Any], seconds: float = 5.0) -> Any:
    """What `happens` says once it says anything; for threads and sockets of the real world."""
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end, "did not happen"
        threading.Event().wait(0.001)
    return found


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """`left()` is what came out of the driver so far, as bytes or text, one for each pulse."""

    refuses = True  # whether the far end can say no
    acknowledged_within_s = 0.1

    def __init__(self, **steps: float) -> None:
        self.clock = Clock()
        self.stimulator: Any = None

    def left(self) -> list[Any]:
        raise NotImplementedError

    def answer(self, trigger_id: str, delivered: bool = True) -> None:
        """The far end's word; does nothing where it has none."""

    def outcomes(self) -> list[Outcome]:
        return until(lambda: list(self.stimulator.status().outcomes))

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    def silence(self) -> None:
        """From now on nothing is acknowledged."""

    def close(self) -> None:
        self.stimulator.close()


class FakeOutlet:
    def __init__(self) -> None:
        self.pushed: list[str] = []
        self.announced: list[str] = []
        self.consumers, self.broken, self.closed = True, False, 0
        self.others: tuple[str, ...] = ()

    def push(self, text: str) -> bool:
        if self.broken:
            raise RuntimeError("liblsl is gone")
        if self.consumers:
            self.pushed.append(text)
        return self.consumers

    def announce(self, text: str) -> None:
        self.announced.append(text)

    def has_consumers(self) -> bool:
        return self.consumers

    def rivals(self) -> tuple[str, ...]:
        return self.others

    def close(self) -> None:
        self.closed += 1


class LslBench(Bench):
    refuses = False
    acknowledged_within_s = 0.5

    def __init__(self, acknowledges: bool = True, **steps: float) -> None:
        super().__init__()
        self.outlet = FakeOutlet()
        self.stimulator = LslStimulator(LslSettings(acknowledges=acknowledges, **steps), self.outlet, self.clock)

    def left(self) -> list[Any]:
        return self.outlet.pushed

    def answer(self, trigger_id: str, delivered: bool = True) -> None:
        self.stimulator.marked(trigger_id)


class DeafLslBench(LslBench):
    def __init__(self, **steps: float) -> None:
        super().__init__(acknowledges=False, **steps)


COMMANDS = {"e34-10uA": 65, "e34-20uA": 66, "e34-12uA": 67, "e34-14uA": 68, "e34-11uA": 69}


class PtyBench(Bench):
    """A pseudo-terminal: the box is its other end."""

    def __init__(self, acknowledges: bool = True, **steps: float) -> None:
        super().__init__()
        self.box, device = pty.openpty()
        os.set_blocking(self.box, False)
        self.path = os.ttyname(device)
        self.device: int | None = device
        settings = SerialSettings(
            port=self.path, commands=COMMANDS, acknowledgement=ACKNOWLEDGED if acknowledges else None, **steps
        )
        self.stimulator = SerialStimulator(settings, clock=self.clock)
        self._heard: list[int] = []

    def left(self) -> list[Any]:
        with contextlib.suppress(BlockingIOError):
            self._heard += os.read(self.box, 100)
        return self._heard

    def answer(self, trigger_id: str, delivered: bool = True) -> None:
        os.write(self.box, bytes([ACKNOWLEDGED if delivered else REFUSED]))

    def unplug(self) -> None:
        for end in (self.box, self.device):
            if end is not None:
                os.close(end)
        self.device = None

    def close(self) -> None:
        super().close()
        if self.device is not None:
            self.unplug()


class DeafPtyBench(PtyBench):
    def __init__(self, **steps: float) -> None:
        super().__init__(acknowledges=False, **steps)

    def answer(self, trigger_id: str, delivered: bool = True) -> None: ...


class FakePort:
    """Remembers every byte and edge. `broken`: unplugged; `full`: takes nothing."""

    def __init__(self) -> None:
        self.written = b""
        self.edges: list[bool] = []
        self.broken = self.full = False
        self.closed = 0
        self.low = threading.Event()
        self.low.set()
        self._nothing = threading.Event()

    def _check(self) -> None:
        if self.broken:
            raise OSError(5, "Input/output error")

    def write(self, command: bytes) -> bool:
        self._check()
        if not self.full:
            self.written += command
        return not self.full

    def read(self) -> bytes:
        self._nothing.wait(0.01)
        return b""

    def flush_input(self) -> None:
        self._check()

    def set_line(self, line: str, high: bool) -> None:
        self._check()
        self.edges.append(high)
        self.low.clear() if high else self.low.set()

    def close(self) -> None:
        self.closed += 1


class LineBench(Bench):
    """The DTR line of a fake port."""

    def __init__(self, **steps: float) -> None:
        super().__init__()
        self.port = FakePort()
        settings = SerialSettings(port="fake", line="dtr", pulse_ms=1, **steps)
        self.stimulator = SerialStimulator(settings, lambda settings: self.port, self.clock)

    def left(self) -> list[Any]:
        return [edge for edge in self.port.edges if edge]

    def pass_time(self, seconds: float) -> None:
        assert self.port.low.wait(5)
        super().pass_time(seconds)


class UdpBench(Bench):
    def __init__(self, acknowledges: bool = True, **steps: float) -> None:
        super().__init__()
        self.program = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.program.bind(("127.0.0.1", 0))
        self.program.setblocking(False)
        port = self.program.getsockname()[1]
        settings = UdpSettings(host="127.0.0.1", port=port, acknowledges=acknowledges, **steps)
        self.stimulator = UdpStimulator(settings, self.clock)
        self.states: list[str] = []
        self._heard: list[Any] = []
        self.sender: Any = None

    def left(self) -> list[Any]:
        while True:
            try:
                text, self.sender = self.program.recvfrom(4096)
            except BlockingIOError:
                return self._heard
            found = orjson.loads(text)
            if found["event"] == "trigger":
                self._heard.append(text.decode())
            else:
                self.states.append(found["event"])

    def answer(self, trigger_id: str, delivered: bool = True) -> None:
        self.left()
        self.program.sendto(orjson.dumps({"trigger_id": trigger_id, "ok": delivered, "code": -123}), self.sender)

    def close(self) -> None:
        super().close()
        self.program.close()


class SimulatedBench(Bench):
    """It answers by itself."""

    def __init__(self, **steps: float) -> None:
        super().__init__()
        self.stimulator = SimulatedStimulator(steps=Steps(**steps), clock=self.clock)

    def left(self) -> list[Any]:
        return self.stimulator.log

    def silence(self) -> None:
        self.stimulator.faults = Faults(loses_acknowledgement=True)


BENCHES: dict[str, Callable[..., Bench]] = {
    "lsl": LslBench,
    "lsl without events": DeafLslBench,
    "serial": PtyBench,
    "serial without answers": DeafPtyBench,
    "serial line": LineBench,
    "udp": UdpBench,
    "simulated": SimulatedBench,
}
