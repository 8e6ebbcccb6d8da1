"""What is published to clients: a history, a wake-up for its readers, and each prediction encoded once per variant."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import orjson

from server.broadcast import History
from server.frames import PACKED, Variant, as_fields, encode, revoke, unpack
from server.wire import Reader, framed
from streaming.predictions import Prediction

Item = TypeVar("Item")

ENCODED = 256  # encoded frames that are kept for readers that lag a little


class Feed(Generic[Item]):
    """A history whose readers are served as something comes, or wait for news. It lives on the event loop."""

    def __init__(self, hold_s: float, capacity: int, clock: Callable[[], float]) -> None:
        self.history: History[Item] = History(hold_s, capacity)
        self.readers: set[Reader] = set()
        self._clock = clock
        self._news = asyncio.Event()
        self._framed: dict[Variant, OrderedDict[int, bytes]] = {}

    def push(self, seq: int, item: Item) -> None:
        self.history.push(seq, item, self._clock())
        for reader in tuple(self.readers):
            reader.news(seq)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def frame(self, seq: int, variant: Variant) -> str | bytes:
        """The message that is held under `seq`, as a client of this variant gets it."""
        raise NotImplementedError

    def framing(self, variant: Variant) -> Callable[[int], bytes]:
        """seq → the same message as the bytes of a WebSocket frame, made once for all who read this variant."""
        frames = self._framed.setdefault(variant, OrderedDict())

        def frame_of(seq: int) -> bytes:
            found = frames.get(seq)
            if found is None:
                found = frames[seq] = framed(self.frame(seq, variant))
                if len(frames) > ENCODED:
                    frames.popitem(last=False)
            return found

        return frame_of

    async def news(self) -> None:
        """Return when something new has been published."""
        await self._news.wait()


class Predictions(Feed[tuple[float, int, bytes]]):
    """Ten minutes of predictions as (sample_time, last_sample, packed frame).

    They are held as tuples of numbers and bytes, which the garbage collector stops following: 60 000 objects that it
    would walk through while it holds the interpreter lock would show in the decode thread's latency.
    """

    def __init__(self, run_id: str, hold_s: float, capacity: int, clock: Callable[[], float]) -> None:
        super().__init__(hold_s, capacity, clock)
        self._run_id = run_id
        self._encoded: OrderedDict[tuple[int, Variant], str | bytes] = OrderedDict()

    def publish(self, prediction: Prediction) -> None:
        packed = encode(as_fields(prediction, self._run_id), PACKED)
        assert isinstance(packed, bytes)
        self.push(prediction.seq, (prediction.sample_time, prediction.last_sample, packed))

    def sample_time(self, seq: int) -> float:
        return self.history[seq][0]

    def frame(self, seq: int, variant: Variant) -> str | bytes:
        """The frame of a held prediction, encoded once for all who read this variant."""
        packed = self.history[seq][2]
        if variant == PACKED:
            return packed
        key = (seq, variant)
        frame = self._encoded.get(key)
        if frame is None:
            frame = self._encoded[key] = encode(unpack(packed), variant)
            if len(self._encoded) > ENCODED:
                self._encoded.popitem(last=False)
        return frame

    def flag_late(self, first_sample: int, last_sample: int) -> tuple[int, int] | None:
        """Withdraw what is held of the predictions whose newest sample lies in [first_sample, last_sample]: a marker
        came too late for them. Returns the first and last `seq` that changed."""
        changed: list[int] = []
        newer: float = math.inf
        for seq in range(self.history.next_seq - 1, self.history.first_seq - 1, -1):
            sample_time, sample, packed = self.history[seq]
            if sample < first_sample or sample > newer:  # older than asked for, or of an earlier stream
                break
            newer = sample
            if sample <= last_sample:
                self.history.replace(seq, (sample_time, sample, revoke(packed, "late_marker")))
                changed.append(seq)
        self._encoded.clear()
        for frames in self._framed.values():
            frames.clear()
        return (changed[-1], changed[0]) if changed else None


class Events(Feed[str]):
    """Messages of /v1/events as JSON text, numbered by `event_seq`."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        super().__init__(600.0, capacity, clock)
        self._states: dict[str, str] = {}
        self._happened: deque[str] = deque(maxlen=64)

    def state(self, kind: str, fields: dict[str, Any]) -> None:
        """Publish how something is; the next of its kind replaces it."""
        self._states[kind] = self._publish(kind, fields)

    def happened(self, kind: str, fields: dict[str, Any]) -> None:
        """Publish that something happened."""
        self._happened.append(self._publish(kind, fields))

    def so_far(self) -> list[str]:
        """What a new reader is told first: every state, then the newest happenings."""
        return [*self._states.values(), *self._happened]

    def frame(self, seq: int, variant: Variant) -> str:
        return self.history[seq]

    def _publish(self, kind: str, fields: dict[str, Any]) -> str:
        seq = self.history.next_seq
        text = orjson.dumps({"type": kind, "event_seq": seq, **fields}, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        self.push(seq, text)
        return text
