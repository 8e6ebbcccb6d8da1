"""The second guard: may whoever asks do this? After the origin guard, before anything reads the request.

Where nobody is asked for a token (`access` is None) everybody may do everything, and only the rate of controls is
bounded. Disarming is bounded by nothing: it passes without a token, with a wrong one, and however often it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.access import Access, Caller
from server.origins import CHANGING, DISARM, decodes
from server.problems import problem
from server.rates import Rates
from server.roles import methods, needed
from server.wire import EXTENSION, LEAVES_S

log = logging.getLogger("phosphene")

CONTROLS_PER_S, CONTROLS_AT_ONCE = 20.0, 40  # of one token, or of one address; the page's lease takes 2 a second
UNTOLD = "/v1/trigger/heartbeat"  # twice a second


Refusal = tuple[int, str, Mapping[str, str]]  # status, sentence, headers


class PermissionGuard:
    """ASGI middleware; `refused` hears status and sentence of each refusal."""

    def __init__(self, app: ASGIApp, access: Access | None, refused: Callable[[int, str], None]) -> None:
        self._app, self._access, self._refused = app, access, refused
        self._controls = Rates(CONTROLS_PER_S, CONTROLS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        caller = None if self._access is None else self._access.who(headers)
        refusal = self._refusal(scope, headers, caller)
        if refusal is not None and refusal[0] == 401 and scope["path"] == "/" and scope["type"] == "http":
            await RedirectResponse("/login", 303)(scope, receive, send)
        elif refusal is not None:
            self._refused(*refusal[:2])
            await problem(*refusal)(scope, receive, send)
        elif caller is not None and scope["type"] == "websocket":
            await self._speak(caller, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str], caller: Caller | None) -> Refusal | None:
        method, path = scope.get("method", "WEBSOCKET"), scope["path"]
        if self._access is not None:
            refusal = self._not_allowed(method, path, headers, caller, _address(scope))
            if refusal is not None:
                return refusal
        if method not in CHANGING or path == DISARM or decodes(path):  # the one only stops, the others have their bound
            return None
        if wait_s := self._controls.wait_s(caller.token.name if caller else _address(scope)):
            detail = f"found more than {CONTROLS_PER_S:g} controls a second, expected fewer; wait {wait_s:.2f} s"
            return 429, detail, {"Retry-After": "1"}
        if caller is not None and path != UNTOLD:
            log.info("%s (%s): %s %s", caller.token.name, caller.token.role, method, path[:200])
        return None

    def _not_allowed(
        self, method: str, path: str, headers: Mapping[str, str], caller: Caller | None, address: str
    ) -> Refusal | None:
        assert self._access is not None
        need = needed(method, path)
        if need == "anyone":
            return None
        if caller is None:
            if "authorization" in headers and (wait_s := self._access.failures.wait_s(address)):
                return too_many(wait_s)
            found = "a token that does not hold" if "authorization" in headers else "no token and no login that holds"
            detail = f"found {found}, expected `Authorization: Bearer TOKEN`, or a login at /login"
            return 401, detail, {"WWW-Authenticate": "Bearer"}
        if caller.session and method == "WEBSOCKET" and "origin" not in headers:
            return 403, "found a login's cookie without an Origin, expected a page of this service, or a token", {}
        if need is None:
            if allowed := methods(path):
                return 405, f"found {method}, expected {' or '.join(allowed)}", {"Allow": ", ".join(allowed)}
            return 404, f"found {path[:80]!r}, expected a path of docs/wire.md", {}
        if not caller.token.may(need):
            return 403, f"found {caller.token.name}, whose role is {caller.token.role}, expected {need}", {}
        return None

    async def _speak(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket that is closed, with 1008, as soon as its token does not hold any more."""
        assert self._access is not None
        with self._access.socket(caller) as ends:

            async def receive_or_end() -> Message:
                heard, ended = asyncio.ensure_future(receive()), asyncio.ensure_future(ends.wait())
                try:
                    await asyncio.wait((heard, ended), return_when=asyncio.FIRST_COMPLETED)
                    if heard.done():
                        return heard.result()
                finally:
                    heard.cancel()
                    ended.cancel()
                log.warning("closed a WebSocket of %s, whose token or login does not hold any more", caller.token.name)
                close = {"type": "websocket.close", "code": 1008, "reason": "the token does not hold any more"}
                with contextlib.suppress(RuntimeError, OSError):  # it has gone
                    await _closed(close, scope, send)
                return {"type": "websocket.disconnect", "code": 1008}

            await self._app(scope, receive_or_end, send)


def too_many(wait_s: float) -> Refusal:
    """The answer to yet another token that does not hold. One that does always passes: nobody can lock others out."""
    detail = "found too many tokens from this address that do not hold; look for the program that sends an old one"
    return 429, detail, {"Retry-After": f"{wait_s:.0f}"}


async def _closed(close: Message, scope: Scope, send: Send) -> None:
    """Says why, to a client that reads; one that does not is cut off."""
    try:
        await asyncio.wait_for(send(close), LEAVES_S)
    except TimeoutError:
        if wire := scope.get("extensions", {}).get(EXTENSION):
            wire.cut_off()


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "?"
