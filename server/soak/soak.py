"""`phosphene soak`: service, participant, operator and clients for as long as asked, faults by a seed, and the checks.

Everything is a process as it is in a laboratory, over LSL and HTTP; the service stands under a supervisor that starts
it again. What is left in the folder (journal, the rig's log of trains, what the service said) is what was judged.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pylsl import local_clock

from models.bundle import find_bundle, read_manifest, write_bundle
from models.errors import OperatorFault
from server.bench.measure import machine
from server.running import free_port, status, wait_for
from server.settings import PACKAGED
from server.soak import misfits
from server.soak.checks import Evidence, Struck, verdicts
from server.soak.faults import OTHER, Stage, strike
from server.soak.listener import Listener
from server.soak.operator import Operator
from server.soak.report import page
from server.soak.rig import Rig
from server.soak.schedule import Planned, schedule
from server.soak.supervised import Supervised
from server.soak.witness import Witness

STARTS_S = 90.0  # for both processes, where kernels must be compiled first
SETTLES_S = 1.0  # what is under way at the end
MEMORY_EVERY = 5  # scrapes: the report keeps the memory every ten seconds
DRIPS = 4  # clients that read a byte a second, all the time
LIMITS = Path(__file__).parents[1] / "demo_limits.toml"
SETTINGS = """
source = "lsl:name='{name}'"
events = "name='{name}-events'"
stimulator = "lsl?simulated=true&name={name}-triggers"
limits = {limits}
journal = {journal}
bundles = {bundles}
model = "default@1"
port = {port}
hold_s = 10
outlet = false
[thresholds]
p_on = 0.51
p_off = 0.5
dwell_hops = 1
[plan]
arms = ["favourable", "random"]
trials_per_arm = 10000
sham_fraction = 0.1
seed = {seed}
"""


def soak(minutes: float, seed: int, out: Path, tell: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Run, check, and write `out`/report.html and report.json; returns the numbers.

    Raises:
        OperatorFault: a folder that exists, or a service that does not start.
    """
    if out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    out.mkdir(parents=True)
    name, port = f"PhospheneSoak-{os.getpid()}", free_port()
    config, limits, journal = out / "service.toml", out / "limits.toml", out / "soak.journal"
    shutil.copy(LIMITS, limits)
    _two_bundles(out / "bundles")
    paths = {key: json.dumps(str(path)) for key, path in (("limits", limits), ("journal", journal))}
    bundles = json.dumps(str(out / "bundles"))
    config.write_text(SETTINGS.format(name=name, port=port, bundles=bundles, seed=seed, **paths))
    rig, service = Rig(name, out), Supervised(config, out)
    listener, witness, operator = Listener(port), Witness(port, service), Operator(port)
    floor = Floor()
    struck: list[Struck] = []
    with ExitStack() as stack:
        for one in (rig, service):
            stack.callback(one.end)
            one.start()
        tell("waiting for the service to run")
        wait_for(lambda: status(port).get("state") == "running", STARTS_S)
        for part in (floor, listener, witness, operator):
            stack.callback(part.end)
            part.start()
        dripping = threading.Event()
        stack.callback(dripping.set)
        for _ in range(DRIPS):
            threading.Thread(target=misfits.drip, args=(port, dripping), daemon=True).start()
        stage = Stage(port, config, limits, rig, service, witness, random.Random(seed))
        began = time.monotonic()
        for planned in schedule(60 * minutes, seed):
            time.sleep(max(0.0, began + planned.at_s - time.monotonic()))
            tell(f"{planned.at_s / 60:.1f} min: {planned.kind}")
            struck.append(_strike(stage, planned))
        time.sleep(max(0.0, began + 60 * minutes - time.monotonic()))
        operator.end()
        with suppress(OperatorFault):  # one that is just starting could not end in order
            wait_for(lambda: bool(status(port)), STARTS_S)
        time.sleep(SETTLES_S)
    given = [json.loads(line) for line in rig.given.read_text().splitlines()]
    seen = Evidence(struck, listener, witness, service, journal, given, rig.given, limits, floor.rows())
    found = {
        "machine": machine(),
        "minutes": minutes,
        "seed": seed,
        "armed": operator.armed,
        "faults_cleared": operator.cleared,
        "shadowed": operator.shadowed,
        "verdicts": verdicts(seen),
        "faults": [
            {"kind": one.kind, "at_s": one.began - struck[0].began, "s": one.ended - one.began, **one.told}
            for one in struck
        ],
        "memory": [(at - struck[0].began, pid, mib) for at, pid, mib in witness.memory[::MEMORY_EVERY]],
        "deaths": [
            {"at_s": one.at - struck[0].began, "status": one.status, "reason": one.reason, "said": one.said}
            for one in service.deaths
        ],
    }
    (out / "report.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    (out / "report.html").write_text(page(found))
    return found


def _strike(stage: Stage, planned: Planned) -> Struck:
    began = local_clock()
    told = strike(stage, planned.kind, planned.lasts_s)
    return Struck(planned.kind, planned.side, began, local_clock(), told)


def _two_bundles(repository: Path) -> None:
    """The one that ships as version 1, and once more as the next, to go into shadow."""
    source = find_bundle(PACKAGED, "default")
    manifest = read_manifest(source)
    files = {name: (source / name).read_bytes() for name in manifest.files}
    for version in (1, int(OTHER.rpartition("@")[2])):
        write_bundle(repository, manifest.model_copy(update={"version": version}), files)


class Floor:
    """How late the machine itself is: a thread that only sleeps and wakes. Rows of (moment, milliseconds)."""

    PERIOD_S = 0.01

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="noise-floor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(1.0)

    def rows(self) -> NDArray[np.float64]:
        return np.array(self._late)

    def _run(self) -> None:
        while not self._ended.is_set():
            due = time.perf_counter() + self.PERIOD_S
            time.sleep(self.PERIOD_S)
            self._late.append((local_clock(), (time.perf_counter() - due) * 1e3))
