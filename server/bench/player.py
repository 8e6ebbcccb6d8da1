"""`phosphene replay` of one recording in a process of its own, and when its first sample was."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from server.running import child

REST_S = 1.0  # what is still on its way when the replay has ended


class Player:
    """Plays a recording, or its first `seconds`, as often as asked, under a stream name that nobody else has."""

    def __init__(
        self, recording: Path, stream: str | None = None, scale_uv: float | None = None, seconds: float = np.inf
    ) -> None:
        self.recording, self.seconds = recording, seconds
        self.name = f"Parity-{uuid.uuid4().hex[:12]}"
        self.events = f"{self.name}-events"
        self._arguments = ["replay", str(recording), "--name", self.name, "--events", self.events, "--wait"]
        self._arguments += ["--stream", stream] if stream is not None else []
        self._arguments += ["--scale-uv", str(scale_uv)] if scale_uv is not None else []

    @contextmanager
    def playing(self) -> Iterator[Running]:
        with phosphene(self._arguments) as process:
            yield Running(process, self.seconds)


class Running:
    """A replay under way. `t0`: the LSL time of sample 0, None while it waits for a listener."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._process, self._seconds = process, seconds
        self._until = np.inf
        self.t0: float | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"sample 0 at LSL time (\S+)", line):
                self._until = time.monotonic() + self._seconds
                self.t0 = float(found[1])

    @property
    def ended(self) -> bool:
        """The recording is over, or has played for as long as was asked."""
        return self._process.poll() is not None or time.monotonic() > self._until + REST_S


@contextmanager
def phosphene(arguments: list[str], settings: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command of ours as a child, ended with the block; its standard error is for the caller to read."""
    environment = os.environ | dict(settings or {})
    with child("-m", "server.cli", *arguments, stderr=subprocess.PIPE, text=True, env=environment) as process:
        yield process
