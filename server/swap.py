"""Another bundle takes over while the loop runs: opened and warmed beside, shadowed, promoted between two windows.

Never while the trigger is armed or being armed. The bundle before stays open for a minute and takes over again where
the new one's outputs turn bad, or where somebody says so. One bundle is changed at a time. All of this is the event
loop's; opening a bundle is a worker thread's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.errors import Fault
from server.problems import Conflict
from server.status import finite
from streaming.predictions import Prediction
from streaming.shadow import Seen, Shadow
from streaming.states import LIVE, State

if TYPE_CHECKING:
    from models.onnx_decoder import OnnxDecoder
    from server.service import Service


PROBATION_S = 60.0  # for so long the bundle before stays open and the new one is watched
WATCHED = 100  # predictions
BAD_SHARE = 0.1  # of them, not finite or slower than the hop


@dataclass(eq=False)
class Candidate:
    """A bundle in shadow, until `until` of the service's clock."""

    decoder: OnnxDecoder
    shadow: Shadow
    until: float


class Probation:
    """Whether a bundle that has just taken over does what the shadow promised."""

    def __init__(self, hop_s: float) -> None:
        self._hop_ms = hop_s * 1e3
        self._newest: deque[Prediction] = deque(maxlen=WATCHED)

    def push(self, prediction: Prediction) -> str:
        """Why the bundle before must take over again; empty while nothing speaks for it."""
        if prediction.embedding is None and "not_finite" not in prediction.flags:
            return ""  # the data's fault, not the bundle's
        newest = self._newest
        newest.append(prediction)
        most = BAD_SHARE * WATCHED
        if (bad := sum("not_finite" in one.flags for one in newest)) > most:
            return f"{bad} of its last {len(newest)} outputs were not finite"
        if (slow := sum(one.latency_ms.inference > self._hop_ms for one in newest)) > most:
            return f"{slow} of its last {len(newest)} windows took longer than the hop of {self._hop_ms:g} ms"
        said = {one.probability for one in newest}
        if len(newest) == WATCHED and len(said) == 1 and None not in said:
            return f"its last {WATCHED} probabilities were all the same"
        return ""


class Swap:
    """`clock`: any steady clock in seconds."""

    def __init__(self, service: Service, clock: Callable[[], float]) -> None:
        self._service, self._clock = service, clock
        self._candidate: Candidate | None = None
        self._before: OnnxDecoder | None = None  # still open
        self._before_name = ""
        self._probation: Probation | None = None
        self._probation_ends = 0.0
        self._last: dict[str, Any] | None = None  # what became of the last change that was asked for
        self._going_back: asyncio.Task[None] | None = None  # held, since a task that nobody holds may be collected
        self._lock = asyncio.Lock()

    # What people ask for ---------------------------------------------------------------------------------------------

    async def activate(self, name: str, shadow_s: float = 0.0) -> bool:
        """Open, check and warm NAME[@VERSION], and promote it, or have it shadow for so long first. Returns whether it
        runs already.

        Raises:
            Conflict: armed, or a bundle that does not fit the stream, or cannot shadow because it reads other windows.
            OperatorFault: no such bundle. BundleFault: what `Bundles.open` refuses.
        """
        async with self._lock:
            self._refuse_armed()
            decoder = await asyncio.to_thread(self._service.bundles.open, name)
            await self._refuse_misfit(decoder)
            live = self._service.live
            if shadow_s and not live.reads_the_same(decoder):
                raise Conflict(
                    f"{decoder.name} cannot shadow {self._service.decoder.name}: there is no stream, or it reads other "
                    "windows (chain, channels, length), so that there is nothing to compare; leave shadow_s out"
                )
            self._refuse_armed()  # while it was opened, somebody may have armed
            await self._drop(f"{decoder.name} came instead")
            self._refuse_armed()
            if not shadow_s:
                await self._promote(decoder, None)
                return True
            shadow = Shadow(decoder, self._service.settings.mode)
            self._candidate = Candidate(decoder, shadow, self._clock() + shadow_s)
            live.shadow(shadow)
            self._tell("candidate", decoder, f"shadows {self._service.decoder.name} for {shadow_s:g} s")
            return False

    async def drop(self) -> None:
        """The candidate is not wanted any more.

        Raises:
            Conflict: there is none.
        """
        async with self._lock:
            if self._candidate is None:
                raise Conflict("found no bundle in shadow, expected one; see GET /v1/models")
            await self._drop("it was asked to go")

    async def roll_back(self, why: str = "somebody asked for it") -> str:
        """The bundle before takes over again, at once while it is open, else as `activate`; returns its name.

        Raises:
            Conflict: armed, or there was none, or it does not fit the stream that came since.
        """
        async with self._lock:
            self._refuse_armed()
            if not self._before_name:
                raise Conflict("found no bundle before this one, expected a swap since the start")
            before = await self._before_again()
            self._refuse_armed()  # while it was opened, somebody may have armed
            await self._drop("the bundle before comes back")  # it was beside another one
            self._refuse_armed()
            await self._back(before, why)
            return before.name

    def status(self) -> dict[str, Any]:
        """For GET /v1/models."""
        one, now = self._candidate, self._clock()
        return {
            "candidate": one
            and {"name": one.decoder.name, "s_left": max(0.0, one.until - now), **told(one.shadow.seen())},
            "before": self._before_name or None,
            "probation_s_left": max(0.0, self._probation_ends - now) if self._probation else 0.0,
            "last": self._last,
        }

    # What happens by itself ------------------------------------------------------------------------------------------

    def predicted(self, prediction: Prediction) -> None:
        """Each prediction, as it goes out."""
        probation = self._probation
        if probation is None or prediction.model != self._service.decoder.name:
            return
        if why := probation.push(prediction):
            self._probation = None
            self._going_back = asyncio.create_task(self._roll_back_alone(self._service.decoder, why))

    async def tick(self) -> None:
        """Ten times a second."""
        if self._lock.locked() or not (self._candidate or self._probation):
            return
        async with self._lock:
            if self._candidate is not None:
                await self._judge(self._candidate)
            if self._probation is not None and self._clock() > self._probation_ends:
                self._probation = self._before = None  # its memory goes back

    async def close(self) -> None:
        async with self._lock:
            await self._drop("the service ends")

    async def _judge(self, one: Candidate) -> None:
        if self._armed():
            await self._drop("the trigger is armed")
        elif one.shadow.seen().problem:
            await self._drop(one.shadow.seen().problem)
        elif self._clock() >= one.until:
            seen = await self._end_shadow(one)  # its last window counts, too
            why = seen.why_not(self._service.settings.hop_s) or ("the trigger is armed" if self._armed() else "")
            if why:
                self._tell("dropped", one.decoder, why, seen)
            else:
                await self._promote(one.decoder, seen)

    async def _roll_back_alone(self, bad: OnnxDecoder, why: str) -> None:
        async with self._lock:
            if self._service.decoder is not bad:  # while this waited, somebody put another in its place
                return
            try:
                before = await self._before_again()
                await self._drop("the bundle before comes back")
                await self._back(before, why)
            except Exception as fault:  # another stream has come since, or whatever it is: the bad one runs on, told
                self._before = None  # its memory goes back; its name stays, for who asks again on another stream
                self._service.log.error("%s: %s; no way back: %s", self._service.decoder.name, why, fault)

    async def _before_again(self) -> OnnxDecoder:
        """The bundle before, opened where it is not open any more."""
        decoder = self._before
        if decoder is None:
            decoder = await asyncio.to_thread(self._service.bundles.open, self._before_name)
        await self._refuse_misfit(decoder)
        return decoder

    async def _back(self, decoder: OnnxDecoder, why: str) -> None:
        bad = self._service.decoder.name
        self._service.log.warning("back to %s from %s: %s", decoder.name, bad, why)
        await self._promote(decoder, None, f"back from {bad}: {why}")
        self._probation = self._before = None  # never back to what was left because it was bad
        self._before_name = ""

    async def _promote(self, decoder: OnnxDecoder, seen: Seen | None, why: str = "") -> None:
        """From the next window on. The trigger decides nothing on it before somebody has said so again."""
        service = self._service
        await service.control(service.gate.disarm, f"bundle {decoder.name} is activated")
        self._before, self._before_name = service.decoder, service.decoder.name
        self._probation, self._probation_ends = Probation(service.settings.hop_s), self._clock() + PROBATION_S
        service.take_over(decoder)
        self._tell("active", decoder, why or f"after {self._before_name}", seen)

    async def _drop(self, why: str) -> None:
        one = self._candidate
        if one is not None:
            self._tell("dropped", one.decoder, why, await self._end_shadow(one))

    async def _end_shadow(self, one: Candidate) -> Seen:
        self._service.live.shadow(None)
        seen = await asyncio.to_thread(one.shadow.stop)
        self._candidate = None  # behind it: whoever ends the service meanwhile still finds it, and tells
        return seen

    def _tell(self, what: str, decoder: OnnxDecoder, why: str, seen: Seen | None = None) -> None:
        fields = {"what": what, "name": decoder.name, "bundle_sha256": decoder.manifest.manifest_sha256, "why": why}
        self._last = fields | {"shadow": seen and told(seen)}
        self._service.log.info(
            "bundle %s: %s, %s", decoder.name, what, why, extra={"event": "bundle", "fields": self._last}
        )
        self._service.journal.write("bundle", self._last)
        self._service.events.happened("bundle", self._last)

    async def _refuse_misfit(self, decoder: OnnxDecoder) -> None:
        try:
            await asyncio.to_thread(self._service.live.check, decoder)
        except (Fault, ArithmeticError, ValueError) as fault:
            raise Conflict(f"{decoder.name} cannot be served on this stream: {fault}; activate another") from fault

    def _armed(self) -> bool:
        return self._service.trigger_of.gate.engine.state in (State.ARMING, *LIVE)

    def _refuse_armed(self) -> None:
        if self._armed():
            raise Conflict("the trigger is armed: no bundle is changed under it; disarm first")


def told(seen: Seen) -> dict[str, Any]:
    """For JSON, where NaN is null."""
    return {name: finite(value) if isinstance(value, float) else value for name, value in asdict(seen).items()}
