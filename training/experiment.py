"""`phosphene experiment`: does it matter when one stimulates? The whole loop against the simulated participant.

    calibrate     earlier sessions of their own: what the decoder's running mean is worth, and where its threshold lies
    write down    limits, thresholds and every session's schedule, with their hashes, before the first trial
    run           session after session; favourable and random moments, and shams, in interleaved blocks
                  (live: one session, by the service itself, over LSL in real time)
    compare       the ideal observer behind the same gate at the same rate; a participant whose state does not matter
    report        result.json, trials.jsonl, report.html

Everything hangs on the seed: the same one gives the same result to the bit, whatever the number of cores. Only the
entry `measured` (date, machine, how long it took) differs, and everything live. Sessions are mornings of their own:
budgets begin anew.
"""

from __future__ import annotations

import functools
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

from models.errors import OperatorFault
from streaming.limits import Limits, read_limits
from streaming.participant import draws
from streaming.participant.participant import Participant
from streaming.participant.settings import BIN_RATE_HZ, ParticipantSettings
from streaming.participant.stimulation import train
from streaming.plan import make_plan
from streaming.signal.settings import ChainSettings
from streaming.trigger import TriggerSettings
from training.closed_loop import Row, Walked
from training.experiment_numbers import numbers
from training.experiment_plan import limits_of, make_plans, patterns_of, served_thresholds, thresholds_of, write_down
from training.experiment_sessions import Job, believe, calibrate, decoder_of, run
from training.experiment_settings import ExperimentSettings
from training.ideal_gate import gate_alike
from training.live_session import Live
from training.live_session import walked as of_live
from training.recalibration import recalibration
from training.rigs import refuse_stranger
from training.workers import in_order

CALIBRATION = 5_000
SERVED_HOP_S = 0.01  # that of a service which was asked for none
ANSWERS = 20  # to each pulse, of a participant whose state does not matter
Progress = Callable[[str], None]


def experiment(
    out: Path,
    bundle: Path,
    settings: ExperimentSettings | None = None,
    progress: Progress = lambda line: None,
    live: Live | None = None,
) -> dict[str, Any]:
    """Runs it and writes the folder `out`; returns what stands in result.json. `live` runs the session where `settings`
    give it minutes: only the server can.

    Raises:
        OperatorFault: `out` is there, arms that cannot be, or a bundle that was not fitted to this participant.
        RigFault: a live session in which the participant or the service failed, or nothing was given.
    """
    settings = settings or ExperimentSettings()
    if (live is None) != (settings.minutes is None):
        raise OperatorFault("experiment: minutes are those of a live session; expected both, or neither")
    if out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    if not out.parent.is_dir():
        raise OperatorFault(f"{out.parent}: no such folder; make it first")
    draft = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        draft.mkdir()
        result = _experiment(draft, bundle, settings, progress, live)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return result


def _experiment(
    out: Path, bundle: Path, settings: ExperimentSettings, progress: Progress, live: Live | None
) -> dict[str, Any]:
    began, clock = datetime.now(UTC), time.monotonic()
    decoder = decoder_of(bundle)
    refuse_stranger(decoder, Participant(settings.participant))
    (out / "limits.toml").write_text(limits_of(settings))
    limits = read_limits(out / "limits.toml")
    plans = make_plans(limits, settings)

    progress(f"calibrating on {settings.calibration_sessions} sessions of {settings.calibration_s:g} s")
    jobs = [Job(bundle, settings, CALIBRATION + k) for k in range(settings.calibration_sessions)]
    calibrated = recalibration(trial for found in in_order(calibrate, jobs, settings.cores) for trial in found)
    thresholds, served = thresholds_of(settings, calibrated), None
    if live is not None:
        served, thresholds = served_thresholds(thresholds, calibrated, settings.hop_bins / BIN_RATE_HZ / SERVED_HOP_S)
    written = write_down(out, settings, limits, plans, thresholds, served, calibrated, decoder)
    progress(f"plan {written['sha256'][:12]}… written down: {len(plans)} sessions, threshold {thresholds.p_on:.3f}")

    ran = [
        Job(bundle, settings, number, plan, limits, served or thresholds, calibrated.slope, calibrated.offset)
        for number, plan in enumerate(plans)
    ]
    told: dict[str, Any] = {}
    if live is not None:
        seen = live(ran[0], out, progress)
        walked, told = [of_live(ran[0], seen, calibrated.after)], {"live": seen.told}
    else:
        walked = []
        for one in in_order(run, ran, settings.cores):
            walked.append(one)
            progress(f"session {len(walked)} of {len(plans)}: {len(one.rows)} trials in {one.seconds / 60:.1f} min")
    chain = ChainSettings.from_dict(decoder.manifest.chain)
    ideal = _ideal(settings, limits, chain, thresholds, walked, progress) if settings.ideal else {}
    nobody = [row for job, one in zip(ran, walked, strict=True) for row in null_answers(job.participant, one.rows)]
    result = {"experiment": written} | numbers(walked, nobody, ideal, limits, settings.seed) | told
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


def null_answers(settings: ParticipantSettings, rows: Sequence[Row]) -> list[Row]:
    """What `without_state` is asked at each pulse, many times over and by coins of its own: the participant's own coins
    would only repeat the luck that its answers had."""
    answered = []
    for row in without_state(settings, rows):
        coins = draws.at(settings.seed, "without state", settings.session, row.trial).random(ANSWERS)
        answered += [row] if row.sham else [replace(row, perceived=bool(coin < row.truth)) for coin in coins]
    return answered


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
    patterns = tuple(patterns_of(limits))
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
