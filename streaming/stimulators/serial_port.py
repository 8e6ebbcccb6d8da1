"""A serial port as a stimulator needs it: bytes and two lines that never wait. pyserial is loaded here only."""

from __future__ import annotations

from typing import Literal, Protocol

from models.errors import OperatorFault, RigFault

Line = Literal["dtr", "rts"]
READ_S = 0.1


class Port(Protocol):
    """A port that is open. Everything may raise OSError: the device is gone."""

    def write(self, command: bytes) -> bool:
        """Hand over a byte; False where the one before still waits and this one was not taken."""

    def read(self) -> bytes:
        """A byte, or none after 0.1 s."""

    def flush_input(self) -> None:
        """Forget what came unasked."""

    def set_line(self, line: Line, high: bool) -> None:
        """Assert DTR or RTS, or release it."""

    def close(self) -> None: ...


class SerialPort:
    """A port of this machine, locked for this process; both lines are released.

    Raises:
        OperatorFault: pyserial is not installed. RigFault: no such port, no right to it, or another process has it.
    """

    def __init__(self, device: str, baud: int) -> None:
        try:
            import serial
        except ImportError as error:
            raise OperatorFault("serial: pyserial is not installed; pip install 'phosphene[serial]'") from error
        # The port is named after the lines are low, so that opening leaves them so; a write timeout of 0: never wait.
        self._port = serial.Serial(baudrate=baud, timeout=READ_S, write_timeout=0, exclusive=True)
        self._port.dtr = self._port.rts = False
        self._port.port = device
        try:
            self._port.open()
        except (OSError, ValueError) as error:
            raise RigFault(
                f"serial {device}: cannot be opened ({error}); is it plugged in, may this user write to it, does "
                "another program hold it?"
            ) from error

    def write(self, command: bytes) -> bool:
        # asked first: with a full buffer, pyserial would try again for ever
        return self._port.out_waiting == 0 and bool(self._port.write(command) == len(command))

    def read(self) -> bytes:
        return bytes(self._port.read(1))

    def flush_input(self) -> None:
        try:
            self._port.reset_input_buffer()
        except Exception as error:  # termios has an error of its own, which not every system knows
            raise OSError(str(error)) from error

    def set_line(self, line: Line, high: bool) -> None:
        setattr(self._port, line, high)

    def close(self) -> None:
        self._port.close()
