"""Who may do what: one row for each route. What has no row is not there for anybody (a test walks the routes).

A viewer reads. An operator also moves the trigger and masks channels. An admin also changes the bundle that decides.
Each may do what those above may. No token at all is needed to ask whether the process lives, to log in, and to disarm:
a stop that asks who you are is none.
"""

from __future__ import annotations

import re
from typing import Literal

from server.origins import DISARM
from server.tokens import Role

Need = Role | Literal["anyone"]

NEEDS: dict[tuple[str, str], Need] = {
    ("GET", "/healthz"): "anyone",
    ("POST", DISARM): "anyone",
    ("GET", "/login"): "anyone",
    ("POST", "/v1/login"): "anyone",
    ("POST", "/v1/logout"): "anyone",
    ("GET", "/page/{name:path}"): "anyone",  # what everybody can read in the source; the login page needs some of it
    ("GET", "/"): "viewer",
    ("GET", "/arrays/{name}"): "viewer",
    ("GET", "/readyz"): "viewer",  # its reasons name the stream
    ("GET", "/metrics"): "viewer",
    ("GET", "/openapi.json"): "viewer",
    ("GET", "/v1/status"): "viewer",
    ("GET", "/v1/models"): "viewer",
    ("GET", "/v1/predictions"): "viewer",
    ("GET", "/v1/trigger"): "viewer",
    ("POST", "/v1/decode"): "viewer",  # changes nothing
    ("GET", "/v2"): "viewer",
    ("GET", "/v2/health/live"): "viewer",
    ("GET", "/v2/health/ready"): "viewer",
    ("GET", "/v2/models/{name}"): "viewer",
    ("GET", "/v2/models/{name}/ready"): "viewer",
    ("POST", "/v2/models/{name}/infer"): "viewer",
    ("GET", "/v2/models/{name}/versions/{version}"): "viewer",
    ("GET", "/v2/models/{name}/versions/{version}/ready"): "viewer",
    ("POST", "/v2/models/{name}/versions/{version}/infer"): "viewer",
    ("WEBSOCKET", "/v1/predictions"): "viewer",
    ("WEBSOCKET", "/v1/events"): "viewer",
    ("WEBSOCKET", "/{path:path}"): "viewer",  # says that there is none
    ("PUT", "/v1/channels"): "operator",
    ("PUT", "/v1/trigger"): "operator",
    ("POST", "/v1/trigger/arm"): "operator",
    ("POST", "/v1/trigger/confirm"): "operator",
    ("POST", "/v1/trigger/heartbeat"): "operator",
    ("POST", "/v1/trigger/shadow"): "operator",
    ("POST", "/v1/trigger/preview"): "operator",
    ("POST", "/v1/trigger/clear"): "operator",
    ("POST", "/v1/models/{name}/activate"): "admin",
    ("POST", "/v1/models/rollback"): "admin",
    ("POST", "/v1/models/drop"): "admin",
}


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+(?::path)?\})", path)
    kinds = (
        (".*" if part.endswith(":path}") else "[^/]+") if part.startswith("{") else re.escape(part) for part in parts
    )
    return re.compile("".join(kinds), re.DOTALL)


_ROWS = [(method, _pattern(path), need) for (method, path), need in NEEDS.items()]


def needed(method: str, path: str) -> Need | None:
    """The row of a request; `WEBSOCKET` is a method here. None where there is none."""
    method = "GET" if method == "HEAD" else method
    return next((need for one, pattern, need in _ROWS if one == method and pattern.fullmatch(path)), None)


def methods(path: str) -> list[str]:
    """By which methods `path` can be asked for; empty where there is nothing."""
    return sorted(one for one, pattern, _ in _ROWS if one != "WEBSOCKET" and pattern.fullmatch(path))
