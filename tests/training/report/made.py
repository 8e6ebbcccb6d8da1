"""A result folder made by hand, as an evaluation leaves it: trials whose embeddings hold a map of the array, the
current and the state, and rows that foretell more or less of it. Its numbers are scored by the evaluation's own
functions."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.special import expit

from training.evaluation.files import write_curves
from training.evaluation.outcomes import Layout, Outcome
from training.evaluation.predictors import Foretold
from training.evaluation.report import _described, over_participants
from training.evaluation.scores import question
from training.evaluation.trial_file import Seen
from training.trials import Trials

CHANNELS, WIDTH = 96, 24
POSITION = np.array([(k % 10, k // 10) for k in range(100) if k not in (0, 9, 90, 99)], float)
ELECTRODES = {"threshold": (6, 25, 53, 65), "psychometric": (6, 14, 20, 23, 25, 34, 42, 44, 53, 65, 70, 96)}
CURRENTS = 81 ** (np.arange(6) / 5)
SESSIONS = {"threshold": (4, 3, 200), "psychometric": (3, 2, 216)}  # to learn from, new, trials in each
THRESHOLD_UA = 30 * np.exp(0.45 * np.random.default_rng(7).standard_normal(CHANNELS))
# how much of the state a row knows, before and after the stimulus
KNOWS = {
    "raw_mua": (0.15, 0.2),
    "pca": (0.15, 0.25),
    "pca_rest": (0.2, 0.25),
    "mae": (0.4, 0.45),
    "mae_place_slow": (0.6, 0.65),
    "mae_served": (0.65, 0.7),
    "untrained_served": (0.4, 0.45),
    "statistics_slow": (0.6, 0.6),
    "log_variance": (0.45, 0.5),
    "supervised": (0.3, 0.35),
    "untrained": (0.2, 0.2),
    "stimulus": (0.0, 0.0),
    "running_rate": (0.1, 0.1),
}
LABELS = (50, 200)


def make_result(folder: Path, participants: tuple[str, ...] = ("mixed-1", "mixed-2"), looks: bool = True) -> Path:
    """The whole folder."""
    for name in ("trials", "embeddings", "training", "looks"):
        (folder / name).mkdir(parents=True)
    measured, told = [], {}
    for k, name in enumerate(participants):
        questions: dict[tuple[str, str], Any] = {}
        told[name] = {"full": k == 0, "group": "mixed", "questions": {}, "rest": _rest(folder, name, k)}
        for protocol in SESSIONS:
            for late, probe in enumerate(("prestimulus", "evoked")):
                seen, layout, outcomes, embedding = made(protocol, late, seed=10 * k)
                found = question(seen, layout, outcomes)
                questions[protocol, probe] = found
                told[name]["questions"].setdefault(protocol, {})[probe] = _described(found, seen, layout, outcomes)
                _write(folder, f"{name}-{protocol}-{probe}.npz", seen, layout, outcomes, embedding)
        subject = SimpleNamespace(name=name, questions=list(questions))
        measured.append(SimpleNamespace(subject=subject, questions=questions))
        for encoder in ("mae", "time_shuffled") if k == 0 else ("mae",):
            _write_curve(folder / "training" / f"{name}-{encoder}.jsonl", k + (encoder != "mae"))
    write_curves(folder, measured)
    if looks:
        write_looks(folder / "looks" / f"{participants[0]}.npz")
    result = {
        "simulated": {"seeds": [1, 2], "preset": "tiny", "steps": 1000},
        "made": "2026-11-21",
        "machine": {"processor": "made up", "cores": 2, "python": "3.12", "torch": "2.13.0"},
        "core_seconds": 4321,
        "participants": told,
        "together": {"mixed": over_participants(measured)},
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def made(protocol: str, late: int, seed: int = 0) -> tuple[Seen, Layout, dict[str, Outcome], np.ndarray]:
    """Trials, layout, what rows foretell, embeddings (n, WIDTH); `late`: the evoked window, which sees the current."""
    rng = np.random.default_rng((seed, late, protocol == "threshold"))
    learning, new, each = SESSIONS[protocol]
    n = (learning + new) * each
    session = np.repeat([f"day-{k:02d}_{protocol}" for k in range(learning + new)], each)
    electrode = rng.choice(ELECTRODES[protocol], n)
    if protocol == "psychometric":
        current = rng.choice(CURRENTS, n)
    else:  # a staircase, with an error of its own each day
        error = np.exp(0.3 * np.random.default_rng(seed).standard_normal((learning + new, CHANNELS)))
        current = THRESHOLD_UA[electrode - 1] * np.repeat(error, each, axis=0)[np.arange(n), electrode - 1]
    state = np.convolve(rng.standard_normal(n + 4), [0.4, 0.6, 0.5, 0.4, 0.3], "valid")
    odds = 3 * np.log(current / THRESHOLD_UA[electrode - 1])
    p = 0.02 + 0.96 * expit(odds + 1.25 * state)
    perceived = rng.random(n) < p
    trials = Trials(
        windows=np.zeros((n, 1, 1), np.float32),
        usable=np.ones((n, 1), bool),
        perceived=perceived,
        electrode=electrode,
        current_ua=current,
        session=session,
        onset_s=np.tile(5.0 * np.arange(each), learning + new),
        state_known=p,
        window_known=np.full(n, np.nan),
        rejected=3,
    )
    layout = Layout.of(session, perceived, np.repeat(np.arange(learning + new) >= learning, each))
    usual = np.log(perceived.mean() / (1 - perceived.mean()))

    def foretold(knows: float, by_stimulus: float) -> np.ndarray:
        seen = knows * state + np.sqrt(1 - knows**2) * rng.standard_normal(n)
        return expit(by_stimulus * odds + 1.25 * knows * seen + (usual if not by_stimulus else 0))

    def outcome(name: str) -> Outcome:
        knows = KNOWS[name][late]
        by_stimulus = 1.0 if name == "stimulus" else (0.7 if late and knows > 0.2 else 0.0)
        prevalence = float(perceived[layout.training].mean())
        found = Outcome(Foretold(foretold(knows, by_stimulus), prevalence))
        if seed == 0:
            both = np.full((2, n), np.nan)
            both[:, np.concatenate([layout.training, layout.later])] = prevalence
            both[0] = np.where(np.isfinite(both[0]), foretold(knows, by_stimulus), np.nan)
            found.left_out = found.per_session = both[0], both[1]
        for k, labels in enumerate(LABELS):
            few = foretold(knows * (0.4 + 0.4 * k), by_stimulus * (0.5 + 0.4 * k))[layout.test]
            found.few[labels] = few[None], np.array([prevalence])
        if name == "mae":
            found.by_chance = 0.5 + 0.01 * rng.standard_normal(20)
        return found

    outcomes = {name: outcome(name) for name in KNOWS if seed == 0 or not name.startswith("untrained")}
    observers = {"state_known": p, "window": foretold(0.75, 1.0), "stimulus": expit(0.9 * odds)}
    place = POSITION[electrode - 1] @ np.random.default_rng(seed).standard_normal((2, WIDTH))
    tell = np.random.default_rng(seed + 1).standard_normal((2, WIDTH))
    embedding = late * (0.5 * place + 0.8 * np.log(current)[:, None] * tell[0]) + 0.7 * state[:, None] * tell[1]
    embedding = embedding + 1.5 * rng.standard_normal((n, WIDTH)) + 0.5 * late * (perceived[:, None] * tell[1])
    return Seen(trials, observers), layout, outcomes, embedding


def _write(
    folder: Path, name: str, seen: Seen, layout: Layout, outcomes: dict[str, Outcome], embedding: np.ndarray
) -> None:
    part = np.full(len(layout.session), "training", "U8")
    part[layout.later], part[layout.new] = "later", "new"
    kept = {key: getattr(seen.trials, key) for key in ("session", "onset_s", "electrode", "current_ua", "perceived")}
    told = {row: one.pooled.probability.astype(np.float32) for row, one in outcomes.items()}
    told |= {f"observer_{row}": value.astype(np.float32) for row, value in seen.observers.items()}
    np.savez(folder / "trials" / name, part=part, **kept, **told)
    np.savez(folder / "embeddings" / name, embedding=embedding.astype(np.float16))


def _rest(folder: Path, name: str, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    session, level = np.repeat(np.arange(8), 40), rng.standard_normal(320)
    day = session // 2
    offsets, tell = 1.5 * rng.standard_normal((8, WIDTH)) + rng.standard_normal((4, WIDTH))[np.arange(8) // 2], rng
    held_out = offsets[session] + level[:, None] * tell.standard_normal(WIDTH) + rng.standard_normal((320, WIDTH))
    dates = np.array([f"2026-01-{d:02d}" for d in (12, 13, 14, 15)])[day]
    np.savez(
        folder / "embeddings" / f"{name}-rest.npz",
        held_out=held_out.astype(np.float32),
        held_out_session=session,
        held_out_date=dates,
        held_out_mean_z=0.2 * level,
    )
    identity = {"accuracy": 0.31, "interval": [0.28, 0.34], "chance": 0.05, "windows": 3000}
    return {"mae": {"session_identity": identity, "participation_ratio": 9.4}}


def _write_curve(file: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = []
    for step in range(100, 1100, 100):
        fallen = 0.8 + 0.25 * np.exp(-step / 250) + 0.05 * seed
        lines.append({"step": step, "training": fallen + 0.02 * rng.standard_normal(), "held_out": fallen + 0.01})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_looks(file: Path) -> None:
    """What a network shows of itself: reconstructions of waves, a map of a few electrodes."""
    rng = np.random.default_rng(3)
    bins, patches = 128, 8
    phase = POSITION @ [0.5, 0.3]
    time = 2 * np.pi * 25 * np.arange(bins) / 1000
    size = np.exp(0.4 * rng.standard_normal(3))[:, None, None]
    clean = size * np.cos(time - phase[:, None]) * 0.8
    window = clean + 0.7 * rng.standard_normal((3, CHANNELS, bins))
    masked = rng.random((3, CHANNELS, patches)) < 0.75
    arrays = {"window": window, "rebuilt": 0.9 * clean + 0.05 * rng.standard_normal(clean.shape)}
    arrays = {key: value.astype(np.float16) for key, value in arrays.items()}
    mse = {"network": 0.55, "rest": 0.82, "neighbours": 0.8, "line": 1.21}
    interval = {name: [0.98 * value, 1.02 * value] for name, value in mse.items()}
    rebuilt = {"windows": 400, "masked_bins": 3_686_400, "mse": mse, "interval": interval, "correlation": 0.57}
    numbers: dict[str, Any] = {"rebuilt": rebuilt}
    for probe in ("prestimulus", "evoked"):
        for row in ("mae", "mae_place_slow"):
            away = ((POSITION - rng.uniform(2, 7, 2)) ** 2).sum(axis=1)
            by_electrode = np.exp(-away / 6) + 0.2 * rng.random(CHANNELS)
            arrays[f"saliency.threshold.{probe}.{row}"] = by_electrode
            arrays[f"occluded.threshold.{probe}.{row}"] = by_electrode + 0.1 * rng.random(CHANNELS)
            numbers[f"saliency.threshold.{probe}.{row}"] = {
                "trials": 150,
                "occluded_trials": 8,
                "agreement": 0.91,
                "share_of_top": 0.33,
                "removed": 10,
                "tested_trials": 150,
                "auc_without": {
                    name: {"value": value, "interval": [value - 0.09, value + 0.09]}
                    for name, value in (("none", 0.66), ("most", 0.6), ("least", 0.66), ("random", 0.65))
                },
                "alike_without": {"most": 0.7, "least": 0.99, "random": 0.95},
            }
    np.savez(file, position=POSITION, masked=masked, numbers=np.array(json.dumps(numbers)), **arrays)
