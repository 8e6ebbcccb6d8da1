"""Every error of the HTTP interface as RFC 9457 problem details."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models.errors import BundleFault, Fault, OperatorFault

MEDIA_TYPE = "application/problem+json"


class Conflict(OperatorFault):
    """Not in this state."""


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None
) -> Response:
    """One problem: `title` is the status in words, `detail` what was found, what was expected and the mend. `more`:
    members beside these."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **(more or {})}
    try:
        content = orjson.dumps(body)
    except TypeError:  # a request can name half a character (\\ud800), an answer cannot
        content = json.dumps(body).encode("ascii")
    return Response(content, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make `app` answer every error, expected or not, with a problem."""

    async def from_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), error.headers)

    async def from_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem(422, "; ".join(_sentence(entry) for entry in error.errors()))

    async def from_fault(_: Request, error: Exception) -> Response:
        if isinstance(error, Conflict):
            return problem(409, str(error))
        if isinstance(error, OperatorFault):
            return problem(422, str(error))
        if isinstance(error, BundleFault):
            return problem(409, str(error))
        return problem(503, str(error))

    async def from_bug(_: Request, error: Exception) -> Response:
        return problem(500, f"a bug in Phosphene: {type(error).__name__}; the server's log has the traceback")

    app.add_exception_handler(HTTPException, from_http)
    app.add_exception_handler(RequestValidationError, from_validation)
    app.add_exception_handler(Fault, from_fault)
    app.add_exception_handler(Exception, from_bug)


def _sentence(entry: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in entry["loc"])
    return f"{where}: {entry['msg']}"
