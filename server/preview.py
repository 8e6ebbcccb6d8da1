"""How often other thresholds would have fired on the predictions that are held: POST /v1/trigger/preview.

The engine that decides answers it, in shadow. One at a time and on a worker thread, and never while armed: thresholds
cannot be changed then, and nothing may share the processor with a pulse for a display.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import msgpack
from starlette.exceptions import HTTPException

from server.problems import Conflict
from server.service import Service
from server.trigger_settings import Thresholds
from streaming.predictions import Latency, Prediction
from streaming.states import LIVE, State
from streaming.would_fire import would_fire

ANY = 1  # usable channels: where there were too few, the prediction is flagged


class Preview:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._busy = asyncio.Lock()

    async def of(self, asked: Thresholds) -> dict[str, Any]:
        """The answer for the thresholds that hold, changed where something is asked.

        Raises:
            OperatorFault: thresholds that cannot be. Conflict: armed, blind, or nothing to ask. HTTPException: busy.
        """
        service, gate = self._service, self._service.gate
        thresholds, limits = asked.over(gate.thresholds), gate.engine.limits
        stream = service.live.status().stream
        if gate.engine.state in (State.ARMING, *LIVE):
            raise Conflict("the trigger is armed, so thresholds cannot be changed; disarm it to try others")
        if gate.blind:
            raise Conflict("the plan is blind: what would have fired when is not shown; try thresholds before it")
        if limits is None or stream is None:
            raise Conflict("there is no valid limits file or no stream, so nothing could have fired")
        if self._busy.locked():
            raise HTTPException(503, "found a preview under way, expected none; try again", {"Retry-After": "1"})
        async with self._busy:
            history = service.predictions.history
            held = [history[seq][2] for seq in history.since(-1, history.capacity)]
            made = _predictions(held, service.decoder.name)
            hop_s = service.settings.hop_s
            found = await asyncio.to_thread(would_fire, made, limits, thresholds, stream.rate_hz, hop_s, ANY)
        fired, minutes = len(found.times_s), found.minutes
        return {
            "p_on": thresholds.p_on,
            "p_off": thresholds.p_off,
            "dwell_hops": thresholds.dwell_hops,
            "smoothing_s": thresholds.smoothing_s,
            "minutes": minutes,
            "would_fire": fired,
            "per_minute": fired / minutes if minutes else None,
            "mean_wait_s": sum(found.waits_s) / fired if fired else None,
            "times": found.times_s,
        }


def _predictions(held: Iterable[bytes], model: str) -> Iterator[Prediction]:
    """Those of the bundle that runs, without their embeddings."""
    for packed in held:
        told = msgpack.unpackb(packed)
        if told["model"] == model:
            told.pop("type"), told.pop("run_id")
            told |= {"embedding": None, "flags": tuple(told["flags"]), "latency_ms": Latency(0, 0, 0, 0)}
            yield Prediction(**told)
