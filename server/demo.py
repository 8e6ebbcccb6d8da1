"""The demonstration: a simulated participant in a process of its own, as a rig would be, and the service beside it."""

from __future__ import annotations

import os
import subprocess
import sys

from server.settings import load
from server.wiring import serve


def demo(port: int | None, seed: int, model: str | None) -> None:
    """Run both until Ctrl-C.

    Raises:
        Fault: as `serve`.
    """
    name = f"PhospheneDemo-{os.getpid()}"  # so that neither a rig nor another demonstration nearby is mistaken for it
    settings = load(None, source=f"lsl:name='{name}'", events=f"name='{name}-events'", port=port, model=model)
    participant = subprocess.Popen(
        [sys.executable, "-m", "server.cli", "simulate", f"--name={name}", f"--events={name}-events", f"--seed={seed}"]
    )
    try:
        serve(settings)
    finally:
        participant.terminate()
        try:
            participant.wait(2.0)
        except subprocess.TimeoutExpired:
            participant.kill()
            participant.wait()
