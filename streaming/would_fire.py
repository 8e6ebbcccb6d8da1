"""What the trigger would have done with predictions that were made already. Pure, and faster than they came.

They go through the engine in SHADOW, favourable moments of the limits' first pattern. What is not in the samples
(lease, device, journal, age) is taken as good.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streaming.limits import Limits
from streaming.plan import simple_plan
from streaming.predictions import Prediction
from streaming.states import Event
from streaming.trigger import Trigger, TriggerEngine, TriggerSettings


@dataclass(frozen=True, slots=True)
class WouldFire:
    """Of one stretch at one threshold: the `sample_time` of each trigger, and what each had waited."""

    times_s: tuple[float, ...]
    waits_s: tuple[float, ...]
    minutes: float  # in which it could have fired at all, refractory included


def would_fire(
    predictions: Iterable[Prediction],
    limits: Limits,
    settings: TriggerSettings,
    rate_hz: float,
    hop_s: float,
    min_usable: int,
) -> WouldFire:
    """`predictions` in their order, one every `hop_s`, of a stream of `rate_hz`."""
    engine = TriggerEngine(settings, limits, simple_plan(limits), rate_hz, min_usable)
    engine.handle(Event.SHADOW)
    times, waits, good = [], [], 0
    for prediction in predictions:
        decision = engine.push(prediction)
        good += prediction.probability is not None
        if isinstance(decision, Trigger):
            times.append(decision.sample_time)
            waits.append(decision.waited_s)
    return WouldFire(tuple(times), tuple(waits), good * hop_s / 60)
