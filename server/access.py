"""Who is asking: a program by its token in each request, the page by a cookie that its token was changed for.

A token never stands in an address, which ends in histories and logs. A browser cannot put a header on a WebSocket,
hence the cookie: HttpOnly (no script reads it), SameSite=Strict (no other site sends it), and of this process alone,
which forgets it after twelve hours, at its end, or once its token is revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass

from starlette.requests import cookie_parser

from server.rates import Rates
from server.tokens import Token, Tokens, hashed

log = logging.getLogger("phosphene")

SESSION_S = 12 * 3600.0
MOST_SESSIONS = 64
LOOK_S = 0.4  # and with a look of the file and a frame: out within a second
FAILURES_A_MINUTE = 5


@dataclass(frozen=True, slots=True)
class Caller:
    """`session`: the hash of the page's cookie, or empty for a program."""

    token: Token
    session: str = ""


class Access:
    """`secure`: over TLS; `clock`: any steady clock in seconds. All of it is the event loop's."""

    def __init__(self, tokens: Tokens, port: int, secure: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.tokens, self.secure, self._clock = tokens, secure, clock
        # browsers keep one jar for all ports of a machine; __Host-: by this very host, over TLS, or not at all
        self.cookie = f"{'__Host-' if secure else ''}phosphene-{port}"
        self.failures = Rates(FAILURES_A_MINUTE / 60, FAILURES_A_MINUTE, clock)
        self._sessions: OrderedDict[str, tuple[Token, float]] = OrderedDict()
        self._sockets: dict[asyncio.Event, Caller] = {}

    def who(self, headers: Mapping[str, str]) -> Caller | None:
        """Of a request's headers, by their lower-case names. A token that is presented must hold: a cookie beside one
        that does not makes nobody known."""
        if "authorization" in headers:
            token = self.tokens.of(presented(headers) or "")
            return None if token is None else Caller(token)
        session = hashed(cookie_parser(headers.get("cookie", "")).get(self.cookie, ""))
        caller = Caller(self._sessions[session][0], session) if session in self._sessions else None
        return caller if caller is not None and self.holds(caller) else None

    def holds(self, caller: Caller) -> bool:
        """Whether whoever was let in may stay."""
        if caller.session:
            session = self._sessions.get(caller.session)
            if session is None or session[0] != caller.token or session[1] < self._clock():
                return False
        return self.tokens.holds(caller.token)

    def log_in(self, secret: str) -> tuple[Token, str] | None:
        """Whose secret it is, and the cookie for it."""
        token = self.tokens.of(secret)
        if token is None:
            return None
        cookie = secrets.token_urlsafe(32)
        self._sessions[hashed(cookie)] = (token, self._clock() + SESSION_S)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token, cookie

    def log_out(self, headers: Mapping[str, str]) -> None:
        """Forget the cookie; its WebSockets close."""
        self._sessions.pop(hashed(cookie_parser(headers.get("cookie", "")).get(self.cookie, "")), None)
        self._show_out()

    @contextlib.contextmanager
    def socket(self, caller: Caller) -> Iterator[asyncio.Event]:
        """For as long as a WebSocket of `caller` is open; the event is set once it must close."""
        ends = asyncio.Event()
        self._sockets[ends] = caller
        try:
            yield ends
        finally:
            del self._sockets[ends]

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Looks at the file twice a second."""
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await asyncio.to_thread(self.tokens.look)  # on a disk that may be slow
            except Exception:
                log.exception("the file of tokens could not be looked at")
            self._show_out()

    def _show_out(self) -> None:
        for ends, caller in self._sockets.items():
            if not self.holds(caller):
                ends.set()


def presented(headers: Mapping[str, str]) -> str | None:
    """The token of an Authorization header; None where there is none."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None
