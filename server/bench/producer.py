"""A lean rig for the bench: some seconds of simulated broadband over LSL, again and again, stamped at the push.

A process of its own. The newest sample of a chunk bears the clock at its push, so that what the bench measures begins
there and not at the making of the data. An array of another size sends copies of the participant's channels.
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


def produce(name: str, channels: int = N_ELECTRODES, chunk: int = 30) -> None:
    """Stream until killed."""
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
        pushed += chunk
        time.sleep(max(0.0, start + pushed / rate - time.perf_counter()))
        at = (pushed - chunk) % len(counts)
        outlet.push_chunk(counts[at : at + chunk], pylsl.local_clock())


if __name__ == "__main__":
    produce(sys.argv[1], *map(int, sys.argv[2:]))
