"""A lean rig for the bench: some seconds of simulated broadband over LSL, again and again, stamped at the push.

A process of its own. The newest sample of a chunk bears the clock at its push, so that what the bench measures begins
there and not at the making of the data. An array of another size sends copies of the participant's channels.

`python -m server.bench.producer NAME [CHANNELS [PUSHES]]`: into PUSHES, a file of zeros, goes the clock at each push,
as float64, as long as there is room.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import pylsl

from streaming.chunk import ArrayMap
from streaming.participant.participant import Participant
from streaming.participant.settings import N_ELECTRODES, ParticipantSettings
from streaming.participant.source import SimulatedSource, stream_info
from streaming.sinks.broadband_outlet import broadband_stream_info

SECONDS = 10  # of 96 channels; of more, as much as takes that memory
CHUNK = 30  # samples: a millisecond


def produce(name: str, channels: int = N_ELECTRODES, pushes: str | None = None, chunk: int = CHUNK) -> None:
    """Stream until killed."""
    told = np.memmap(pushes, np.float64, "r+") if pushes else np.empty(0)
    settings = ParticipantSettings()
    source = SimulatedSource(settings, "rest", chunk_s=1.0)
    seconds = max(1, SECONDS * N_ELECTRODES // channels)
    parts = [part.samples_uv.copy() for part in (source.read(1.0) for _ in range(seconds)) if part is not None]
    samples = np.concatenate(parts)[:, np.arange(channels) % N_ELECTRODES]
    rate = settings.rate_hz
    samples = samples[: len(samples) // chunk * chunk]
    counts = np.round(samples / 0.25).astype(np.int16)
    stream = stream_info(Participant(settings), name)
    if channels != N_ELECTRODES:
        stream = replace(stream, array=ArrayMap(tuple(f"elec{k + 1}" for k in range(channels))))
    info = broadband_stream_info(stream, name, f"{name}-bench", "int16", 0.25)
    outlet = pylsl.StreamOutlet(info, chunk, 10)
    outlet.wait_for_consumers(60.0)
    start, pushed = time.perf_counter(), 0
    while True:
        push = pushed // chunk
        pushed += chunk
        time.sleep(max(0.0, start + pushed / rate - time.perf_counter()))
        at = (pushed - chunk) % len(counts)
        now = pylsl.local_clock()
        if push < len(told):
            told[push] = now
        outlet.push_chunk(counts[at : at + chunk], now)


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    produce(name, int(rest[0]) if rest else N_ELECTRODES, rest[1] if len(rest) > 1 else None)
