"""The page's login: a token is posted once and becomes a cookie."""

from __future__ import annotations

import logging
from typing import Annotated

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from server.access import SESSION_S, Access
from server.permission import too_many
from server.problems import Conflict, problem

log = logging.getLogger("phosphene")


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    token: Annotated[str, Field(min_length=1, max_length=200, repr=False)]


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


def login_routes(access: Access | None) -> APIRouter:
    """`access`: None where nobody is asked for a token."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/login")
    async def log_in(request: Request, asked: Login) -> Response:
        """Change a token for a cookie of twelve hours."""
        if access is None:
            raise Conflict("found a login, expected none: this service asks for no token; its page is at /")
        address = request.client.host if request.client else "?"
        known = access.log_in(asked.token.strip())
        if known is None:
            if wait_s := access.failures.wait_s(address):
                return problem(*too_many(wait_s))
            log.warning("a login from %s failed: no such token", address)
            return problem(401, "found a token that does not hold, expected one of `phosphene token add`")
        token, cookie = known
        log.info("%s (%s) logged in from %s", token.name, token.role, address)
        answer = Response(orjson.dumps({"name": token.name, "role": token.role}), media_type="application/json")
        answer.set_cookie(
            access.cookie, cookie, int(SESSION_S), httponly=True, samesite="strict", secure=access.secure, path="/"
        )
        return answer

    @routes.post("/logout")
    async def log_out(request: Request, _: Nothing | None = None) -> Response:
        """Forget the cookie."""
        answer = Response(b"{}", media_type="application/json")
        if access is not None:
            access.log_out(request.headers)
            answer.delete_cookie(access.cookie, path="/", httponly=True, samesite="strict", secure=access.secure)
        return answer

    return routes
