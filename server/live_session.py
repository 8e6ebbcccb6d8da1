"""One session of `phosphene experiment --live`, as a laboratory would have it: three processes, in real time.

    simulate     the participant: broadband over LSL, obeys the trigger stream, answers with stim and report markers
    serve        the service: limits, journal, plan, the LSL stimulator that only a simulated participant obeys
    this one     the operator: arms over HTTP, renews the lease, looks at the state, and stops it when its time is over

Disarmed by something that passed (a stream that paused, a machine that was held up), it is armed again, and counted. A
fault is for a person to look at: the session ends there, with what it has.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import msgpack
from pylsl import local_clock

from models.errors import Fault, OperatorFault, RigFault
from server.bench.client import Client
from server.bench.measure import NoiseFloor, percentiles
from server.journal.read import rows
from server.running import arm, ask, child, free_port, status
from streaming.states import State

if TYPE_CHECKING:
    from training.experiment_sessions import Job
    from training.live_session import Seen

READY_S = 120.0  # for both to start, where kernels must be compiled first
RENEW_S = 0.5
ANSWERED_S = 2.5  # the participant answers within 2
SPARE_S = 600.0  # beyond the session, after which a participant that was forgotten ends by itself


def live_session(job: Job, folder: Path, progress: Callable[[str], None]) -> Seen:
    """Runs the session of `job`, whose limits.toml is in `folder`; journal, logs and settings come to lie beside it.

    Raises:
        RigFault: a process that ended, or a service that could not be armed.
    """
    from training.live_session import Seen

    minutes = job.settings.minutes
    assert minutes is not None
    assert job.limits is not None
    port, journal, given = free_port(), folder / "session.journal", folder / "given.jsonl"
    with ExitStack() as stack:
        heard = Heard(port)
        stack.callback(heard.close)  # the last of the end
        operator = Operator(port, _begin(stack, job, folder, port), job.limits.budget.refractory_s)
        operator.arm()
        progress(f"armed, for {minutes:g} min or until the plan is done")
        began = local_clock()
        with NoiseFloor() as floor:
            told = operator.watch(60 * minutes, progress)
        ended = local_clock()
        time.sleep(ANSWERED_S)
        skipped = status(port).get("skipped_windows")
    trains = [json.loads(line) for line in given.read_text().splitlines()] if given.exists() else []
    told["latency"] = _latency(trains, [one for one in heard.windows if began <= one[0] <= ended])
    told["latency"] |= {"skipped_windows": skipped, "noise_floor": floor.percentiles_ms()}
    return Seen(
        journal=[(row.kind, row.load()) for row in rows(journal)],
        given=trains,
        predictions=[(at, probability) for at, probability, *_ in heard.windows],
        began=began,
        ended=ended,
        told={"armed_minutes": (ended - began) / 60, **told},
    )


# The operator --------------------------------------------------------------------------------------------------------


class Operator:
    """Whoever stands by. `alive` raises where a process has ended; `rest_s` is waited before arming again: what was
    under way when it was disarmed counts as delivered."""

    def __init__(self, port: int, alive: Callable[[], None], rest_s: float) -> None:
        self._port, self._alive, self._rest_s = port, alive, rest_s
        self._lease = ""

    def arm(self) -> None:
        """As soon as nothing forbids it.

        Raises:
            RigFault: not within two minutes.
        """
        until, problem = time.monotonic() + READY_S, ""
        while time.monotonic() < until:
            self._alive()
            try:
                if problems := ask(self._port, "GET", "/v1/trigger")["problems"]:
                    raise OperatorFault("; ".join(problems))
                self._lease = arm(self._port)
                return
            except Fault as fault:  # not there yet, or not ready
                problem = str(fault)
            time.sleep(RENEW_S)
        raise RigFault(f"the service could not be armed within {READY_S:g} s: {problem}")

    def watch(self, seconds: float, progress: Callable[[str], None]) -> dict[str, Any]:
        """Renew the lease until the time is over, the plan done or a fault latched, then disarm. Returns how it ended,
        and by what it was interrupted."""
        began, ended, said = time.monotonic(), "its time was over", 1
        interruptions: list[dict[str, Any]] = []
        while (passed_s := time.monotonic() - began) < seconds:
            time.sleep(RENEW_S)
            self._alive()
            trigger = ask(self._port, "GET", "/v1/trigger")
            if trigger["state"] == State.FAULT:
                ended = f"of a fault: {trigger['because']}"
                break
            if (plan := trigger["plan"]) and plan["next"] >= plan["trials"]:
                ended = "its plan was done"
                break
            if trigger["state"] == State.DISARMED:
                interruptions.append({"at_s": passed_s, "because": trigger["because"]})
                progress(f"disarmed: {trigger['because']}; arming again")
                time.sleep(self._rest_s)
                self.arm()
                continue
            with suppress(OperatorFault):  # disarmed a moment ago: the next look tells
                ask(self._port, "POST", "/v1/trigger/heartbeat", {"lease_token": self._lease})
            if passed_s >= 60 * said:
                progress(f"{said} min: {_so_far(trigger)}")
                said += 1
        ask(self._port, "POST", "/v1/trigger/disarm", {"reason": ended})
        return {"ended": ended, "interruptions": interruptions}


def _so_far(trigger: dict[str, Any]) -> str:
    arms = (f"{arm['perceived']} of {arm['answered']} {arm['arm']}" for arm in trigger["hits"])
    return f"{trigger['plan']['next']} trials; perceived " + ", ".join(arms)


class Heard:
    """What the service says to anyone who listens: of each window the time of its newest sample, the probability, and
    the milliseconds from that sample to the prediction, and those of the inference alone."""

    def __init__(self, port: int) -> None:
        self.windows: list[tuple[float, float | None, float, float]] = []
        self._url = f"ws://127.0.0.1:{port}/v1/predictions?format=msgpack&fields=probability"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="heard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The service has ended."""
        self._ended.set()
        self._thread.join(RENEW_S)

    def _listen(self) -> None:
        while not self._ended.wait(RENEW_S):
            with suppress(OSError, OperatorFault), Client(self._url) as client:
                while True:
                    self._hear(msgpack.unpackb(client.receive()))

    def _hear(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "prediction":
            took = frame["latency_ms"]
            self.windows.append((frame["sample_time"], frame["probability"], took["total"], took["inference"]))


# The two other processes ---------------------------------------------------------------------------------------------


def _begin(stack: ExitStack, job: Job, folder: Path, port: int) -> Callable[[], None]:
    """Both, ended with `stack`: the service first, so that it disarms while the participant still listens. What they
    say goes into a log each. Returns what raises RigFault where one has ended."""
    name, participant = f"PhospheneExperiment-{os.getpid()}", job.participant
    assert job.settings.minutes is not None
    (folder / "service.toml").write_text(_service(job, name))
    commands = {
        "simulate": {
            "name": name,
            "events": f"{name}-events",
            "triggers": f"{name}-triggers",
            "protocol": "rest",
            "seed": participant.seed,
            "day": participant.day,
            "session": participant.session,
            "seconds": 60 * job.settings.minutes + SPARE_S,
            "given": folder / "given.jsonl",
        },
        "serve": {
            "config": folder / "service.toml",
            "limits": folder / "limits.toml",
            "journal": folder / "session.journal",
            "port": port,
        },
    }
    children: dict[str, Popen[bytes]] = {}
    for command, options in commands.items():
        said = stack.enter_context((folder / f"{command}.log").open("wb"))
        flags = [f"--{option}={value}" for option, value in options.items()]
        children[command] = stack.enter_context(child("-m", "server.cli", command, *flags, stderr=said))

    def alive() -> None:
        for command, process in children.items():
            if process.poll() is not None:
                lines = (folder / f"{command}.log").read_text(errors="replace").split("\n")
                last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
                raise RigFault(f"phosphene {command} ended with status {process.returncode}: {last}")

    return alive


def _service(job: Job, name: str) -> str:
    """The service's settings, as TOML: names, numbers and lists of names are written as in JSON."""
    plan, thresholds, arms = job.plan, job.thresholds, job.settings.arms
    assert plan is not None
    assert thresholds is not None
    top = {
        "source": f"lsl:name='{name}'",
        "events": f"name='{name}-events'",
        "stimulator": f"lsl?simulated=true&name={name}-triggers",
        "bundles": job.bundle.parent.parent.resolve().as_posix(),
        "model": f"{job.bundle.parent.name}@{job.bundle.name}",
    }
    told = {name: getattr(thresholds, name) for name in ("p_on", "p_off", "dwell_hops", "smoothing_s")}
    planned = {
        "arms": list(arms),
        "trials_per_arm": len(plan.trials) // len(arms),
        "sham_fraction": job.settings.sham,
        "seed": plan.seed,
    }
    parts = [_lines(top), "[thresholds]", _lines(told), "[plan]", _lines(planned)]
    return "\n".join(parts) + "\n"


def _lines(values: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())


# Figures -------------------------------------------------------------------------------------------------------------


def _latency(trains: list[dict[str, Any]], windows: list[tuple[float, float | None, float, float]]) -> dict[str, Any]:
    """From the newest sample to the moment at which the trigger left, and of each window to its prediction."""
    known = [one for one in windows if one[1] is not None]
    return {
        "unit": "ms",
        "pulses": len(trains),
        "sample_to_trigger": _of([1e3 * (train["left"] - train["sample_time"]) for train in trains]),
        "trigger_to_train": _of([1e3 * (train["t_mono"] - train["left"]) for train in trains]),
        "windows": len(known),
        "sample_to_prediction": _of([total for *_, total, _ in known]),
        "inference": _of([inference for *_, inference in known]),
    }


def _of(values: list[float]) -> dict[str, float] | None:
    return percentiles(values) if values else None
