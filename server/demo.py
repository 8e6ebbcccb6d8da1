"""The demonstration: a simulated participant in a process of its own, as a rig would be, and the service beside it.

It comes with limits, a plan and a journal, so that whoever presses Arm and then confirms sees the loop close. Nobody
else arms it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from server.settings import load
from server.trigger_settings import PlanSettings, Thresholds
from server.wiring import serve

LIMITS = Path(__file__).parent / "demo_limits.toml"
# the running mean of half a second crosses these every few seconds, and goes with the state (docs/experiment.md)
THRESHOLDS = Thresholds(p_on=0.53, p_off=0.505, dwell_hops=3, smoothing_s=0.5)
PLAN = PlanSettings(arms=["favourable", "random"], trials_per_arm=2000, sham_fraction=0.1, seed=0)


def demo(port: int | None, seed: int, model: str | None) -> None:
    """Run both until Ctrl-C.

    Raises:
        Fault: as `serve`.
    """
    name = f"PhospheneDemo-{os.getpid()}"  # so that neither a rig nor another demonstration nearby is mistaken for it
    names = (f"--name={name}", f"--events={name}-events", f"--triggers={name}-triggers")
    with tempfile.TemporaryDirectory(prefix="phosphene-demo-") as folder:
        settings = load(
            None,
            source=f"lsl:name='{name}'",
            events=f"name='{name}-events'",
            port=port,
            model=model,
            limits=LIMITS,
            stimulator=f"lsl?simulated=true&name={name}-triggers",
            journal=Path(folder) / "demo.journal",
            thresholds=THRESHOLDS,
            plan=PLAN,
        )
        participant = subprocess.Popen([sys.executable, "-m", "server.cli", "simulate", *names, f"--seed={seed}"])
        try:
            serve(settings)
        finally:
            participant.terminate()
            try:
                participant.wait(2.0)
            except subprocess.TimeoutExpired:
                participant.kill()
                participant.wait()
