"""Stimulation by a box on a serial line that shapes the pulse itself.

Either one byte names the pattern (`commands`), and the box may answer with a byte; or a line of the port (DTR or RTS)
is the trigger: a rising edge fires, a thread lets it fall after `pulse_ms`. A line can say when and not what, so then
the limits may list one pattern only. Low is safe: the line is let go on disarm, on close, on any failure, at the
interpreter's end; and when the process is killed, by the kernel as it closes the port.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field, model_validator

from models.errors import OperatorFault, RigFault
from streaming.limits import Limits, Pattern
from streaming.stimulators.serial_port import Line, Port, SerialPort
from streaming.stimulators.shots import Shots
from streaming.stimulators.stimulator import NotSent, Status, Steps

Byte = Annotated[int, Field(ge=0, le=255)]
CLOSES_S = 0.25  # that the port may take for the last byte


class SerialSettings(Steps):
    """The port, and what the box understands.

    commands: name of a pattern (e34-20uA) → the byte that fires it. acknowledgement: the byte that the box answers when
    the pulse was delivered; any other is taken for a refusal. disarm: a byte that tells the box that it is over.
    """

    port: str
    baud: int = Field(default=115_200, ge=300, le=12_000_000)
    commands: Mapping[str, Byte] = {}
    acknowledgement: Byte | None = None
    disarm: Byte | None = None
    line: Line | None = None
    pulse_ms: float = Field(default=2.0, ge=1.0, le=5.0)

    @model_validator(mode="after")
    def _one_way(self) -> SerialSettings:
        if bool(self.commands) == bool(self.line):
            raise ValueError("expected either a byte for each pattern (e34-20uA=65) or a line (line=dtr), not both")
        used = [*self.commands.values(), *([] if self.disarm is None else [self.disarm])]
        if len(set(used)) < len(used):
            raise ValueError("found one byte with two meanings, expected a byte for each pattern and one for disarm")
        return self


def _open(settings: SerialSettings) -> Port:
    return SerialPort(settings.port, settings.baud)


class SerialStimulator:
    """A Stimulator. One thread hears the port (answers, and that the device is gone), one lets the line fall."""

    def __init__(
        self,
        settings: SerialSettings,
        open_port: Callable[[SerialSettings], Port] = _open,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capabilities = settings.capabilities("serial", acknowledges=settings.acknowledgement is not None)
        self._settings, self._clock = settings, clock
        self._shots = Shots(self.capabilities)
        self._lock = threading.RLock()
        self._stop, self._raised = threading.Event(), threading.Event()
        self._high = self._owed = False  # the line; the byte that tells the box that it is over
        self._port = open_port(settings)
        loops = (self._hear, self._let_fall) if settings.line else (self._hear,)
        self._threads = [threading.Thread(target=loop, name=f"serial{loop.__name__}", daemon=True) for loop in loops]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def arm(self, limits: Limits) -> None:
        with self._lock:
            self._check_commands(limits)
            self._shots.arm(limits, self._clock())
            try:
                self._low()
                self._owed = False
                self._port.flush_input()
            except OSError as error:
                self._shots.disarm()
                raise self._lost(error) from error

    def fire(self, pattern: Pattern, trigger_id: str, marker: str) -> None:
        with self._lock:
            if self._high:
                raise NotSent("stimulator serial: found the line still high, expected it low; nothing was sent")
            self._shots.begin(pattern, trigger_id, self._clock())
            try:
                taken = self._send(pattern)
            except OSError as error:
                raise self._lost(error) from error
            if not taken:
                self._shots.withdraw()
                self._shots.fail("it takes no bytes any more", self._clock())
                raise NotSent("stimulator serial: it takes no bytes any more; nothing was sent")
            self._shots.sent(self._clock())

    def status(self) -> Status:
        with self._lock:
            return self._shots.status(self._clock())

    def disarm(self) -> None:
        with self._lock:
            was_armed = self._shots.armed
            self._shots.disarm()
            try:
                self._low()
                self._owed = self._owed or (was_armed and self._settings.disarm is not None)
                self._tell_disarmed()
            except Exception as error:  # whatever it is: this is the way out
                self._lost(error)

    def close(self) -> None:
        atexit.unregister(self.close)
        self.disarm()
        give_up = time.monotonic() + CLOSES_S
        while self._owed and not self._shots.gone and time.monotonic() < give_up:
            time.sleep(0.005)
        self._stop.set()
        self._raised.set()
        for thread in self._threads:
            thread.join(1.0)
        with self._lock:
            self._shots.close()
            self._port.close()

    def _check_commands(self, limits: Limits) -> None:
        names = [pattern.name for pattern in limits.patterns]
        if self._settings.line and len(names) > 1:
            raise OperatorFault(
                f"limits {limits.name!r}: found {len(names)} patterns, expected one: the {self._settings.line} line "
                "cannot say which; list one, or give each a command byte"
            )
        if not self._settings.line and (silent := [name for name in names if name not in self._settings.commands]):
            raise OperatorFault(
                f"stimulator serial: found no command byte for {', '.join(silent[:6])}; name it (…?{silent[0]}=65)"
            )
        if len(set(names)) < len(names):
            raise OperatorFault(f"limits {limits.name!r}: found two patterns of one name, expected one for each byte")

    def _send(self, pattern: Pattern) -> bool:
        line = self._settings.line
        if line is None:
            return self._port.write(bytes([self._settings.commands[pattern.name]]))
        self._high = True  # before it is, so that whatever fails now lets it fall
        try:
            self._port.set_line(line, True)
        finally:
            self._raised.set()
        return True

    def _let_fall(self) -> None:
        while not self._stop.is_set():
            self._raised.wait()
            if not self._stop.is_set():
                time.sleep(self._settings.pulse_ms * 1e-3)
            with self._lock:
                self._raised.clear()
                try:
                    self._low()
                except OSError as error:
                    self._lost(error)

    def _low(self) -> None:
        """Let the line go. It counts as high until that has worked, and is tried again by whoever comes next."""
        if self._high and self._settings.line is not None:
            self._port.set_line(self._settings.line, False)
        self._high = False

    def _tell_disarmed(self) -> None:
        """The byte that is owed. Where the pulse's own still waits in the port, the next turn of `_hear` sends it."""
        if self._owed and self._settings.disarm is not None:
            self._owed = not self._port.write(bytes([self._settings.disarm]))

    def _hear(self) -> None:
        """Each byte of the box, until it is gone."""
        while not self._stop.is_set():
            try:
                answer = self._port.read()
                with self._lock:
                    self._tell_disarmed()
            except (OSError, ValueError) as error:
                with self._lock:
                    self._lost(error)
                return
            if answer and self.capabilities.acknowledges:
                with self._lock:
                    self._heard(answer[0])

    def _heard(self, answer: int) -> None:
        now = self._clock()
        delivered = answer == self._settings.acknowledgement
        if not self._shots.answered(delivered, now, why=f"answer {answer}") and self._shots.armed:
            self._shots.fail(f"found an answer ({answer}) to nothing, expected silence between pulses", now)

    def _lost(self, error: Exception) -> RigFault:
        """The device is gone for good, as a fault to raise."""
        self._shots.fail(f"the device is gone ({error})", self._clock(), gone=True)
        return RigFault(f"stimulator serial: {self._settings.port} is gone ({error}); plug it in and start anew")
