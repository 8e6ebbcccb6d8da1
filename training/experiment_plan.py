"""What an experiment decides before its first trial: limits, schedules, thresholds, and one hash over all of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.decoder import Decoder
from streaming.limits import Limits, Pattern
from streaming.participant.anatomy import anatomy
from streaming.participant.trials import THRESHOLD_ELECTRODES
from streaming.plan import Plan, make_plan
from streaming.trigger import TriggerSettings
from training.experiment_settings import SESSIONS_OF_A_SEED, ExperimentSettings
from training.recalibration import Recalibration

LIMITS = """\
# Written by `phosphene experiment`; no real device takes it.
name = "experiment on the simulated participant"
participant = "simulated"
simulated_only = true
electrodes = {electrodes}
currents_ua = {currents}

[pulse]
phase_us = 170
interphase_us = 60
frequency_hz = 300
pulses = 50

[limits]
current_ua = 128
charge_per_phase_nc = 25
pulses_per_minute = 20
pulses_per_session = 1000
refractory_s = 3.0
armed_max_s = 7200
"""
LEAST_P_ON = 0.505  # a trigger's thresholds lie above one half


def limits_text(electrodes: Sequence[int], currents_ua: Sequence[float]) -> str:
    """A limits file for the simulated participant."""
    return LIMITS.format(electrodes=list(electrodes), currents=list(currents_ua))


def limits_of(settings: ExperimentSettings) -> str:
    """The electrodes of threshold sessions that have contact, each at what the staircase of session 0 found. Live it is
    the first of them: the service's plans have one pattern."""
    body = anatomy(settings.participant)
    electrodes = [e for e in THRESHOLD_ELECTRODES if body.truth.connected[e - 1]]
    if settings.minutes is not None:
        electrodes = electrodes[:1]
    return limits_text(electrodes, [round(float(body.staircase_ua[e - 1]), 1) for e in electrodes])


def patterns_of(limits: Limits) -> list[Pattern]:
    """Each electrode at its own current: the diagonal of what the limits list."""
    electrodes = list(dict.fromkeys(pattern.electrode for pattern in limits.patterns))
    currents = [pattern.current_ua for pattern in limits.patterns if pattern.electrode == electrodes[0]]
    return [limits.pattern(e, c) for e, c in zip(electrodes, currents, strict=True)]


def make_plans(limits: Limits, settings: ExperimentSettings) -> list[Plan]:
    """Sessions until every arm has its trials; which pattern comes first goes round, so that shams strike all alike.
    Live it is one session, of no more trials than its minutes could hold."""
    patterns, first = patterns_of(limits), SESSIONS_OF_A_SEED * settings.seed
    blocks = max(1, round(settings.trials / (1 - settings.sham) + 0.499))
    if settings.minutes is not None:
        most = math.ceil(60 * settings.minutes / (limits.budget.refractory_s * len(settings.arms)))
        return [make_plan(limits, settings.arms, min(blocks, most), settings.sham, first, tuple(patterns))]
    blocks = min(settings.blocks, blocks)
    plans: list[Plan] = []
    while sum(not t.sham for plan in plans for t in plan.trials if t.arm == settings.arms[0]) < settings.trials:
        turn = len(plans) % len(patterns)
        order = (*patterns[turn:], *patterns[:turn])
        plans.append(make_plan(limits, settings.arms, blocks, settings.sham, first + len(plans), order))
    return plans


def thresholds_of(settings: ExperimentSettings, calibrated: Recalibration) -> TriggerSettings:
    """The state counts as favourable for a share of the time, by the calibration sessions."""
    p_on = calibrated.p_on(settings.share)
    return TriggerSettings(p_on=p_on, p_off=max(0.5, p_on - 0.05), smoothing_s=settings.smoothing_s)


def served_thresholds(
    thresholds: TriggerSettings, calibrated: Recalibration, hops: float
) -> tuple[TriggerSettings, TriggerSettings]:
    """The same for a service, which knows nothing of the recalibration: what the bundle's own running mean is where the
    recalibrated one is at the threshold. `hops`: how many of the service's make one of ours, for the dwell.

    Returns:
        what the service is told, and what that is to us: more, where the service would have to be told below one half.
    """
    p_on, p_off = max(LEAST_P_ON, calibrated.before(thresholds.p_on)), max(0.5, calibrated.before(thresholds.p_off))
    served = replace(thresholds, p_on=p_on, p_off=p_off, dwell_hops=round(hops * thresholds.dwell_hops))
    return served, replace(thresholds, p_on=calibrated.after(p_on), p_off=calibrated.after(p_off))


def write_down(
    out: Path,
    settings: ExperimentSettings,
    limits: Limits,
    plans: list[Plan],
    thresholds: TriggerSettings,
    served: TriggerSettings | None,
    calibrated: Recalibration,
    decoder: Decoder,
) -> dict[str, Any]:
    """plan.json: all that is decided before the first trial, and one hash of it. `served`: what a service is told,
    where one is asked."""
    told = asdict(settings) | {"participant": asdict(settings.participant)}
    told = {key: value for key, value in told.items() if key != "cores"}
    written: dict[str, Any] = {
        "settings": told,
        "level": "B" if settings.broadband else "A",
        "model": decoder.name,
        "bundle_sha256": decoder.manifest.manifest_sha256,
        "precision": decoder.precision,
        "limits_sha256": limits.sha256,
        "thresholds": asdict(thresholds),
        "served_thresholds": None if served is None else asdict(served),
        "calibration": {key: value for key, value in asdict(calibrated).items() if key != "means"},
        "patterns": [pattern.name for pattern in patterns_of(limits)],
        "threshold_ua": {
            str(p.electrode): float(anatomy(settings.participant).threshold_ua[p.electrode - 1])
            for p in patterns_of(limits)
        },
        "plans_sha256": [plan.sha256 for plan in plans],
    }
    written["sha256"] = hashlib.sha256(json.dumps(written, sort_keys=True, default=str).encode()).hexdigest()
    schedule = [
        [{"arm": t.arm, "sham": t.sham, "pattern": t.pattern.name, "draw": t.draw} for t in plan.trials]
        for plan in plans
    ]
    (out / "plan.json").write_text(json.dumps(written | {"schedule": schedule}, indent=1, default=str))
    return json.loads(json.dumps(written, default=str))  # type: ignore[no-any-return]
