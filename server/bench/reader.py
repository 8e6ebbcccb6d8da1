"""Reads a stream as the service does and does nothing with it, in a process whose processor time is its alone.

Prints one JSON object: what came and what was lost in so many seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import asdict

import orjson

from models.errors import RigFault
from streaming.sources.lsl import LslSource

WARM_S = 1.0  # what was in liblsl's buffers when it began is read first
COUNTED = ("lost_samples", "gaps", "backlog_samples", "reconnects")


def read(name: str, seconds: float) -> dict[str, float]:
    """
    Raises:
        RigFault: the stream went away.
    """
    source = LslSource(f"name='{name}'")
    source.wait(threading.Event())
    channels, until = 0, time.monotonic() + WARM_S
    while not channels or time.monotonic() < until:
        chunk = source.read(1.0)
        channels = channels if chunk is None else chunk.samples_uv.shape[1]
    before, cpu = asdict(source.counters), time.process_time()
    samples, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        chunk = source.read(0.1)
        samples += 0 if chunk is None else len(chunk.samples_uv)
    after, cores = asdict(source.counters), (time.process_time() - cpu) / seconds
    source.close()
    counted = {key: after[key] - before[key] for key in COUNTED}
    return {"channels": channels, "samples": samples, "cores": cores, **counted}


if __name__ == "__main__":
    try:
        print(orjson.dumps(read(sys.argv[1], float(sys.argv[2]))).decode())
    except RigFault as fault:
        sys.exit(str(fault))
