"""`phosphene certify`: the loop for a chosen time on this rig, and a dated report of what the rig holds.

Whole processes, as they run in a session: the amplifier's stream (or a sender in its place), the service, and clients,
the first of them timed. What is certified is what was seen: a machine that was busy, or quiet, is another one tomorrow.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console

from models.errors import OperatorFault
from server.bench.certificate import page
from server.bench.measure import machine
from server.bench.path import produce, serve_process, watch
from server.running import free_port, status, wait_for
from server.settings import PREFIX

DEADLINES_MS = (2.0, 5.0, 8.0, 10.0, 20.0, 50.0)
WITHIN = "newest sample to client within {:g} ms"
HOLDS = 0.999  # of frames in time: then a deadline is held
WHOLE = 0.999  # of windows
STREAM_S = 30.0  # for the stream to come, and then to settle
GROWTH_MIB = 5.0


def certify(seconds: float, out: Path, source: str | None, options: list[str], subscribers: int = 10) -> dict[str, Any]:
    """Write the report to `out` (HTML) and its numbers beside it (JSON); returns the numbers.

    Args:
        source: lsl:PREDICATE of the amplifier's stream; None: a sender of simulated broadband on this machine.
        options: of `phosphene serve`, as on its command line.

    Raises:
        OperatorFault: a report that exists, a stream that does not come, a service that does not start, or one that
            decodes nothing.
    """
    numbers = out.with_suffix(".json")
    for file in (out, numbers):
        if file.exists():
            raise OperatorFault(f"{file}: exists already and is never overwritten; choose another --out")
    if source is not None and not source.startswith("lsl:"):
        raise OperatorFault(f"--source {source!r}: expected lsl:PREDICATE, such as \"lsl:name='UtahArray'\"")
    with ExitStack() as stack, Console(stderr=True).status("starting") as said:
        name, port = f"PhospheneCertify-{os.getpid()}", free_port()
        if source is None:
            produce(stack, name)
        given = (*(("--source", source) if source else ()), *options)
        # ten minutes of held predictions would grow for ten minutes
        process = serve_process(stack, name, port, *given, env={**os.environ, f"{PREFIX}HOLD_S": "10"})
        said.update("waiting for the stream to run")
        _wait(port, process)
        about = _sound(status(port))
        seen, ms, _ = watch(
            port, process.pid, seconds, subscribers, lambda left: said.update(f"{max(0.0, left):.0f} s left")
        )
    found = {"machine": machine(), "holds_share": HOLDS, "service": _facts(about, source)}
    found |= {"verdicts": _verdicts(seen, ms), "measured": seen}
    numbers.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    out.write_text(page(found, ms))
    return found


def _wait(port: int, process: subprocess.Popen[Any]) -> None:
    try:
        wait_for(lambda: status(port).get("state") == "running" or process.poll() is not None, 2 * STREAM_S)
    except OperatorFault:
        said = status(port)
        raise OperatorFault(f"certify: the service is {said.get('state')}: {said.get('problem')}") from None
    if process.poll() is not None:
        raise OperatorFault("certify: the service did not start; `phosphene serve` with the same options says why")


def _sound(about: dict[str, Any]) -> dict[str, Any]:
    """The status of a service that decodes.

    Raises:
        OperatorFault: it runs, and has a problem.
    """
    if about.get("problem"):
        raise OperatorFault(f"certify: the service runs and has a problem, expected none: {about['problem']}")
    return about


def _facts(about: dict[str, Any], source: str | None) -> dict[str, Any]:
    stream = about["stream"]
    return {
        "stream": stream["name"] if source else "a sender of simulated broadband on this machine",
        "channels": stream["channels"],
        "rate_hz": stream["rate_hz"],
        "model": about["model"],
        "provider": about["provider"],
        "precision": about["precision"],
        "signal_delay_ms": about["signal_delay_s"] * 1e3,
    }


def sound(verdicts: list[dict[str, Any]]) -> bool:
    """Nothing was lost or grew, and a deadline is held: which one is what was asked, so that the widest decides."""
    asked = {WITHIN.format(deadline) for deadline in DEADLINES_MS[:-1]}
    return all(one["holds"] for one in verdicts if one["what"] not in asked)


def _verdicts(seen: dict[str, Any], ms: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Each with what was found, and whether it holds."""
    frame, grown, lost = ms["sample to frame"], seen["memory_mib"]["grown"], seen["source"]["lost_samples"]
    found: list[tuple[str, str, bool]] = []
    for deadline in DEADLINES_MS:
        share = float((frame <= deadline).mean())
        found.append((WITHIN.format(deadline), f"{100 * share:.3f} %", share >= HOLDS))
    unexplained = seen["unexplained_windows"]
    whole, missing = f"{100 * seen['share_of_windows']:.3f} %", seen["not_decoded"]
    if missing:
        whole += f"; {sum(missing.values())} not: " + ", ".join(f"{flag} {n}" for flag, n in sorted(missing.items()))
    found += [
        ("windows decoded", whole, seen["share_of_windows"] >= WHOLE),
        ("windows missing without a reason told", f"{unexplained}", unexplained == 0),
        ("samples lost by the source", f"{lost}", lost == 0),
        ("the first client missed", f"{seen['dropped_by_client']} frames", seen["dropped_by_client"] == 0),
        ("memory, from the first minute on", f"grew by {grown:.1f} MiB", not grown > GROWTH_MIB),
    ]
    return [{"what": what, "found": text, "holds": holds} for what, text, holds in found]
