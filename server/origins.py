"""The origin guard: who may speak to the service at all, before anything reads the request.

The threat is a web page in the operator's own browser: it can send requests and open WebSockets to 127.0.0.1, or to
wherever the service listens, and by re-binding its own name to that address (DNS rebinding) even read the answers. Both
are told by headers that a page cannot forge. `Host` must be ours, on every request. `Origin`, which programs leave out
and browsers do not, must be ours where it is given, and must be given with every control: whatever changes something.
Stopping alone passes without it, so that a program can always stop. CORS middleware would not do: it lets WebSockets
pass. A form of another page can send only three media types; requiring JSON (or NPY) shuts that way too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.problems import problem
from server.settings import LOOPBACK, Settings

NPY = "application/x-npy"
RAW = "application/octet-stream"
LARGE_BODY = 8 * 2**20
BODY = 64 * 2**10
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
DISARM = "/v1/trigger/disarm"


class OriginGuard:
    """ASGI middleware. `port` is the one that is really bound; `refused` hears status and sentence of each refusal."""

    def __init__(
        self,
        app: ASGIApp,
        port: int,
        settings: Settings,
        refused: Callable[[int, str], None] = lambda status, sentence: None,
    ) -> None:
        self._app, self._refused = app, refused
        scheme, usual = ("https", 443) if settings.tls_cert else ("http", 80)
        names = {*LOOPBACK, settings.host.lower()} - {"0.0.0.0"}
        self.hosts = {f"{name}:{port}" for name in names} | (names if port == usual else set())
        self.origins = {f"{scheme}://{host}" for host in self.hosts} | set(settings.origins)
        self.hosts |= {origin.partition("://")[2] for origin in settings.origins}  # how others call this machine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = self.refusal(scope, headers)
        if refusal is not None:
            self._refused(*refusal)
            await problem(*refusal)(scope, receive, send)
        elif scope["type"] == "http":
            await self._app(scope, _bounded(receive, limit(scope["path"])), send)
        else:
            await self._app(scope, receive, send)

    def refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and sentence, or None for a request that may pass."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host.lower() not in self.hosts:
            return 403, f"found Host {host[:80]!r}, expected one of {', '.join(sorted(self.hosts))}"
        if origin is not None and origin.lower() not in self.origins:
            return 403, f"found Origin {origin[:80]!r}, expected this service's own page or a program without one"
        if scope["type"] == "http" and scope["method"] in CHANGING:
            path = scope["path"]
            if origin is None and path != DISARM and not decodes(path):  # the one only stops, the others change nothing
                return 403, f"found no Origin, expected one of {', '.join(sorted(self.origins))}: this is a control"
            media_type = headers.get("content-type", "").split(";")[0].strip().lower()
            accepted = media_types(path)
            if media_type not in accepted:
                return 415, f"found Content-Type {media_type[:80]!r}, expected {' or '.join(filter(None, accepted))}"
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length[:20]) > limit(path):
                return 413, f"found a body of {length[:20]} bytes, expected at most {limit(path)}"
        return None


def decodes(path: str) -> bool:
    """Whether windows are brought to it: it takes large bodies, and changes nothing."""
    return path == "/v1/decode" or _infers(path)


def media_types(path: str) -> tuple[str, ...]:
    """What a body of `path` may be. tritonclient names none for its raw tensors, which no page can do."""
    if _infers(path):
        return ("application/json", RAW, "")
    return ("application/json", NPY) if decodes(path) else ("application/json",)


def limit(path: str) -> int:
    """The largest body, in bytes, that `path` takes."""
    return LARGE_BODY if decodes(path) else BODY


def _infers(path: str) -> bool:
    return path.startswith("/v2/models/") and path.endswith("/infer")


def _bounded(receive: Receive, most: int) -> Receive:
    """`receive`, for bodies that do not declare their length."""
    got = 0

    async def bounded() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise HTTPException(413, f"found a body of more than {most} bytes, expected at most {most}")
        return message

    return bounded
