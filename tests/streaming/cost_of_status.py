"""How long the trigger's status holds the gate's lock, for which a prediction may have to wait:
python -m tests.streaming.cost_of_status

An armed gate with the simulated device, and limits of one electrode or of all 96. Predictions and statuses take turns
on one thread, so that neither disturbs the other's figure; the service builds one five times a second for the page,
twice for /v1/status, and at each transition. Wall time, and the thread's own processor time, which a busy machine does
not lengthen.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from streaming.stimulators.simulated import SimulatedStimulator
from tests.streaming.gate_fakes import DECODING, Rig

TURNS = 5000
A_SECOND = 7  # statuses that the service builds by itself


def measured(electrodes: int) -> dict[str, list[tuple[int, int]]]:
    """Nanoseconds of (wall, processor) of each call."""
    rig = Rig()
    listed = ", ".join(str(e + 1) for e in range(electrodes))
    rig.text = rig.text.replace("electrodes = [34, 35]", f"electrodes = [{listed}]")
    assert len({pattern.electrode for pattern in rig.limits().patterns}) == electrodes
    device = SimulatedStimulator(clock=lambda: rig.now)
    rig.device = device  # type: ignore[assignment]
    rig.restart()
    rig.gate.decoding(DECODING)
    rig.push(0.1)
    rig.arm()
    rig.gate.engine.real.day_uc.update({electrode + 1: 1.0 for electrode in range(electrodes)})  # told by electrode
    times: dict[str, list[tuple[int, int]]] = {"predict": [], "status": []}
    for turn in range(TURNS):
        rig.hop += 1
        rig.now += 0.01
        if turn % 50 == 0:
            rig.gate.heartbeat(rig.token)
        one = rig.prediction(0.1, 0.003)
        times["predict"].append(_timed(partial(rig.gate.predict, one)))
        times["status"].append(_timed(rig.gate.status))
    assert rig.state == "ARMED"
    return times


def _timed(call: Callable[[], object]) -> tuple[int, int]:
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - wall, time.thread_time_ns() - cpu


def main() -> None:
    sys.setswitchinterval(2e-4)
    gc.disable()
    print(f"{'':28}{'wall p50':>10}{'p99':>8}{'cpu p50':>10}{'p99':>8}   µs")
    for electrodes in (1, 96):
        for name, times in measured(electrodes).items():
            us = np.array(times) / 1e3
            (w50, c50), (w99, c99) = np.percentile(us, (50, 99), axis=0)
            print(f"{f'{name}, electrodes: {electrodes}':28}{w50:10.1f}{w99:8.1f}{c50:10.1f}{c99:8.1f}")
            if name == "status":
                print(f"  so {A_SECOND} a second hold the lock for {A_SECOND * w50 / 1e4:.3f} % of the time")


if __name__ == "__main__":
    main()
