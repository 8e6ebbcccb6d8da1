"""The participant: `phosphene simulate` in a process that can be paused, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ENDS_S = 3.0


class Rig:
    """`given`: the log of the trains that it gave, through all its lives."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.given = name, folder / "given.jsonl"
        self._log = folder / "simulate.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.given.touch()

    def start(self) -> None:
        names = {"name": self.name, "events": f"{self.name}-events", "triggers": f"{self.name}-triggers"}
        flags = [f"--{option}={value}" for option, value in {**names, "protocol": "rest", "given": self.given}.items()]
        command = [sys.executable, "-m", "server.cli", "simulate", *flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def end(self) -> None:
        if self._process is None:
            return
        self.go_on()
        self._process.terminate()
        try:
            self._process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, one: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, one)
