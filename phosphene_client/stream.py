"""A rig's view of the service: connect, then ask for the newest predictions whenever it suits the rig's own loop.

Two threads read, one each WebSocket: /v1/predictions fills the buffer, /v1/events tells which predictions were
withdrawn because a marker came late. It is connected while both are: without the second, what is held may be withdrawn
and nobody here knows. Whoever calls `get_data` waits for neither. A connection that breaks is opened again every
RETRY_S, from the last prediction that came (`since_seq`), so that a break shorter than what the service holds (ten
minutes) loses nothing; what is lost is counted. A message that cannot be read ends its thread, and `problem` says so.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import msgpack
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from phosphene_client.buffer import CHANNELS, Buffer, Frame

__all__ = ["CHANNELS", "PredictionStream"]
RETRY_S = 0.25
ALIVE_S = 2.0  # a service that does not answer a ping for so long is gone
MOST_BYTES = 2**20  # of a message
PREDICTIONS, EVENTS = "/v1/predictions", "/v1/events"


class PredictionStream:
    """The newest predictions of a Phosphene service.

    Args:
        url: of the service; `wss://` where it has TLS; with /arrays/NAME behind it for a further array of several.
        bufsize: seconds of sample time that are held.
        embedding: whether frames carry the embedding too, float32 (D,).
        max_hz: at most so many predictions a second of sample time; None: every one.
        token: what the service asks for, where it does.
    """

    ch_names = CHANNELS

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8000",
        bufsize: float = 60.0,
        *,
        embedding: bool = False,
        max_hz: float | None = None,
        token: str | None = None,
    ) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"found url {url!r}, expected ws://HOST:PORT or wss://HOST:PORT, as the service prints it")
        if not 0.0 < bufsize <= 3600.0:
            raise ValueError(f"found bufsize {bufsize}, expected seconds, more than 0 and at most 3600")
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._query = {"format": "msgpack", "fields": "probability,embedding" if embedding else "probability"}
        if max_hz is not None:
            self._query["max_hz"] = f"{max_hz:g}"
        self._buffer = Buffer(bufsize)
        self._events_run: str | None = None  # of the service that /v1/events speaks for
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._opened = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open = {PREDICTIONS: False, EVENTS: False}
        self._problems = {PREDICTIONS: "", EVENTS: ""}
        self._refusal = ""
        self._last_came = 0.0

    # Opening and closing ---------------------------------------------------------------------------------------------

    def connect(self, timeout: float = 10.0) -> Self:
        """Open the stream; predictions come from now on, by themselves, until `disconnect`.

        Raises:
            ConnectionError: nobody answers within `timeout` seconds, or the service refuses either WebSocket, in its
                words.
            RuntimeError: connected already.
        """
        if self._threads:
            raise RuntimeError("found a stream that is connected already, expected one that is not: disconnect first")
        self._ending.clear()
        self._opened.clear()
        self._refusal, self._last_came = "", time.monotonic()
        self._problems = dict.fromkeys(self._problems, "")
        both = ((PREDICTIONS, self._since, self._heard), (EVENTS, lambda: "", self._happened))
        self._threads = [threading.Thread(target=self._listen, args=arguments, daemon=True) for arguments in both]
        for thread in self._threads:
            thread.start()
        self._opened.wait(timeout)
        if self._refusal or not self._opened.is_set():
            why = self._refusal or self.problem or "no answer"
            self.disconnect()
            raise ConnectionError(f"{self._url}: {why}; is `phosphene serve` running there, and its port forwarded?")
        return self

    def disconnect(self) -> None:
        """Close the stream. What it holds can still be read."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __enter__(self) -> Self:
        return self if self._threads else self.connect()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.disconnect()

    # Reading ---------------------------------------------------------------------------------------------------------

    def get_data(self, winsize: float | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The newest `winsize` seconds of sample time; None: all that is held.

        Returns:
            data (3, n): `probability` (NaN where it is not vouched for), `valid` (1 or 0), `usable_channels`;
            times (n,): seconds, on the LSL clock of the service's machine. n is 0 before the first prediction.
        """
        with self._lock:
            return self._buffer.take(winsize)

    def get_frames(self, winsize: float | None = None) -> list[Frame]:
        """The same predictions as the service sends them (docs/wire.md): with `flags`, `seq`, `embedding`, latency."""
        with self._lock:
            return [dict(frame) for frame in self._buffer.newest(winsize)]

    @property
    def n_new_samples(self) -> int:
        """Predictions that came since the last `get_data`, or since the buffer began anew."""
        return self._buffer.new

    @property
    def n_lost(self) -> int:
        """Predictions of which the service says that they never came here."""
        return self._buffer.lost

    @property
    def run_id(self) -> str | None:
        """The run of the service that the buffer is of: another one after it restarted, and the buffer begins anew."""
        return self._buffer.run_id

    @property
    def connected(self) -> bool:
        """Predictions come, and what is withdrawn of them is heard."""
        return all(self._open.values())

    @property
    def problem(self) -> str:
        """Why it is not connected; empty while it is."""
        if self.connected:
            return ""
        return next((f"{path}: {self._problems[path]}" for path in self._problems if self._problems[path]), "")

    @property
    def silent_s(self) -> float:
        """Seconds since the last prediction came, by this machine's clock: the newest one is at least as old."""
        return time.monotonic() - self._last_came

    # The two threads -------------------------------------------------------------------------------------------------

    def _since(self) -> str:
        seq = self._buffer.seq
        since = {} if seq is None else {"since_seq": str(seq)}
        return f"?{urlencode(self._query | since)}"

    def _listen(self, path: str, query: Callable[[], str], heard: Callable[[Any], None]) -> None:
        """Until the end, or until a message comes that cannot be read."""
        while not self._ending.is_set():
            try:
                with connect(
                    self._url + path + query(),
                    additional_headers=self._headers,
                    compression=None,
                    proxy=None,
                    max_size=MOST_BYTES,
                    ping_interval=ALIVE_S,
                    ping_timeout=ALIVE_S,
                    close_timeout=ALIVE_S,
                ) as socket:
                    self._problems[path], self._open[path] = "", True
                    if self.connected:
                        self._opened.set()
                    while not self._ending.is_set():
                        try:
                            message = socket.recv(timeout=RETRY_S)
                        except TimeoutError:
                            continue
                        heard(message)
            except (OSError, WebSocketException) as error:
                self._broke(path, _sentence(error), refused=isinstance(error, InvalidStatus))
            except Exception as error:  # to read it again would be to fail again
                why = f"found a message that cannot be read ({type(error).__name__}: {error}); is this client older?"
                self._broke(path, why, refused=True)
                return
            finally:
                self._open[path] = False
            self._ending.wait(RETRY_S)

    def _broke(self, path: str, why: str, refused: bool) -> None:
        self._problems[path] = why
        if refused and not self._opened.is_set():
            self._refusal = f"{path}: {why}"
            self._opened.set()

    def _heard(self, packed: bytes) -> None:
        message = msgpack.unpackb(packed)
        if message.get("embedding") is not None:
            message["embedding"] = np.frombuffer(message["embedding"], "<f4")
        with self._lock:
            self._buffer.push(message)
        self._last_came = time.monotonic()

    def _happened(self, text: str) -> None:
        if '"late_marker"' not in text[:40] and '"status"' not in text[:40]:  # the array's map comes ten times a second
            return
        event = json.loads(text)
        if event["type"] == "status":
            self._events_run = event["run_id"]
        elif event["type"] == "late_marker":
            with self._lock:
                self._buffer.withdraw(self._events_run, event["first_seq"], event["last_seq"], "late_marker")


def _sentence(error: Exception) -> str:
    """What the service said, where it did."""
    if isinstance(error, InvalidStatus):
        try:
            return str(json.loads(error.response.body or b"{}")["detail"])
        except (ValueError, KeyError):
            return f"it answers with HTTP {error.response.status_code}"
    return str(error) or type(error).__name__
