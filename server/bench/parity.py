"""The live service held against the file it hears: `replay` over real LSL, `serve`, a WebSocket client; and `decode`.

    python -m server.bench.parity FILE [--stream S] [--scale-uv X] [--out JSON]

Two comparisons. *Predictions*: every frame of the service with the prediction that `decode` gives for the same newest
sample. *Envelopes*: our LSL source and signal chain, in this process, with the file that `phosphene mua` writes. All of
it by absolute sample index: the replay says which LSL time its sample 0 bears, and a frame says its `epoch`,
`last_sample` and `sample_time`.

A pause of more than 250 ms is, live, a stream that fell silent: the service connects again, and its bins count from the
sample that it then hears first. What comes behind is held against the recording begun at that very sample.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import orjson
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from models.errors import Fault, OperatorFault, RigFault
from models.onnx_decoder import OnnxDecoder
from server.bench.envelopes import Rest, envelopes
from server.bench.measure import machine
from server.bench.player import REST_S, Player, phosphene
from server.bundles import Bundles
from server.running import free_port, status, wait_for
from server.settings import PREFIX, load
from streaming.offline import predictions
from streaming.predictions import Prediction
from streaming.signal.settings import ChainSettings
from streaming.sources.lsl import SILENCE_S
from streaming.sources.recorded import Recording, end_of
from streaming.sources.recording import open_recording

LATE = frozenset(("late_marker", "backlog"))  # of the moment, not of the samples: not to be compared
OVERLOAD = "overload"  # of the moment too, but its value is good
ON_GRID = 0.01  # samples by which a frame's time may miss its sample
START_S = 60.0


def parity(
    recording: Path,
    stream: str | None = None,
    scale_uv: float | None = None,
    seconds: float | None = None,
    hop_s: float = 0.01,
    model: str | None = None,
    participant: str | None = None,
) -> dict[str, Any]:
    """Both comparisons of one recording, of its first `seconds` where given. Differences are the largest ones.

    Raises:
        Fault: the recording, the bundle, or a service that does not start.
    """
    recording = Path(recording)
    opened = open_recording(recording, stream, pace=None, scale_uv=scale_uv).recording
    try:
        facts = _facts(opened, recording)
        whole_s = facts["seconds"] + sum(facts["pauses_s"])
        seconds = min(seconds or whole_s, whole_s)
        player = Player(recording, stream, scale_uv, seconds)
        settings = load(None, model=model, hop_s=hop_s, participant=participant)
        decoder = Bundles(settings.bundles, settings.provider, settings.precision).open(settings.model)
        frames, t0, after = _live(player, decoder, hop_s, participant)
        rate_hz, last = opened.info.rate_hz, round(seconds * opened.info.rate_hz)
        frames = [one for one in frames if (one["sample_time"] - t0) * rate_hz < last]
        began = {
            one["epoch"]: round((one["sample_time"] - t0) * rate_hz) - one["last_sample"] for one in reversed(frames)
        }
        offline: dict[tuple[int, int], Prediction] = {}
        for epoch, first in began.items():
            source = Rest(open_recording(recording, stream, pace=None, scale_uv=scale_uv), first)
            for one in predictions(source, decoder, "continuous", hop_s, participant):
                if first + one.last_sample >= min(_silence_after(opened, first), last):
                    break
                offline[epoch, one.last_sample] = one
            source.close()
        chain = ChainSettings.from_dict(decoder.manifest.chain)
        return {
            "recording": facts,
            "compared_s": seconds,
            "model": f"{decoder.name} {decoder.precision}",
            "predictions": compare(offline, frames, began, t0, rate_hz) | after,
            "envelopes": envelopes(player, opened, chain, stream, scale_uv),
        }
    finally:
        opened.close()


def compare(
    expected: Mapping[tuple[int, int], Prediction],
    frames: list[dict[str, Any]],
    began: Mapping[int, int],
    t0: float,
    rate_hz: float,
) -> dict[str, Any]:
    """Frames of the service against predictions of the file, by epoch and newest sample.

    Args:
        expected: every prediction of the recording, by the epoch in which it was heard and its newest sample there.
        frames: messages of /v1/predictions, unpacked, with the flags that they were held with at the end.
        began: the sample of the recording that each epoch began with.
        t0: LSL time of the recording's sample 0.
        rate_hz: of the samples.
    """
    count: Counter[str] = Counter(compared=0, not_compared=0, null_on_one_side=0, other_flags=0, off_the_grid=0)
    both_null: Counter[str] = Counter()
    probability, embedding, size, seen = [0.0], [0.0], [0.0], set()
    for frame in frames:
        place = frame["epoch"], frame["last_sample"]
        sample = began[frame["epoch"]] + frame["last_sample"]
        one = expected.get(place)
        if one is None or abs((frame["sample_time"] - t0) * rate_hz - sample) > ON_GRID:
            count["off_the_grid"] += 1
            continue
        seen.add(place)
        if LATE & set(frame["flags"]):
            count["not_compared"] += 1
            continue
        count["compared"] += 1
        count["other_flags"] += tuple(flag for flag in frame["flags"] if flag != OVERLOAD) != one.flags
        if one.embedding is None and frame["embedding"] is None:
            both_null[",".join(one.flags)] += 1
        for name, ours, theirs, into in (
            ("probability", one.probability, frame["probability"], probability),
            ("embedding", one.embedding, _vector(frame), embedding),
        ):
            if (ours is None) != (theirs is None):
                count["null_on_one_side"] += 1
            elif ours is not None:
                count[name] += 1
                into.append(float(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max()))
        if one.embedding is not None:
            size.append(float(np.abs(one.embedding).max()))
    return {
        "began": [began[epoch] for epoch in sorted(began)],
        "windows": len(expected),
        "missed": len(expected) - len(seen),
        **{name: count[name] for name in ("compared", "not_compared", "off_the_grid", "null_on_one_side")},
        "other_flags": count["other_flags"],
        "probabilities": count["probability"],
        "largest_probability_difference": max(probability),
        "embeddings": count["embedding"],
        "largest_embedding_difference": max(embedding),
        "largest_embedding_value": max(size),
        "null_embeddings_by_flags": dict(both_null),
    }


def _facts(opened: Recording, path: Path) -> dict[str, Any]:
    rate_hz, stretches = opened.info.rate_hz, opened.stretches
    starts, ends = [s.first_sample for s in stretches[1:]], [s.first_sample + s.n_samples for s in stretches[:-1]]
    return {
        "file": path.name,
        "stream": opened.info.name,
        "channels": opened.info.n_channels,
        "rate_hz": rate_hz,
        "seconds": sum(stretch.n_samples for stretch in stretches) / rate_hz,
        "pauses_s": [(start - end) / rate_hz for start, end in zip(starts, ends, strict=True)],
        "markers": len(opened.markers),
    }


def _silence_after(opened: Recording, first: int) -> int:
    """The sample before which a live listener who connected at sample `first` never loses the stream."""
    for before, behind in zip(opened.stretches, opened.stretches[1:], strict=False):
        end = before.first_sample + before.n_samples
        if end > first and behind.first_sample - end > SILENCE_S * opened.info.rate_hz:
            return end
    return end_of(opened)


# The service ---------------------------------------------------------------------------------------------------------


def _live(
    player: Player, decoder: OnnxDecoder, hop_s: float, participant: str | None
) -> tuple[list[dict[str, Any]], float, dict[str, Any]]:
    """What the service said while the recording played, the LSL time of sample 0, and what the service counted."""
    port = free_port()
    arguments = ["serve", "--source", f"lsl:name='{player.name}'", "--port", str(port), "--model", decoder.name]
    arguments += ["--participant", participant] if participant is not None else []
    settings = {"PRECISION": decoder.precision, "HOP_S": str(hop_s), "EVENTS": f"name='{player.events}'"}
    frames: list[dict[str, Any]] = []
    dropped: list[int] = []
    seen: dict[str, Any] = {}
    with ExitStack() as stack:
        running = stack.enter_context(player.playing())  # waits for the service
        service = stack.enter_context(phosphene(arguments, {PREFIX + name: value for name, value in settings.items()}))
        threading.Thread(target=_drain, args=(service,), daemon=True).start()
        wait_for(lambda: "state" in status(port) or service.poll() is not None, START_S)
        if service.poll() is not None:
            raise OperatorFault("parity: the service ended at once; `phosphene serve` says why")
        listener = threading.Thread(target=_listen, args=(port, frames, dropped), daemon=True)
        listener.start()
        until = time.monotonic() + START_S + player.seconds
        while not running.ended and time.monotonic() < until:
            now = status(port)
            seen = now if now.get("state") in ("warming", "running") else seen
            time.sleep(0.1)
        time.sleep(REST_S)
        withdrawn = _withdrawn(port)
        skipped = status(port).get("skipped_windows")
    listener.join(5.0)
    if running.t0 is None:
        raise RigFault(f"{player.recording}: was not replayed; `phosphene replay` says why")
    for frame in frames:
        frame["flags"] = [*frame["flags"], "late_marker"] if frame["seq"] in withdrawn else frame["flags"]
    counters = seen.get("counters") or {}
    said = {name: seen.get(name) for name in ("problem", "not_calibrated", "late_markers", "rate_measured_hz")}
    said |= {"skipped_windows": skipped, "dropped_by_client": sum(dropped)}
    said |= {name: counters.get(name) for name in ("gaps", "lost_samples", "reconnects", "backlog_samples")}
    return frames, running.t0, {"service": said}


def _listen(port: int, frames: list[dict[str, Any]], dropped: list[int]) -> None:
    url = f"ws://127.0.0.1:{port}/v1/predictions?format=msgpack&since_seq=-1"
    with suppress(ConnectionClosed), connect(url, compression=None) as client:
        for message in client:
            frame = msgpack.unpackb(message)
            if frame["type"] == "prediction":
                frames.append(frame)
            elif frame["type"] == "dropped":
                dropped.append(frame["count"])


def _withdrawn(port: int) -> set[int]:
    """seq of the held predictions that a late marker withdrew after they went out."""
    since = -1
    found: set[int] = set()
    while True:
        url = f"http://127.0.0.1:{port}/v1/predictions?since_seq={since}&limit=1000&fields=probability"
        with urllib.request.urlopen(url, timeout=5.0) as answer:
            held = orjson.loads(answer.read())["predictions"]
        if not held:
            return found
        found |= {one["seq"] for one in held if "late_marker" in one["flags"]}
        since = held[-1]["seq"]


def _drain(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for _ in process.stderr:
        pass


def _vector(frame: dict[str, Any]) -> NDArray[np.float32] | None:
    return None if frame["embedding"] is None else np.frombuffer(frame["embedding"], "<f4")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m server.bench.parity", description=str(__doc__).splitlines()[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--stream", help="which signal, where the file holds several")
    parser.add_argument("--scale-uv", type=float, help="microvolts per count, where the file does not say")
    parser.add_argument("--seconds", type=float, help="only the first so many")
    parser.add_argument("--model", help="NAME[@VERSION] of a bundle")
    parser.add_argument("--participant", help="whose cortex, where the file does not say")
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    try:
        found = parity(
            given.recording, given.stream, given.scale_uv, given.seconds, 0.01, given.model, given.participant
        )
    except Fault as fault:
        sys.exit(f"parity: {fault}")
    text = orjson.dumps({"machine": machine(), **found}, option=orjson.OPT_INDENT_2)
    print(text.decode())
    if given.out is not None:
        given.out.write_bytes(text + b"\n")


if __name__ == "__main__":
    main()
