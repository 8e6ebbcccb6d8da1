"""Offline, a stimulation is told before its samples come: nothing is rewound, no bin is written twice.

A blank begins half a millisecond before its train's onset, so each chunk goes with the trains of the next one too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from streaming.chunk import Chunk, EndOfRecording, Source
from streaming.events import Marker, Stimulation

Train = tuple[int, Stimulation]  # absolute sample index of the onset, what was delivered


def trains_ahead(heard: Iterable[tuple[Chunk, Sequence[tuple[int, Marker]]]]) -> Iterator[tuple[Chunk, list[Train]]]:
    """Each chunk with the stimulations up to the end of the next; `heard` gives each with the markers in it."""
    held: Chunk | None = None
    trains: list[Train] = []
    for chunk, markers in heard:
        found = [(sample, marker) for sample, marker in markers if isinstance(marker, Stimulation)]
        if held is not None:
            same = chunk.epoch == held.epoch
            yield held, trains + found if same else trains
            found = [] if same else found
        held, trains = chunk, found
    if held is not None:
        yield held, trains


def everything(source: Source) -> Iterator[tuple[Chunk, list[tuple[int, Marker]]]]:
    """A recording to its end: each chunk, in memory of its own, and the markers in it."""
    while True:
        try:
            chunk = source.read(1.0)
        except EndOfRecording:
            return
        if chunk is not None:
            yield replace(chunk, samples_uv=chunk.samples_uv.copy()), source.markers()
