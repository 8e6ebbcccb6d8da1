"""Several arrays in one service: where each is found, and what is said of all of them together.

Each is a Service of its own, with its stream, decode thread, chain and bundle. The first stands at the contract's
paths, a further one below /arrays/NAME, where all that follows is as it would be alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from starlette.types import ASGIApp, Receive, Scope, Send

from server.array_settings import FIRST
from server.metrics import Together
from server.service import Service

Others = Mapping[str, Service]
NOBODY: Others = MappingProxyType({})


class Below:
    """ASGI middleware, the outermost: what lies below /arrays/NAME is the business of that array's application, which
    hears the rest of the path and guards itself as the first does."""

    def __init__(self, app: ASGIApp, apps: Mapping[str, ASGIApp]) -> None:
        self._app, self._apps = app, apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        below = scope.get("path", "").split("/", 3)
        if len(below) == 4 and below[:2] == ["", "arrays"] and below[2] in self._apps:
            await self._apps[below[2]]({**scope, "path": f"/{below[3]}"}, receive, send)
        else:
            await self._app(scope, receive, send)


def named(first: Service, others: Others) -> dict[str, Service]:
    """All of them, in the order of the settings."""
    return {FIRST: first, **others}


def not_ready(service: Service, others: Others) -> list[str]:
    """Why /readyz says no: of any array, by its name where there are several."""
    if not others:
        return service.not_ready()
    return [f"array {name}: {why}" for name, one in named(service, others).items() for why in one.not_ready()]


def metrics_text(service: Service, others: Others) -> bytes:
    """The body of /metrics."""
    if not others:
        return service.metrics.text()
    return Together({name: one.metrics for name, one in named(service, others).items()}).text()
