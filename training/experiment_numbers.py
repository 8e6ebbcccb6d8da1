"""The figures of an experiment, from its trials alone: what result.json holds and the report draws. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from streaming.limits import Limits
from streaming.trigger import TriggerSettings
from training.closed_loop import Row, Walked
from training.rates import Arms, newcombe, rate

RELIABILITY_BINS = 8
NULL_ARMS = ("random", "open_loop", "yoked")  # that others are compared with, the first that is there


def numbers(
    walked: Sequence[Walked],
    nobody: Sequence[Row],
    ideal: dict[str, tuple[TriggerSettings, list[Walked]]],
    limits: Limits,
    seed: int,
) -> dict[str, Any]:
    """Everything but what was measured on a clock."""
    rows = [row for one in walked for row in one.rows]
    names = list(dict.fromkeys(row.arm for row in rows))
    blind = next((name for name in NULL_ARMS if name in names), None)
    result: dict[str, Any] = {
        "sessions": len(walked),
        "complete": all(one.complete for one in walked),
        "simulated_hours": sum(one.seconds for one in walked) / 3600,
        "predictions": sum(one.hops for one in walked),
        "arms": {name: _arm([row for row in rows if row.arm == name]) for name in names},
        "lawful": lawful(walked, limits),
        "reliability": _reliability(_answered([row for row in rows if not row.sham])),
    }
    if blind is None:
        return result
    result["compared_with"] = blind
    result["compared"] = {name: _compared(rows, name, blind, seed) for name in names if name != blind}
    result["state_does_not_matter"] = {
        "arms": {name: rate(_answers(_real(nobody, name))) for name in names},
        "compared": {name: _compared(nobody, name, blind, seed) for name in names if name != blind},
    }
    if "favourable" in names:
        result["ideal"] = {
            name: _ideal(rows, found, thresholds, blind, seed) for name, (thresholds, found) in ideal.items()
        }
    return result


def _answered(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.perceived is not None]


def _real(rows: Sequence[Row], arm: str) -> list[Row]:
    return _answered([row for row in rows if row.arm == arm and not row.sham])


def _answers(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row.perceived for row in _answered(rows)], bool)


def _stratum(row: Row) -> tuple[int, float]:
    return row.electrode, row.current_ua


def _arm(rows: list[Row]) -> dict[str, Any]:
    """Rates and means are of what was answered, charge and waits of everything."""
    pulses, shams = [row for row in rows if not row.sham], [row for row in rows if row.sham]
    real = _answered(pulses)
    waits = np.array([row.waited_s for row in rows])
    found: dict[str, Any] = rate(_answers(pulses)) | {"unanswered": len(pulses) - len(real)}
    found["expected_rate"] = float(np.mean([row.truth for row in real])) if real else None
    found["mean_state"] = float(np.mean([row.state for row in real])) if real else None
    found["mean_probability"] = float(np.mean([row.probability for row in real])) if real else None
    found["charge_uc"] = float(sum(row.charge_uc for row in pulses))
    found["shams"] = rate(_answers(shams)) | {"unanswered": len(shams) - len(_answered(shams))}
    found["wait_s"] = {
        "mean": float(waits.mean()),
        "median": float(np.median(waits)),
        "p90": float(np.percentile(waits, 90)),
    }
    found["by_pattern"] = [
        {"electrode": electrode, "current_ua": current}
        | rate(_answers([row for row in real if _stratum(row) == (electrode, current)]))
        for electrode, current in sorted({_stratum(row) for row in real})
    ]
    return found


def _columns(rows: Sequence[Row], of: str) -> tuple[np.ndarray, list[object]]:
    return np.array([float(getattr(row, of)) for row in rows]), [_stratum(row) for row in rows]


def _compared(rows: Sequence[Row], arm: str, blind: str, seed: int) -> dict[str, Any]:
    """`lift`: of answers, resampled within electrode and current. `expected_lift`: of the simulator's own
    probabilities at the same pulses, without the luck of the answers."""
    mine, other = _real(rows, arm), _real(rows, blind)
    arms = Arms({arm: _columns(mine, "perceived"), blind: _columns(other, "perceived")}, seed)
    truth = Arms({arm: _columns(mine, "truth"), blind: _columns(other, "truth")}, seed)
    hits, other_hits = (sum(row.perceived for row in part) for part in (mine, other))
    return {
        "lift": arms.lift(arm, blind),
        "lift_newcombe": newcombe(hits, len(mine), other_hits, len(other)),
        "expected_lift": truth.lift(arm, blind),
        "stimulations_saved": arms.saved(arm, blind),
        "per_100_percepts": {name: _per_100(part) for name, part in ((arm, mine), (blind, other))},
    }


def _per_100(rows: list[Row]) -> dict[str, float | None]:
    hits = sum(row.perceived for row in rows)
    if not hits:
        return {"stimulations": None, "charge_uc": None}
    return {"stimulations": 100 * len(rows) / hits, "charge_uc": 100 * sum(row.charge_uc for row in rows) / hits}


def _ideal(
    rows: Sequence[Row], found: list[Walked], thresholds: TriggerSettings, blind: str, seed: int
) -> dict[str, Any]:
    best = [row for one in found for row in one.rows]
    arms = {"ours": _real(rows, "favourable"), "ideal": best, "blind": _real(rows, blind)}
    compared = {
        of: Arms({name: _columns(part, of) for name, part in arms.items()}, seed) for of in ("perceived", "truth")
    }
    return {
        "thresholds": asdict(thresholds),
        "mean_wait_s": float(np.mean([row.waited_s for row in best])) if best else None,
        "mean_state": float(np.mean([row.state for row in best])) if best else None,
        **rate(_answers(best)),
        "lift": compared["perceived"].lift("ideal", "blind"),
        "expected_lift": compared["truth"].lift("ideal", "blind"),
        "ratio_of_lifts": compared["perceived"].ratio_of_lifts("ours", "ideal", "blind"),
        "ratio_of_expected_lifts": compared["truth"].ratio_of_lifts("ours", "ideal", "blind"),
    }


def _reliability(rows: list[Row]) -> dict[str, Any]:
    """Trials in bins of equally many by the probability at the decision, all arms together."""
    probability = np.array([row.probability for row in rows])
    perceived = np.array([row.perceived for row in rows], bool)
    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), RELIABILITY_BINS) if len(part)]
    bins = [{"probability": float(probability[part].mean()), **rate(perceived[part])} for part in parts]
    gaps = [abs(probability[part].mean() - perceived[part].mean()) * len(part) for part in parts]
    return {"bins": bins, "calibration_error": float(sum(gaps) / max(1, len(rows)))}


def lawful(walked: Sequence[Walked], limits: Limits) -> dict[str, Any]:
    """How near the pulses came to the limits: for the report. The proof is the tests', who share nothing with it."""
    gaps: list[float] = []
    minute = session = 0
    charge: dict[int, float] = {}
    for one in walked:
        at = np.array([row.sample for row in one.rows]) / 30_000.0 if one.rows else np.empty(0)
        gaps += np.diff(at).tolist()
        minute = max([minute, *(int(((at > t - 60) & (at <= t)).sum()) for t in at)])
        session = max(session, len(one.rows))
        day: dict[int, float] = {}
        for row in one.rows:
            day[row.electrode] = day.get(row.electrode, 0.0) + row.charge_uc
        charge = {e: max(charge.get(e, 0.0), day.get(e, 0.0)) for e in {*charge, *day}}
    budget = limits.budget
    return {
        "shortest_interval_s": min(gaps, default=None),
        "refractory_s": budget.refractory_s,
        "most_in_a_minute": minute,
        "pulses_per_minute": budget.pulses_per_minute,
        "most_in_a_session": session,
        "pulses_per_session": budget.pulses_per_session,
        "most_charge_per_electrode_and_session_uc": max(charge.values(), default=0.0),
        "charge_per_electrode_day_uc": budget.charge_per_electrode_day_uc,
    }
