"""A bundle that decodes beside the running one, to be judged before it takes over. Nobody ever waits for it.

It reads the windows that the running bundle reads, on a thread of its own, which shares nothing with the decode thread
but a buffer that is handed to and fro. While it is busy with a window the next ones pass it by, and are counted.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

import numpy as np

from models.decoder import Decoded, Decoder
from streaming.pipeline import Pipeline
from streaming.predictions import Mode, Prediction

KEPT = 6000  # windows, a minute at the usual hop
LEAST = 20  # windows, below which nothing is known of it
HANGS_S = 1.0  # for one window
SLOW_SHARE = 0.5  # of the hop, for half of the windows: as much again and the newest window would win over others


@dataclass(frozen=True, slots=True)
class Seen:
    """What a shadow did so far. Probabilities of the windows that the running bundle vouched for, of the newest KEPT:
    `mean_difference` candidate less running, `correlation` NaN where either stands still. Milliseconds of inference."""

    windows: int
    passed_by: int
    not_finite: int
    compared: int
    mean_difference: float
    mean_absolute_difference: float
    correlation: float
    constant: bool
    p50_ms: float
    p99_ms: float
    max_ms: float
    problem: str = ""

    def why_not(self, hop_s: float) -> str:
        """One sentence why it must not take over; empty where nothing speaks against it."""
        if self.problem:
            return self.problem
        if self.not_finite:
            return f"{self.not_finite} of {self.windows} windows gave no finite embedding and probability"
        if self.windows < LEAST:
            return f"it has seen {self.windows} windows, expected {LEAST}: is a stream being decoded?"
        if self.constant:
            return f"it says the same of all {self.windows} windows"
        if self.p50_ms > SLOW_SHARE * hop_s * 1e3:
            return (
                f"half of its windows take over {self.p50_ms:.1f} ms, expected {SLOW_SHARE * hop_s * 1e3:g} ms: half "
                "the hop"
            )
        return ""


class Shadow:
    """`decoder` is this thread's alone until `stop`; `mode` says which of its probes is asked."""

    def __init__(self, decoder: Decoder, mode: Mode = "continuous") -> None:
        self.decoder, self._mode = decoder, mode
        self._window = np.zeros((decoder.n_channels, decoder.n_bins), np.float32)
        self._usable = np.zeros(decoder.n_channels, bool)
        self._running: float | None = None
        self._wake, self._busy, self._ended = threading.Event(), False, False
        self._lock = threading.Lock()
        self._said = np.full((KEPT, 3), np.nan)  # running and own probability, milliseconds
        self._windows = self._passed_by = self._not_finite = 0
        self._problem, self._since = "", 0.0
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def look(self, pipeline: Pipeline, prediction: Prediction) -> None:
        """The decode thread, behind a prediction: the window that it was made of."""
        if self._busy:
            self._passed_by += 1
            return
        pipeline.copy_window(self._window, self._usable)
        self._running, self._since, self._busy = prediction.probability, time.perf_counter(), True
        self._wake.set()

    def stop(self) -> Seen:
        """Ends its thread; the decoder is the caller's again, unless it hangs. Returns what it did."""
        self._ended = True
        self._wake.set()
        self._thread.join(HANGS_S)
        seen = self.seen()
        if self._thread.is_alive() and not seen.problem:
            return replace(seen, problem=f"its inference does not end within {HANGS_S:g} s")
        return seen

    def seen(self) -> Seen:
        """Any thread."""
        with self._lock:
            said = self._said[: min(self._windows, KEPT)].copy()
            counts = self._windows, self._passed_by, self._not_finite
        own, pairs = said[:, 1], said[np.isfinite(said[:, :2]).all(axis=1), :2]
        moves = len(pairs) > 1 and bool((pairs.std(axis=0) > 0).all())
        away = pairs[:, 1] - pairs[:, 0]
        p50, p99, most = np.percentile(said[:, 2], (50, 99, 100)) if len(said) else (np.nan,) * 3
        return Seen(
            *counts,
            compared=len(pairs),
            mean_difference=float(away.mean()) if len(pairs) else float("nan"),
            mean_absolute_difference=float(np.abs(away).mean()) if len(pairs) else float("nan"),
            correlation=float(np.corrcoef(pairs.T)[0, 1]) if moves else float("nan"),
            constant=len(own) >= LEAST and bool(np.isfinite(own).all()) and bool((own == own[0]).all()),
            p50_ms=float(p50),
            p99_ms=float(p99),
            max_ms=float(most),
            problem=self._problem or self._hangs(),
        )

    def _hangs(self) -> str:
        for_s = time.perf_counter() - self._since
        return f"its inference has taken {for_s:.1f} s so far" if self._busy and for_s > HANGS_S else ""

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._ended:
                return
            before = time.perf_counter()
            try:
                decoded = self.decoder.step(self._window, self._usable)
            except Exception as error:  # whatever it is, the running bundle goes on
                self._problem = f"its inference failed: {error}"
                return  # busy for ever
            self._take(decoded, (time.perf_counter() - before) * 1e3)
            self._busy = False

    def _take(self, decoded: Decoded, took_ms: float) -> None:
        own = decoded.prestimulus if self._mode == "continuous" else decoded.evoked
        sound = bool(np.isfinite(decoded.embedding).all()) and (own is None or 0.0 <= own <= 1.0)
        with self._lock:
            at = self._windows % KEPT
            self._said[at] = (_number(self._running), _number(own), took_ms)
            self._windows += 1
            self._not_finite += not sound


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
