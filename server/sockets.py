"""The two WebSockets. They only speak: a client reads, and one that sends anything is shown the door.

One that does not read holds up nobody: nothing is written to a socket that is full (server/wire.py), its place in the
history stays behind, and when it reads again it is told what it lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgpack
import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from models.errors import OperatorFault
from server.broadcast import Dropped, Subscription
from server.feed import Feed
from server.frames import Variant
from server.problems import problem
from server.service import Service
from server.wire import EXTENSION, Reader, framed

PREDICTION_QUERY = {"format", "fields", "max_hz", "since_seq"}


async def serve_predictions(websocket: WebSocket, service: Service) -> None:
    """WebSocket /v1/predictions."""
    feed = service.predictions
    try:
        query = _query(websocket, PREDICTION_QUERY)
        variant = Variant.parse(query.get("format"), query.get("fields"))
        subscription = Subscription(
            feed.history,
            service.settings.depth,
            since_seq=None if "since_seq" not in query else _integer(query, "since_seq"),
            max_hz=None if "max_hz" not in query else _rate(query["max_hz"]),
            time_of=feed.sample_time,
        )
    except OperatorFault as fault:
        await problem(400, str(fault))(websocket.scope, websocket.receive, websocket.send)
        return
    await _serve(websocket, service, feed, subscription, variant, ())


async def serve_events(websocket: WebSocket, service: Service) -> None:
    """WebSocket /v1/events: how it stands and what happened lately, then everything as it happens."""
    feed = service.events
    try:
        _query(websocket, set())
    except OperatorFault as fault:
        await problem(400, str(fault))(websocket.scope, websocket.receive, websocket.send)
        return
    subscription = Subscription(feed.history, service.settings.depth)
    await _serve(websocket, service, feed, subscription, Variant(), feed.so_far())


async def _serve(
    websocket: WebSocket,
    service: Service,
    feed: Feed[Any],
    subscription: Subscription,
    variant: Variant,
    first: Iterable[str],
) -> None:
    if service.subscribers >= service.settings.subscribers:
        refusal = f"found {service.subscribers} clients already, expected fewer; close one, or raise `subscribers`"
        service.refused(503, refusal)
        await problem(503, refusal)(websocket.scope, websocket.receive, websocket.send)
        return
    service.subscribers += 1
    try:
        await websocket.accept()
        async with _writing(websocket, service, feed, subscription, variant, first):
            message = await websocket.receive()
        if message["type"] == "websocket.receive":
            await websocket.close(1008, "this WebSocket only speaks; send nothing")
    except WebSocketDisconnect:
        pass
    except asyncio.CancelledError:  # by the end of the service, which does not wait for who does not read
        if not service.ending:
            raise
    finally:
        service.subscribers -= 1


@contextlib.asynccontextmanager
async def _writing(
    websocket: WebSocket,
    service: Service,
    feed: Feed[Any],
    subscription: Subscription,
    variant: Variant,
    first: Iterable[str],
) -> AsyncIterator[None]:
    """What is due goes to the client, by the short way where there is one, else by a task of its own."""

    def lost(item: Dropped) -> str | bytes:
        service.dropped += item.count
        return _dropped(item, variant)

    def due() -> bytes | None:
        item = subscription.take()
        if item is None:
            return None
        return framed(lost(item)) if isinstance(item, Dropped) else frame_of(item)

    frame_of = feed.framing(variant)

    async def write() -> None:
        # The WebSocket goes away at any moment, by its client or by the server's end; who reads beside us then ends us.
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            for text in first:
                await websocket.send_text(text)
            while True:
                item = subscription.take()
                if item is None:
                    await feed.news()
                else:
                    await _send(websocket, lost(item) if isinstance(item, Dropped) else feed.frame(item, variant))

    wire = websocket.scope.get("extensions", {}).get(EXTENSION)
    if wire is None:
        writer = asyncio.create_task(write())
        try:
            yield
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        return
    reader = Reader(wire, map(framed, first), due, subscription.take_newest, frame_of)
    feed.readers.add(reader)
    try:
        reader.serve()
        yield
    finally:
        feed.readers.discard(reader)
        reader.close()


async def _send(websocket: WebSocket, data: str | bytes) -> None:
    await (websocket.send_text(data) if isinstance(data, str) else websocket.send_bytes(data))
    await asyncio.sleep(0)  # a send that fits the socket's buffer does not yield, and others must come between


def _dropped(item: Dropped, variant: Variant) -> str | bytes:
    message = {"type": "dropped", "count": item.count, "resume_seq": item.resume_seq}
    if variant.format == "json":
        return orjson.dumps(message).decode()
    packed: bytes = msgpack.packb(message)
    return packed


def _query(websocket: WebSocket, known: set[str]) -> dict[str, str]:
    pairs = websocket.query_params.multi_items()
    unknown = sorted({key for key, _ in pairs} - known)
    if unknown:
        raise OperatorFault(f"found query {', '.join(unknown)[:80]!r}, expected {', '.join(sorted(known)) or 'none'}")
    if len({key for key, _ in pairs}) < len(pairs):
        raise OperatorFault("found a query key twice, expected each once")
    return dict(pairs)


def _integer(query: dict[str, str], name: str) -> int:
    text = query[name]
    if not text.removeprefix("-").isdecimal() or len(text) > 18 or int(text) < -1:
        raise OperatorFault(f"found {name}={text[:40]!r}, expected the last seq that you have, or -1 for all")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.01 <= rate <= 1000.0:  # and not NaN
        raise OperatorFault(f"found max_hz={text[:40]!r}, expected a number from 0.01 to 1000")
    return rate
