"""The honest client: hears every prediction, over all lives of the service, and keeps what the checks need of each."""

from __future__ import annotations

import threading
from array import array
from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from pylsl import local_clock

from models.errors import OperatorFault
from server.bench.client import Client

AGAIN_S = 0.02
SILENCE_S = 30.0  # a service that was paused or hangs says nothing for as long as that lasts


class Listener:
    """Rows of what arrived, in order: `arrived` (LSL clock), `total_ms` (newest sample to prediction, as the service
    says), `late_ms` (to the client), `vouched` (1 where there is a probability). `complaints`: what a client must never
    be told."""

    def __init__(self, port: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/v1/predictions?format=msgpack&fields=probability"
        self._rows = {name: array("d") for name in ("arrived", "total_ms", "late_ms", "vouched")}
        self.runs: dict[str, int] = {}  # run_id -> the last seq heard
        self.missed = 0  # and was told so
        self.complaints: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(1.0)

    def rows(self) -> dict[str, NDArray[np.float64]]:
        count = len(self._rows["vouched"])  # which is appended last
        return {name: np.array(values[:count]) for name, values in self._rows.items()}

    def _listen(self) -> None:
        while not self._ended.wait(AGAIN_S):
            with suppress(OSError, OperatorFault), Client(self._url, SILENCE_S) as client:
                while not self._ended.is_set():
                    self._hear(msgpack.unpackb(client.receive()), local_clock())

    def _hear(self, frame: dict[str, Any], now: float) -> None:
        if frame["type"] == "dropped":
            run_id = next(reversed(self.runs))
            self.missed += frame["count"]
            if frame["resume_seq"] - self.runs[run_id] - 1 != frame["count"]:
                self.complaints.append(f"run {run_id}: told of {frame['count']} missed behind {self.runs[run_id]}")
            self.runs[run_id] = frame["resume_seq"] - 1
            return
        run_id, seq, probability = frame["run_id"], frame["seq"], frame["probability"]
        if run_id in self.runs and seq != self.runs[run_id] + 1:
            self.complaints.append(f"run {run_id}: {seq} behind {self.runs[run_id]}")
        if (probability is None) != bool(set(frame["flags"]) - {"overload"}):
            self.complaints.append(f"run {run_id}, {seq}: probability {probability} with flags {frame['flags']}")
        self.runs[run_id] = seq
        total_ms, late_ms = frame["latency_ms"]["total"], (now - frame["sample_time"]) * 1e3
        row = (now, total_ms, late_ms, float(probability is not None))
        for values, value in zip(self._rows.values(), row, strict=True):
            values.append(value)
