"""`phosphene evaluate-policy`: what the trigger would have done in recorded sessions, for a grid of thresholds.

A recording is decoded once, every window, by the very code that serves; then the predictions go through the trigger in
SHADOW, faster than real time, once for each threshold. What is not in the samples (lease, device, journal, age) is
taken as good. Nothing is fitted here: where the recordings hold answered trials, those whose last whole window before
the stimulus passes a threshold are counted, beside all trials, which came at moments that nobody chose by the state.
Beside them stands what electrode and current alone would have given the same trials: the rate of the other trials of
their electrode and current (their own answer left out).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from models.decoder import Decoder
from models.errors import OperatorFault
from streaming.limits import read_limits
from streaming.scoring import wilson
from streaming.trigger import TriggerSettings
from streaming.would_fire import WouldFire, would_fire
from training.policy_recordings import Decoded, decode_recording

THRESHOLDS = (0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90)
BELOW = 0.1  # p_off lies so far under p_on, as by default


def evaluate_policy(
    recordings: Sequence[Path],
    limits_file: Path,
    decoder: Decoder,
    thresholds: Sequence[float] = THRESHOLDS,
    base: TriggerSettings | None = None,
    hop_s: float = 0.01,
    participant: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """The result that policy.json holds; with `out`, also policy.png in that folder.

    Raises:
        OperatorFault: limits or a recording that cannot be used, a threshold outside (0.5, 0.999], or a bundle that was
            not fitted to whom was recorded: its probabilities would mean nothing.
    """
    if out is not None and out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    limits = read_limits(limits_file)
    base = base or TriggerSettings()
    settings = [replace(base, p_on=p, p_off=max(0.5, p - BELOW)) for p in thresholds]
    decoded = [decode_recording(path, decoder, hop_s, participant) for path in recordings]
    least = decoder.manifest.min_usable_channels
    fired = {
        one.p_on: [would_fire(found.predictions, limits, one, found.rate_hz, found.hop_s, least) for found in decoded]
        for one in settings
    }
    trials = _Trials.of(decoded, base.smoothing_s)
    result = {
        "model": decoder.name,
        "limits_sha256": limits.sha256,
        "conditions": "lease, device, journal and the age of samples were taken as good",
        "settings": asdict(base),
        "recordings": [_about(one, decoder) for one in decoded],
        "all_trials": trials.rate(np.ones(len(trials.perceived), bool)),
        "trials_without_a_whole_window": trials.without,
        "thresholds": [_row(one, fired[one.p_on], trials) for one in settings],
    }
    if out is not None:
        out.mkdir(parents=True)
        times = {f"{p:g}": [list(one.times_s) for one in found] for p, found in fired.items()}
        (out / "policy.json").write_text(json.dumps(result | {"would_fire_s": times}, indent=1) + "\n")
        from training.policy_plot import plot  # matplotlib is slow to load

        plot(result, out / "policy.png")
    return result


@dataclass(frozen=True, eq=False)
class _Trials:
    """Answered trials of all recordings whose last window before the stimulus was whole."""

    probability: NDArray[np.float64]
    perceived: NDArray[np.bool_]
    stimulus: list[tuple[int, float]]
    without: int  # trials whose window was not

    @classmethod
    def of(cls, decoded: Sequence[Decoded], smoothing_s: float) -> _Trials:
        found = [one.before_trials(smoothing_s) for one in decoded]
        known = [(p, trial) for pairs in found for p, trial in pairs if p is not None]
        return cls(
            np.array([p for p, _ in known], np.float64),
            np.array([trial.perceived for _, trial in known], bool),
            [(trial.electrode, trial.current_ua) for _, trial in known],
            sum(map(len, found)) - len(known),
        )

    def rate(self, passes: NDArray[np.bool_]) -> dict[str, Any]:
        n, k = int(passes.sum()), int(self.perceived[passes].sum())
        return {"trials": n, "hits": k, "rate": k / n if n else None, "interval": wilson(k, n)}

    def stimulus_only(self, passes: NDArray[np.bool_]) -> float | None:
        """The mean, over the trials that pass, of the hit rate of the other trials of the same electrode and current;
        trials that are alone in theirs are left out."""
        others = []
        for place in np.flatnonzero(passes):
            same = [i for i, one in enumerate(self.stimulus) if one == self.stimulus[place] and i != place]
            if same:
                others.append(float(self.perceived[same].mean()))
        return float(np.mean(others)) if others else None


def _row(settings: TriggerSettings, fired: Sequence[WouldFire], trials: _Trials) -> dict[str, Any]:
    count, minutes = sum(len(one.times_s) for one in fired), sum(one.minutes for one in fired)
    waits = [wait for one in fired for wait in one.waits_s]
    passes = trials.probability >= settings.p_on
    return {
        "p_on": settings.p_on,
        "p_off": settings.p_off,
        "would_fire": count,
        "per_minute": count / minutes if minutes else None,
        "mean_wait_s": float(np.mean(waits)) if waits else None,
        "share_of_trials": float(passes.mean()) if len(passes) else None,
        "passing": trials.rate(passes),
        "stimulus_only": trials.stimulus_only(passes),
    }


def _about(one: Decoded, decoder: Decoder) -> dict[str, Any]:
    """Which recording, and whether the bundle's probes were fitted to it: then its figures are too good."""
    fitted_on = {str(name) for name in decoder.manifest.provenance.get("probe_sessions", ())}
    fitted_on |= {str(told.get("sha256")) for told in decoder.manifest.provenance.get("recordings", ())}
    return {
        "file": one.path.name,
        "sha256": one.sha256,
        "minutes": one.seconds / 60,
        "decodable_minutes": sum(p.probability is not None for p in one.predictions) * one.hop_s / 60,
        "trials": len(one.trials),
        "bundle_was_fitted_on_it": bool(fitted_on & {one.session, one.path.stem, one.sha256}),
    }


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """The table, and the sentences without which it would say too much."""
    console = console or Console()
    table = Table(title=f"What the trigger would have done ({result['model']})", title_justify="left", box=box.SIMPLE)
    for column in ("p_on", "fires", "a minute", "wait", "trials", "hit rate", "95 %", "stimulus only"):
        table.add_column(column, justify="right")
    for row in result["thresholds"]:
        passing = row["passing"]
        table.add_row(
            f"{row['p_on']:.2f}", str(row["would_fire"]), _number(row["per_minute"], "{:.1f}"),
            _number(row["mean_wait_s"], "{:.1f} s"), str(passing["trials"]), _percent(passing["rate"]),
            _interval(passing), _percent(row["stimulus_only"]),
        )  # fmt: skip
    every = result["all_trials"]
    table.add_section()
    table.add_row("all", "", "", "", str(every["trials"]), _percent(every["rate"]), _interval(every), "")
    console.print(table)
    for sentence in notes(result):
        console.print(f"- {sentence}", soft_wrap=True)


def notes(result: dict[str, Any]) -> list[str]:
    """What a reader must know of these figures."""
    found = [
        f"{result['conditions'].capitalize()}.",
        "All trials are the random arm: their moments were not chosen by the state.",
        "A threshold that is chosen on this table will do a little worse than the table says; the experiment's own "
        "random arm is what decides.",
    ]
    fitted = [one["file"] for one in result["recordings"] if one["bundle_was_fitted_on_it"]]
    if fitted:
        found.append(f"The bundle's probes were fitted to {', '.join(fitted)}: those hit rates are too good.")
    if without := result["trials_without_a_whole_window"]:
        found.append(f"Trials without a whole window before the stimulus, which are not counted: {without}.")
    if not result["all_trials"]["trials"]:
        found.append("No trial was answered in these recordings: rates only, nothing about hits.")
    return found


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(one: dict[str, Any]) -> str:
    return f"{100 * one['interval'][0]:.1f}–{100 * one['interval'][1]:.1f}" if one["trials"] else "–"
