"""Bundles over HTTP: which there are, which one runs, and a change of it (`server.swap`)."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from server.service import Service


class Activation(BaseModel):
    """`shadow_s`: for so long the bundle decodes beside the running one before it takes over; 0: at once."""

    model_config = ConfigDict(extra="forbid")
    shadow_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


def bundle_routes(service: Service) -> APIRouter:
    router, swap = APIRouter(prefix="/v1/models"), service.swap

    @router.get("")
    async def models() -> Response:
        """Every bundle in the repository, which one runs, and which one is on its way."""
        listed = await asyncio.to_thread(service.bundles.list)
        return _json({"active": service.decoder.name, "models": listed, **swap.status()})

    @router.post("/{name}/activate")
    async def activate(name: str, asked: Activation | None = None) -> Response:
        """NAME (its highest version) or NAME@VERSION takes over between two windows: at once, or after its shadow."""
        runs = await swap.activate(name, asked.shadow_s if asked else 0.0)
        if runs:
            return _json({"active": service.decoder.name})
        return _json({"active": service.decoder.name, **swap.status()}, 202)

    @router.post("/rollback")
    async def rollback(_: Nothing | None = None) -> Response:
        """The bundle before the last change takes over again."""
        return _json({"active": await swap.roll_back()})

    @router.post("/drop")
    async def drop(_: Nothing | None = None) -> Response:
        """The bundle in shadow goes."""
        await swap.drop()
        return _json({"active": service.decoder.name})

    return router


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
