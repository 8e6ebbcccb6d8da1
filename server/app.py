"""HTTP and WebSockets: thin views of a Service. No decision is taken here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

import server.problems
from server.access import Access
from server.arrays import NOBODY, Below, Others, metrics_text, not_ready
from server.bundle_routes import bundle_routes
from server.control import control
from server.decoding import ProbeName
from server.documents import openapi
from server.frames import Variant, encode, unpack
from server.inference_protocol import inference_protocol
from server.login import login_routes
from server.metrics import CONTENT_TYPE
from server.origins import NPY, OriginGuard
from server.permission import PermissionGuard
from server.problems import problem
from server.service import Service
from server.sockets import serve_events, serve_predictions
from server.tokens import Tokens

PAGE = Path(__file__).parent / "page"
PARTS = (
    "array arrays budgets bundle channel checks dom events header latency link page plots signal state strip tabs "
    "thresholds trace"
)
ASSETS = frozenset(
    [f"{part}.js" for part in PARTS.split()]
    + [
        "page.css",
        "icon.svg",
        "login.js",
        "login.css",
        "vendor/uPlot.esm.js",
        "vendor/uPlot.min.css",
        "vendor/LICENSE-uPlot",
    ]
)
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Mask(BaseModel):
    """The channels that must not enter a window, 1-based in stream order: all of them, not a change."""

    model_config = ConfigDict(extra="forbid")
    masked: list[Annotated[int, Field(ge=1, strict=True)]] = Field(max_length=4096)


def create_app(service: Service, port: int, tokens: Tokens | None = None, others: Others = NOBODY) -> FastAPI:
    """The application. `port` is the one that is bound: only requests to it pass. `tokens`: who may; None: anybody.
    `others`: further arrays by name, each an application of its own below /arrays/NAME."""
    access = None if tokens is None else Access(tokens, port, service.settings.tls_cert is not None)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if access is not None:
                await stack.enter_async_context(access.watching())
            for one in (service, *others.values()):
                await stack.enter_async_context(one.running())
            yield

    app = _of(service, port, access, lifespan, others)
    if others:
        app.add_middleware(Below, apps={name: _of(one, port, access) for name, one in others.items()})
    return app


def _of(
    service: Service,
    port: int,
    access: Access | None,
    lifespan: Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]] | None = None,
    others: Others = NOBODY,
) -> FastAPI:
    """What is served of one array."""
    app = FastAPI(title="Phosphene", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.add_middleware(PermissionGuard, access=access, refused=service.refused)
    app.add_middleware(OriginGuard, port=port, settings=service.settings, refused=service.refused)
    app.include_router(login_routes(access))
    app.include_router(control(service.trigger_of))
    app.include_router(bundle_routes(service))
    server.problems.install(app)
    app.openapi = partial(openapi, app)  # type: ignore[method-assign]
    decode_slots = asyncio.Semaphore(4)
    app.include_router(inference_protocol(service, decode_slots))

    @app.get("/healthz")
    async def healthz() -> Response:
        """The process is alive."""
        return _json({"alive": True})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Samples arrive, a model is loaded, the deadline is met."""
        reasons = not_ready(service, others)
        return problem(503, "; ".join(reasons)) if reasons else _json({"ready": True})

    @app.get("/metrics")
    async def metrics() -> Response:
        # aside: a millisecond or more of text, for which no frame shall wait
        return Response(await asyncio.to_thread(metrics_text, service, others), media_type=CONTENT_TYPE)

    @app.get("/v1/status")
    async def status() -> Response:
        return _json(service.status())

    @app.get("/v1/predictions")
    async def predictions(
        since_seq: Annotated[int, Query(ge=-1)] = -1,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        fields: str | None = None,
    ) -> Response:
        """Held predictions after `since_seq`, oldest first."""
        variant = Variant.parse("json", fields)
        feed = service.predictions
        held = [feed.history[seq][2] for seq in feed.history.since(since_seq, limit)]
        head = orjson.dumps(
            {"run_id": service.run_id, "first_seq": feed.history.first_seq, "next_seq": feed.history.next_seq}
        ).decode()

        def body() -> str:  # megabytes where embeddings are asked for: not on the loop
            return f'{head[:-1]},"predictions":[{",".join(str(encode(unpack(one), variant)) for one in held)}]}}'

        return Response(await asyncio.to_thread(body), media_type="application/json")

    @app.post("/v1/decode")
    async def decode(request: Request, probe: Annotated[ProbeName, Query()] = "prestimulus") -> Response:
        """Decode float32 windows (n, channels, bins) of normalised MUA, JSON or NPY."""
        npy = request.headers.get("content-type", "").startswith(NPY)
        body = await request.body()  # the guard bounds it; before the slot, which a client that trickles must not hold
        if decode_slots.locked():
            return problem(503, "found 4 decode requests under way, expected fewer; try again", {"Retry-After": "1"})
        async with decode_slots:
            return _json(await asyncio.to_thread(service.decode, body, npy, probe))

    @app.put("/v1/channels")
    async def channels(mask: Mask) -> Response:
        """Mask channels from now on."""
        return _json(await service.set_mask(mask.masked))

    @app.websocket("/v1/predictions")
    async def predictions_socket(websocket: WebSocket) -> None:
        await serve_predictions(websocket, service)

    @app.websocket("/v1/events")
    async def events_socket(websocket: WebSocket) -> None:
        await serve_events(websocket, service)

    @app.websocket("/{path:path}")
    async def no_socket(websocket: WebSocket, path: str) -> None:
        refusal = problem(404, f"found WebSocket /{path[:80]}, expected /v1/predictions or /v1/events")
        await refusal(websocket.scope, websocket.receive, websocket.send)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers=SECURITY_HEADERS)

    @app.get("/arrays/{name}", include_in_schema=False)
    async def array(name: str) -> Response:
        if name not in others:
            raise HTTPException(404, f"found array {name[:40]!r}, expected one of {', '.join(others) or 'none'}")
        return RedirectResponse(f"/arrays/{name}/")

    @app.get("/login", include_in_schema=False)
    async def login_page() -> Response:
        return FileResponse(PAGE / "login.html", headers=SECURITY_HEADERS)

    @app.get("/page/{name:path}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in ASSETS:
            return problem(404, f"found /page/{name[:80]}, expected a file of the page")
        return FileResponse(PAGE / name, headers=SECURITY_HEADERS)

    return app


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
