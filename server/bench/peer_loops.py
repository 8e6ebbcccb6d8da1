"""The live loop as one would write it without us, for `server.bench.peers`.

`python -m server.bench.peer_loops LOOP NAME SECONDS OUT`, where LOOP is one of

    plain     pylsl's lists, NumPy and SciPy in float64, torch in eager mode
    mne-lsl   the same on a StreamLSL, asked for what is new every hop (its own filters are SciPy's, and take no counts)
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pylsl
import torch

from models.networks.masked_autoencoder import PRESETS, build, pool
from server.bench.stages import CHUNK, RATE, PlainChain
from streaming.signal.settings import ChainSettings

HOP_BINS = 10
BINS = 128
WARM_S = 2.0  # not counted


def network() -> Any:
    """Windows (channels, bins) to a probability: the encoder of `ci`, as the bundle that ships has it, with random
    weights, which take as long."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = build(PRESETS["ci"]).encoder.eval()
    usable = torch.ones((1, encoder.config.channels), dtype=torch.bool)

    @torch.inference_mode()
    def decode(window: Any) -> float:
        seen = torch.from_numpy(np.ascontiguousarray(window, np.float32))[None]
        return float(torch.sigmoid(pool(*encoder(seen, usable)).mean()))

    return decode


def plain(name: str, seconds: float) -> list[float]:
    (info,) = pylsl.resolve_byprop("name", name, timeout=10.0)
    inlet = pylsl.StreamInlet(info, max_buflen=10)
    channels, decode = info.channel_count(), network()
    chain, history = PlainChain(ChainSettings(), channels), np.zeros((0, channels))
    rest, late, until, bins = np.zeros((0, channels), np.float32), [], time.monotonic() + WARM_S + seconds, 0
    counted = time.monotonic() + WARM_S
    while time.monotonic() < until:
        samples, stamps = inlet.pull_chunk(timeout=0.1, max_samples=CHUNK * HOP_BINS)
        if not samples:
            continue
        rest = np.concatenate([rest, 0.25 * np.array(samples, np.float32)])
        whole = len(rest) // CHUNK * CHUNK
        z = chain.push(rest[:whole]) if whole else np.zeros((0, channels))
        rest, before, bins = rest[whole:], bins, bins + len(z)
        history = np.concatenate([history, z])[-BINS:]
        if bins // HOP_BINS > before // HOP_BINS and len(history) == BINS:
            decode(history.T)
            if time.monotonic() > counted:
                late.append((pylsl.local_clock() - stamps[-1]) * 1e3)
    return late


def with_mne(name: str, seconds: float) -> list[float]:
    from mne_lsl.stream import StreamLSL

    stream = StreamLSL(bufsize=2.0, name=name).connect(acquisition_delay=0.001, processing_flags=["clocksync"])
    channels, decode = len(stream.ch_names), network()
    chain, history = PlainChain(ChainSettings(), channels), np.zeros((0, channels))
    rest, late, due = np.zeros((0, channels), np.float32), [], time.monotonic()
    until, counted = due + WARM_S + seconds, due + WARM_S
    while time.monotonic() < until:
        due += HOP_BINS / 1000
        time.sleep(max(0.0, due - time.monotonic()))
        data, stamps = stream.get_data(stream.n_new_samples / RATE)
        if not len(stamps):
            continue
        rest = np.concatenate([rest, 0.25 * data.T.astype(np.float32)])
        whole = len(rest) // CHUNK * CHUNK
        history = np.concatenate([history, chain.push(rest[:whole])])[-BINS:] if whole else history
        rest = rest[whole:]
        if len(history) == BINS:
            decode(history.T)
            if time.monotonic() > counted:
                late.append((pylsl.local_clock() - stamps[-1]) * 1e3)
    stream.disconnect()
    return late


if __name__ == "__main__":
    loop, name, seconds, out = sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])
    found = {"plain": plain, "mne-lsl": with_mne}[loop](name, seconds)
    out.write_text(json.dumps({"late_ms": found, "hop_s": HOP_BINS / 1000}))
