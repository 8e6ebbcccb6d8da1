"""The trigger's controls over HTTP: thin views of the gate, which alone decides.

What it refuses is a 409, in its words. No message can raise a limit: there is none that carries one. Where the gate may
touch the device it is called on a thread of its own, so that the event loop never waits for a serial line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from models.errors import Fault
from server.preview import Preview
from server.service import Service
from server.trigger_settings import PlanSettings, Thresholds, planner

Answer = TypeVar("Answer")
STRICT = ConfigDict(extra="forbid", strict=True)
Token = Annotated[str, Field(min_length=1, max_length=200)]
Words = Annotated[str, Field(min_length=1, max_length=200)]
RENEW_S = 0.5


class Arm(BaseModel):
    """First step: under which limits."""

    model_config = STRICT
    limits_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Confirm(BaseModel):
    """Second step."""

    model_config = STRICT
    confirm_token: Token


class Heartbeat(BaseModel):
    model_config = STRICT
    lease_token: Token


class Disarm(BaseModel):
    """`stop` latches a fault beside."""

    model_config = STRICT
    stop: bool = False
    reason: Words | None = None


class Clear(BaseModel):
    """Somebody has looked at the fault, and says what it was."""

    model_config = STRICT
    reason: Words


class Nothing(BaseModel):
    model_config = STRICT


class Configuration(Thresholds):
    """Thresholds, and optionally another plan; what is left out stays as it is."""

    plan: PlanSettings | None = None


def control(service: Service) -> APIRouter:
    """/v1/trigger and what is below it."""
    routes, gate, preview = APIRouter(prefix="/v1/trigger"), service.gate, Preview(service)

    async def ask(call: Callable[..., Answer], *arguments: Any) -> Answer:
        try:
            return await service.control(call, *arguments)
        except Fault as fault:
            raise HTTPException(409, str(fault)) from fault

    @routes.get("")
    async def state() -> Response:
        """State, why it does not fire, limits, budgets, lease, device, hit rates."""
        return _json(service.trigger_status())

    @routes.put("")
    async def configure(asked: Configuration) -> Response:
        """Other thresholds, another plan; not while armed."""
        thresholds, limits = asked.over(gate.thresholds), gate.engine.limits
        make_plan = None if asked.plan is None else planner(asked.plan)
        if make_plan is not None and limits is not None:  # one that cannot be made is the request's fault
            await asyncio.to_thread(make_plan, limits)
        await ask(gate.configure, thresholds, make_plan)
        service.journal.write("settings", {"asked": asked.model_dump(mode="json", exclude_none=True)})
        return _json(service.trigger_status())

    @routes.post("/preview")
    async def would_fire(asked: Thresholds) -> Response:
        """How often these thresholds would have fired on the held predictions; changes nothing."""
        return _json(await preview.of(asked))

    @routes.post("/arm")
    async def arm(asked: Arm) -> Response:
        """Request; the answer's token confirms it within `expires_s`."""
        token, expires_s = await ask(gate.request, asked.limits_sha256)
        return _json({"confirm_token": token, "expires_s": expires_s})

    @routes.post("/confirm")
    async def confirm(asked: Confirm) -> Response:
        """Armed; the answer's token renews the lease."""
        token = await ask(gate.confirm, asked.confirm_token)
        inhibits_s, disarms_s = gate.settings.lease_inhibits_s, gate.settings.lease_disarms_s
        leases = {"renew_s": RENEW_S, "inhibited_after_s": inhibits_s, "disarmed_after_s": disarms_s}
        return _json({"lease_token": token, **leases})

    @routes.post("/heartbeat")
    async def heartbeat(asked: Heartbeat) -> Response:
        """Renew the lease."""
        await ask(gate.heartbeat, asked.lease_token)
        return _json({"state": gate.engine.state.value})

    @routes.post("/disarm")
    async def disarm(asked: Disarm) -> Response:
        """Nothing fires any more once this has been answered. By anyone, from any state."""
        if asked.stop:
            await ask(gate.stop, asked.reason or "an operator's stop")
        else:
            await ask(gate.disarm, asked.reason or "an operator's wish")
        return _json(service.trigger_status())

    @routes.post("/shadow")
    async def shadow(_: Nothing) -> Response:
        """Decide and say so; nothing leaves."""
        await ask(gate.shadow)
        return _json(service.trigger_status())

    @routes.post("/clear")
    async def clear(asked: Clear) -> Response:
        """End a fault, disarmed."""
        await ask(gate.clear, asked.reason)
        return _json(service.trigger_status())

    return routes


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
