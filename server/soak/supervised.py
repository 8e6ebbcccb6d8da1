"""The service, as its supervisor has it: started again whenever it ends, each end written down with what it said.

It is `phosphene serve` with a bundle whose inference can be made to hang (server/bench/hang.py).
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pylsl import local_clock

AGAIN_S = 0.1  # before it is started again
LINES = 20  # of its last words
GAVE_UP = "the process ends"  # as the service says it of an inference that never came back
ENDS_S = 8.0


@dataclass(frozen=True, slots=True)
class Death:
    """`status` as Popen tells it, below zero a signal; `asked`: by which fault of ours, or by none; `said`: its last
    words."""

    at: float
    status: int
    asked: str
    said: str

    @property
    def reason(self) -> str:
        """Why, or nothing where nobody knows."""
        if self.asked == "killed":
            return "killed" if self.status == -signal.SIGKILL else ""
        if self.asked == "told to end":
            return "told to end" if self.status == 0 else ""
        return self.said if self.status == 1 and GAVE_UP in self.said else ""


class Supervised:
    """The service of a settings file."""

    def __init__(self, config: Path, folder: Path) -> None:
        self._config, self._cue, self._log = config, folder / "hang", folder / "serve.log"
        self.deaths: list[Death] = []
        self.starts: list[tuple[float, int]] = []  # when, and which process
        self.defects: list[str] = []  # lines that only a bug of ours says
        self._asked = ""
        self._ending = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def end(self) -> None:
        """For good, in order."""
        self._ending.set()
        self.signal(signal.SIGCONT)
        self.ask_to_end()
        self._thread.join(ENDS_S)
        if self.pid is not None:
            self.signal(signal.SIGKILL)
            self._thread.join(ENDS_S)

    def ask_to_end(self) -> None:
        self._asked = "told to end"
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        self._asked = "killed"
        self.signal(signal.SIGKILL)

    def hang(self) -> None:
        """Its inference, from the next window on."""
        self._cue.touch()

    def signal(self, one: signal.Signals) -> None:
        if (pid := self.pid) is not None:
            os.kill(pid, one)

    def let_write(self, may: bool) -> None:
        """Whether files may grow: without, every write to the disk fails as on a full one."""
        if (pid := self.pid) is not None:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if may else 0, hard))

    def _run(self) -> None:
        with self._log.open("a", buffering=1) as log:
            while not self._ending.is_set():
                self._asked = ""
                command = [sys.executable, "-m", "server.bench.hang", str(self._cue), "serve", "--config"]
                self._process = process = subprocess.Popen(
                    [*command, str(self._config)],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                )
                self.starts.append((local_clock(), process.pid))
                assert process.stderr is not None
                said = self._read(process.stderr, log)
                status = process.wait()
                self.deaths.append(Death(local_clock(), status, self._asked, said))
                with suppress(FileNotFoundError):
                    self._cue.unlink()
                self._ending.wait(AGAIN_S)

    def _read(self, stream: IO[str], log: IO[str]) -> str:
        """Until it ends; its last line, or the last of its last ones that says why it ends."""
        last: deque[str] = deque(maxlen=LINES)
        for line in stream:
            log.write(f"{time.time():.3f} {line}")
            last.append(line.strip())
            if "Traceback" in line or "a defect of Phosphene" in line:
                self.defects.append(line.strip())
        told = [line for line in last if line]
        return next((line for line in reversed(told) if GAVE_UP in line), told[-1] if told else "")
