"""Our LSL source and signal chain on a replayed stream, bin by bin against the file that `phosphene mua` writes.

A stream that falls silent is connected to again, and its bins then count from the sample that was heard first. What was
heard on such a later connection is held against the chain begun at that very sample of the recording.
"""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import RigFault
from server.bench.player import Player, Running
from server.running import wait_for
from streaming.ahead import everything, trains_ahead
from streaming.chunk import Chunk
from streaming.events import Marker, Stimulation
from streaming.signal import kernel as kn
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from streaming.sources.lsl import LslSource
from streaming.sources.recorded import Recording
from streaming.sources.recording import RecordingSource

Rows = NDArray[np.float32]
LOOK_BACK_BINS = 2000  # as far as a late marker can reach


@dataclass(slots=True)
class Connection:
    """What was heard between two silences: `first_sample` of the recording, then bin → (envelope in µV, z)."""

    first_sample: int
    bins: dict[int, tuple[Rows, Rows]] = field(default_factory=dict)


class Rest:
    """A recording from sample `first` on, which becomes sample 0, as one hears it who connects then."""

    def __init__(self, source: RecordingSource, first: int) -> None:
        self._source, self._first = source, first
        self.info, self.counters = source.info, source.counters
        self.wait, self.close = source.wait, source.close

    def read(self, timeout_s: float) -> Chunk | None:
        while (chunk := self._source.read(timeout_s)) is not None:
            skip = max(0, self._first - chunk.first_sample)
            if skip < len(chunk.samples_uv):
                first = chunk.first_sample + skip - self._first
                return replace(chunk, samples_uv=chunk.samples_uv[skip:], first_sample=first)
        return None

    def markers(self) -> list[tuple[int, Marker]]:
        """Those from before sample 0 too: the end of a train that ran then lies behind it."""
        return [(at - self._first, marker) for at, marker in self._source.markers()]


def envelopes(
    player: Player, recording: Recording, settings: ChainSettings, stream: str | None, scale_uv: float | None
) -> dict[str, Any]:
    """Largest differences for each connection, in microvolts and in z, and how fast `mua` was."""
    heard = hear(player, recording.info.rate_hz, settings)
    filed, taken_s = _mua(player.recording, settings, stream, scale_uv)
    seconds = sum(stretch.n_samples for stretch in recording.stretches) / recording.info.rate_hz
    rows = []
    for connection in heard:
        if not connection.bins:
            continue
        at = np.array(sorted(connection.bins))
        envelope, z = _reference(recording, settings, connection.first_sample, int(at[-1]) + 1)
        live = [np.stack([connection.bins[one][part] for one in at]) for part in (0, 1)]
        row: dict[str, Any] = {
            "first_sample": connection.first_sample,
            "bins": len(at),
            "largest_envelope_difference_uv": float(np.abs(live[0] - envelope[at]).max()),
            "largest_z_difference": float(np.abs(live[1] - z[at]).max()),
            "median_envelope_uv": float(np.median(envelope[at])),
        }
        if connection.first_sample == 0:
            row["largest_difference_from_mua_uv"] = float(np.abs(live[0] - filed[at]).max())
        rows.append(row)
    return {"connections": rows, "mua_s": taken_s, "mua_real_time_factor": seconds / taken_s}


def hear(player: Player, rate_hz: float, settings: ChainSettings) -> list[Connection]:
    """Listens to one replay, as the decode thread does, until it ends."""
    connections: list[Connection] = []
    source = LslSource(f"name='{player.name}'", event_predicate=f"name='{player.events}'")
    chain: SignalChain | None = None
    epoch, connected = -1, False
    over = threading.Event()
    with player.playing() as running:
        threading.Thread(target=_tell_the_end, args=(running, over), daemon=True).start()
        while not over.is_set():
            try:
                connected = connected or source.wait(over)
                chunk = source.read(0.05) if connected else None
            except RigFault:
                connected = False
                continue
            if chunk is None:
                continue
            if chain is None or chunk.epoch != epoch:
                chain, epoch = SignalChain(settings, rate_hz, source.info.n_channels), chunk.epoch
                connections.append(Connection(_first_sample(running, chunk, rate_hz)))
            _collect(chain, source, chunk, connections[-1].bins)
    source.close()
    return connections


def _tell_the_end(running: Running, over: threading.Event) -> None:
    while not running.ended:
        time.sleep(0.05)
    over.set()


def _first_sample(running: Running, chunk: Chunk, rate_hz: float) -> int:
    """The sample of the recording that the stream's count calls 0."""
    wait_for(lambda: running.t0 is not None, 5.0)
    assert running.t0 is not None
    newest = round((chunk.sample_time - running.t0) * rate_hz)
    return newest - (chunk.first_sample + len(chunk.samples_uv) - 1)


def _collect(chain: SignalChain, source: LslSource, chunk: Chunk, into: dict[int, tuple[Rows, Rows]]) -> None:
    """One chunk and its markers through the chain; bins that a marker changed are taken again."""
    first = chain.next_bin
    for sample, marker in source.markers():
        if isinstance(marker, Stimulation):
            changed = chain.stimulation(sample, marker.last_pulse_end_s)
            first = first if changed is None else min(first, changed)
    first = min(first, chain.push(chunk.samples_uv, chunk.first_sample).first_bin)
    into.update(_bins(chain, max(first, chain.next_bin - LOOK_BACK_BINS)))


def _bins(chain: SignalChain, first: int) -> dict[int, tuple[Rows, Rows]]:
    """Finished bins from `first` on, copied out of the chain's rings."""
    last = chain.next_bin
    if first >= last:
        return {}
    planes = chain.rings.plane(kn.ENVELOPE, first, last), chain.rings.z(first, last)
    return {first + k: (planes[0][k], planes[1][k]) for k in range(last - first)}


def _reference(recording: Recording, settings: ChainSettings, first: int, n_bins: int) -> tuple[Rows, Rows]:
    """(envelope, z), each (n_bins, channels), of the chain begun at sample `first`, its stimulations told ahead."""
    info = recording.info
    chain = SignalChain(settings, info.rate_hz, info.n_channels)
    found = np.zeros((2, n_bins, info.n_channels), np.float32)
    done = 0
    for chunk, trains in trains_ahead(everything(Rest(RecordingSource(recording, pace=None), first))):
        for sample, stimulation in trains:
            chain.stimulation(sample, stimulation.last_pulse_end_s)
        chain.push(chunk.samples_uv, chunk.first_sample)
        for at, (envelope, z) in _bins(chain, max(done, chain.next_bin - LOOK_BACK_BINS)).items():
            if at < n_bins:
                found[0, at], found[1, at] = envelope, z
        done = chain.next_bin
        if done >= n_bins:
            break
    return found[0], found[1]


def _mua(path: Path, settings: ChainSettings, stream: str | None, scale_uv: float | None) -> tuple[Rows, float]:
    """The envelope (bins, channels) that `phosphene mua` keeps, and the seconds that it took, kernels compiled."""
    import h5py

    from training.mua import DATA, mua

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "mua.nwb"
        began = time.perf_counter()
        mua(path, out, settings, stream, scale_uv, quiet=True)
        taken_s = time.perf_counter() - began
        with h5py.File(out, "r") as file:
            envelope: Rows = file[DATA][:]
            return envelope, taken_s
