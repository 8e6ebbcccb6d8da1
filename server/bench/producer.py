"""A lean rig for the bench: ten seconds of simulated broadband over LSL, again and again, stamped at the push.

A process of its own. The newest sample of a chunk bears the clock at its push, so that what the bench measures begins
there and not at the making of the data.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pylsl

from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.participant.source import SimulatedSource, stream_info
from streaming.sinks.broadband_outlet import broadband_stream_info

SECONDS = 10


def produce(name: str, chunk: int = 30) -> None:
    """Stream until killed."""
    settings = ParticipantSettings()
    source = SimulatedSource(settings, "rest", chunk_s=1.0)
    parts = [part.samples_uv.copy() for part in (source.read(1.0) for _ in range(SECONDS)) if part is not None]
    samples = np.concatenate(parts)
    rate = settings.rate_hz
    samples = samples[: len(samples) // chunk * chunk]
    counts = np.round(samples / 0.25).astype(np.int16)
    info = broadband_stream_info(stream_info(Participant(settings), name), name, f"{name}-bench", "int16", 0.25)
    outlet = pylsl.StreamOutlet(info, chunk, 10)
    outlet.wait_for_consumers(60.0)
    start, pushed = time.perf_counter(), 0
    while True:
        pushed += chunk
        time.sleep(max(0.0, start + pushed / rate - time.perf_counter()))
        at = (pushed - chunk) % len(counts)
        outlet.push_chunk(counts[at : at + chunk], pylsl.local_clock())


if __name__ == "__main__":
    produce(sys.argv[1])
