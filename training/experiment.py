"""`phosphene experiment`: does it matter when one stimulates? The whole loop against the simulated participant.

    calibrate     earlier sessions of their own: what the decoder's running mean is worth, and where its threshold lies
    write down    limits, thresholds and every session's schedule, with their hashes, before the first trial
    run           session after session; favourable and random moments, and shams, in interleaved blocks
    compare       the ideal observer behind the same gate at the same rate; a participant whose state does not matter
    report        result.json, trials.jsonl, report.html

Everything hangs on the seed: the same one gives the same result to the bit, whatever the number of cores. Only the
entry `measured` (date, machine, how long it took) differs. Sessions are mornings of their own: budgets begin anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.decoder import Decoder
from models.errors import OperatorFault
from streaming.limits import Limits, Pattern, read_limits
from streaming.participant.anatomy import anatomy
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import train
from streaming.participant.trials import THRESHOLD_ELECTRODES
from streaming.plan import Plan, make_plan
from streaming.signal.settings import ChainSettings
from streaming.trigger import TriggerSettings
from training.closed_loop import Row, Walked
from training.experiment_numbers import numbers
from training.experiment_sessions import Job, believe, calibrate, decoder_of, in_order, run
from training.experiment_settings import SESSIONS_OF_A_SEED, ExperimentSettings
from training.ideal_gate import gate_alike
from training.recalibration import Recalibration, recalibration
from training.rigs import refuse_stranger

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
CALIBRATION = 5_000
Progress = Callable[[str], None]


def experiment(
    out: Path, bundle: Path, settings: ExperimentSettings | None = None, progress: Progress = lambda line: None
) -> dict[str, Any]:
    """Runs it and writes the folder `out`; returns what stands in result.json.

    Raises:
        OperatorFault: `out` is there, arms that cannot be, or a bundle that was not fitted to this participant.
    """
    settings = settings or ExperimentSettings()
    if out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    if not out.parent.is_dir():
        raise OperatorFault(f"{out.parent}: no such folder; make it first")
    draft = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        draft.mkdir()
        result = _experiment(draft, bundle, settings, progress)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return result


def _experiment(out: Path, bundle: Path, settings: ExperimentSettings, progress: Progress) -> dict[str, Any]:
    began, clock = datetime.now(UTC), time.monotonic()
    decoder = decoder_of(bundle)
    refuse_stranger(decoder, Participant(settings.participant))
    (out / "limits.toml").write_text(_limits_text(settings))
    limits = read_limits(out / "limits.toml")
    plans = _plans(limits, settings)

    progress(f"calibrating on {settings.calibration_sessions} sessions of {settings.calibration_s:g} s")
    jobs = [Job(bundle, settings, CALIBRATION + k) for k in range(settings.calibration_sessions)]
    calibrated = recalibration(trial for found in in_order(calibrate, jobs, settings.cores) for trial in found)
    p_on = calibrated.p_on(settings.share)
    thresholds = TriggerSettings(p_on=p_on, p_off=max(0.5, p_on - 0.05), smoothing_s=settings.smoothing_s)
    written = _write_down(out, settings, limits, plans, thresholds, calibrated, decoder)
    progress(f"plan {written['sha256'][:12]}… written down: {len(plans)} sessions, threshold {p_on:.3f}")

    ran = [
        Job(bundle, settings, number, plan, limits, thresholds, calibrated.slope, calibrated.offset)
        for number, plan in enumerate(plans)
    ]
    walked = []
    for one in in_order(run, ran, settings.cores):
        walked.append(one)
        progress(f"session {len(walked)} of {len(plans)}: {len(one.rows)} trials in {one.seconds / 60:.1f} min")
    chain = ChainSettings.from_dict(decoder.manifest.chain)
    ideal = _ideal(settings, limits, chain, thresholds, walked, progress) if settings.ideal else {}
    nobody = [row for job, one in zip(ran, walked, strict=True) for row in without_state(job.participant, one.rows)]
    result = {"experiment": written} | numbers(walked, nobody, ideal, limits, settings.seed)
    took = time.monotonic() - clock
    result["measured"] = {
        "date": began.date().isoformat(),
        "minutes": took / 60,
        "times_real_time": sum(one.seconds for one in walked) / took,
        "cores": settings.cores,
        "push_us": _percentiles([us for one in walked for us in one.push_us]),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
    }
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    rows = [json.dumps(asdict(row)) for one in walked for row in one.rows]
    (out / "trials.jsonl").write_text("\n".join(rows) + "\n")
    from training.experiment_report import write_report  # matplotlib is slow to load

    write_report(out / "report.html", result, walked, Participant(settings.participant).anatomy, settings.smoothing_s)
    return result


def without_state(settings: ParticipantSettings, rows: Sequence[Row]) -> list[Row]:
    """The same pulses at the same samples, given to a participant whose state does not matter. Without ignition the
    envelope does not hang on percepts, so the loop would have fired at these very moments (a test runs it)."""
    nobody = Participant(replace(settings, beta_state=0.0))
    answered = []
    for row in rows:
        if not row.sham:
            one = nobody.stimulate(train(row.electrode, row.current_ua), row.onset_sample)
            row = replace(row, perceived=one.perceived, truth=one.probability)
        answered.append(row)
    return answered


# Before the first trial ----------------------------------------------------------------------------------------------


def _limits_text(settings: ExperimentSettings) -> str:
    """The electrodes of threshold sessions that have contact, each at what the staircase of session 0 found."""
    body = anatomy(settings.participant)
    electrodes = [e for e in THRESHOLD_ELECTRODES if body.truth.connected[e - 1]]
    currents = [round(float(body.staircase_ua[e - 1]), 1) for e in electrodes]
    return LIMITS.format(electrodes=electrodes, currents=currents)


def _patterns(limits: Limits) -> list[Pattern]:
    """Each electrode at its own current: the diagonal of what the limits list."""
    electrodes = list(dict.fromkeys(pattern.electrode for pattern in limits.patterns))
    currents = [pattern.current_ua for pattern in limits.patterns if pattern.electrode == electrodes[0]]
    return [limits.pattern(e, c) for e, c in zip(electrodes, currents, strict=True)]


def _plans(limits: Limits, settings: ExperimentSettings) -> list[Plan]:
    """Sessions until every arm has its trials; which pattern comes first goes round, so that shams strike all alike."""
    patterns = _patterns(limits)
    blocks = max(1, min(settings.blocks, round(settings.trials / (1 - settings.sham) + 0.499)))
    plans: list[Plan] = []
    while sum(not t.sham for plan in plans for t in plan.trials if t.arm == settings.arms[0]) < settings.trials:
        turn = len(plans) % len(patterns)
        order = (*patterns[turn:], *patterns[:turn])
        seed = SESSIONS_OF_A_SEED * settings.seed + len(plans)
        plans.append(make_plan(limits, settings.arms, blocks, settings.sham, seed, order))
    return plans


def _write_down(
    out: Path,
    settings: ExperimentSettings,
    limits: Limits,
    plans: list[Plan],
    thresholds: TriggerSettings,
    calibrated: Recalibration,
    decoder: Decoder,
) -> dict[str, Any]:
    """plan.json: all that is decided before the first trial, and one hash of it."""
    hashes = [plan.sha256 for plan in plans]
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
        "calibration": {key: value for key, value in asdict(calibrated).items() if key != "means"},
        "patterns": [pattern.name for pattern in _patterns(limits)],
        "threshold_ua": {
            str(p.electrode): float(anatomy(settings.participant).threshold_ua[p.electrode - 1])
            for p in _patterns(limits)
        },
        "plans_sha256": hashes,
    }
    written["sha256"] = hashlib.sha256(json.dumps(written, sort_keys=True, default=str).encode()).hexdigest()
    schedule = [
        [{"arm": t.arm, "sham": t.sham, "pattern": t.pattern.name, "draw": t.draw} for t in plan.trials]
        for plan in plans
    ]
    (out / "plan.json").write_text(json.dumps(written | {"schedule": schedule}, indent=1, default=str))
    return json.loads(json.dumps(written, default=str))  # type: ignore[no-any-return]


# Small parts -------------------------------------------------------------------------------------------------------


def _ideal(
    settings: ExperimentSettings,
    limits: Limits,
    chain: ChainSettings,
    thresholds: TriggerSettings,
    walked: list[Walked],
    progress: Progress,
) -> dict[str, tuple[TriggerSettings, list[Walked]]]:
    """The ideal observer's favourable trials in the same sessions, of one window and smoothed as ours is."""
    waits = [row.waited_s for one in walked for row in one.rows if row.arm == "favourable"]
    if not waits:
        return {}
    progress("the ideal observer looks at the same sessions")
    jobs = [
        Job(Path(), settings, number, seconds=30.0 + 1.2 * one.seconds / len(settings.arms))
        for number, one in enumerate(walked)
    ]
    beliefs = list(in_order(believe, jobs, settings.cores))
    patterns = tuple(_patterns(limits))
    sessions = []
    for job, belief, one in zip(jobs, beliefs, walked, strict=True):
        n = sum(row.arm == "favourable" and not row.sham for row in one.rows)
        plan = make_plan(limits, ("favourable",), max(1, n), 0.0, job.number, patterns)
        sessions.append((job.participant, belief, plan))
    alike = functools.partial(
        gate_alike, sessions, limits, chain, float(np.mean(waits)), thresholds, hop_bins=settings.hop_bins
    )
    return {"window": alike(smoothing_s=0.0), "smoothed": alike(smoothing_s=settings.smoothing_s)}


def _percentiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{q:g}": float(np.percentile(values, q)) for q in (50, 99)} | {"max": float(max(values))}
