"""What strikes: each fault of the schedule as a function of the soak that runs. All of them end what they began."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Fault
from server.running import ask, child
from server.soak import misfits
from server.soak.rig import Rig
from server.soak.supervised import Supervised
from server.soak.witness import Witness

REFUSED_WITHIN_S = 20.0  # a second instance
SPINS = "while True: pass"
CORES = 2
OTHER = "default@2"  # the bundle that goes into shadow


@dataclass(frozen=True, slots=True)
class Stage:
    """The soak as faults see it."""

    port: int
    config: Path
    limits: Path
    rig: Rig
    service: Supervised
    witness: Witness
    draw: random.Random


def strike(stage: Stage, kind: str, lasts_s: float) -> dict[str, Any]:
    """Carry it out, for so long. Returns what is to be told of it."""
    return BY_KIND[kind](stage, lasts_s) or {}


def _garbage(stage: Stage, lasts_s: float) -> dict[str, Any]:
    return {"connections": misfits.garbage(stage.port, lasts_s, stage.draw)}


def _come_and_go(stage: Stage, lasts_s: float) -> dict[str, Any]:
    return {"subscribers": misfits.come_and_go(stage.port, lasts_s, stage.draw)}


def _silent(stage: Stage, lasts_s: float) -> None:
    misfits.silence(stage.port, lasts_s)


def _pause_source(stage: Stage, lasts_s: float) -> None:
    stage.rig.pause()
    time.sleep(lasts_s)
    stage.rig.go_on()


def _kill_source(stage: Stage, lasts_s: float) -> None:
    stage.rig.kill()
    time.sleep(lasts_s)
    stage.rig.start()


def _edit_limits(stage: Stage, lasts_s: float) -> dict[str, Any]:
    """To nothing that could be armed; then as before, to the byte."""
    live, before = stage.witness.last("trigger"), stage.limits.read_bytes()
    stage.limits.write_bytes(before + b"\nelectrodes_for_lunch = [1]\n")
    time.sleep(lasts_s)
    stage.limits.write_bytes(before)
    return {"state": live}


def _shadow_bundle(stage: Stage, lasts_s: float) -> dict[str, Any]:
    """Not while armed; whatever it says, it is an answer."""
    try:
        ask(stage.port, "POST", "/v1/trigger/disarm", {"reason": "another bundle"})
        ask(stage.port, "POST", f"/v1/models/{OTHER}/activate", {"shadow_s": max(2.0, lasts_s / 2)})
        said = "begun"
    except Fault as fault:
        said = str(fault)
    time.sleep(lasts_s)
    with suppress(Fault):
        ask(stage.port, "POST", "/v1/models/drop", {})
    return {"said": said}


def _fill_disk(stage: Stage, lasts_s: float) -> dict[str, Any]:
    live = stage.witness.last("trigger")
    stage.service.let_write(False)
    time.sleep(lasts_s)
    stage.service.let_write(True)
    return {"state": live}


def _mask(stage: Stage, lasts_s: float) -> None:
    with suppress(Fault):
        ask(stage.port, "PUT", "/v1/channels", {"masked": sorted(stage.draw.sample(range(1, 97), 20))})
    time.sleep(lasts_s)
    with suppress(Fault):
        ask(stage.port, "PUT", "/v1/channels", {"masked": []})


def _end_service(stage: Stage, lasts_s: float) -> None:
    stage.service.ask_to_end()


def _kill_service(stage: Stage, lasts_s: float) -> None:
    stage.service.kill()


def _hang(stage: Stage, lasts_s: float) -> None:
    stage.service.hang()


def _take_cores(stage: Stage, lasts_s: float) -> None:
    with ExitStack() as stack:
        for _ in range(CORES):
            stack.enter_context(child("-c", SPINS))
        time.sleep(lasts_s)


def _second(stage: Stage, lasts_s: float) -> dict[str, Any]:
    """On the same port and journal: it must be refused, in one line."""
    command = [sys.executable, "-m", "server.cli", "serve", "--config", str(stage.config)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REFUSED_WITHIN_S)
    except subprocess.TimeoutExpired:
        return {"status": None, "said": "it ran"}
    return {"status": done.returncode, "said": done.stderr.strip()}


def _pause_service(stage: Stage, lasts_s: float) -> None:
    """As a machine that sleeps."""
    stage.service.signal(signal.SIGSTOP)
    time.sleep(lasts_s)
    stage.service.signal(signal.SIGCONT)


BY_KIND: dict[str, Callable[[Stage, float], dict[str, Any] | None]] = {
    "garbage": _garbage,
    "comers and goers": _come_and_go,
    "silent clients": _silent,
    "source paused": _pause_source,
    "source killed": _kill_source,
    "limits edited": _edit_limits,
    "bundle in shadow": _shadow_bundle,
    "disk full": _fill_disk,
    "channels masked": _mask,
    "service told to end": _end_service,
    "service killed": _kill_service,
    "inference hangs": _hang,
    "cores taken": _take_cores,
    "second instance": _second,
    "service paused": _pause_service,
}
