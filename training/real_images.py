"""Six sessions of visual cortex and images, one count for each: hidden units filled in, and contrast read.

By session means here: each has units, an encoder and a readout of its own, since no unit of one is a unit of another.
What can be carried from session to session is what asks for no names: the mean over units. It is read in each session
by what the others say. An encoder whose tokens carry a learned place for each channel cannot be carried.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from training.data import open_sessions
from training.fill_in import Task, filled_in, hide
from training.real_data import ONSET_S, Images, neighbours_alike, signal_share, write_counts
from training.real_features import features, rate, trained
from training.real_readout import contrast_score, interval, side_by_side

TRAINING_PART = 0.7  # of the presentations, as in the set's own reference
STRETCH = 100  # presentations, 30 s: neighbours are alike, so intervals are over stretches
STRIDE = 3  # every third test presentation is filled in
SHUFFLES = 100
SETTINGS = """
[network]
bins = 1
patch_bins = 1
[training]
steps = 400
batch = 64
mask_ratio = 0.5
correlation_weight = 0.0
validate_every = 100
validation_windows = 1024
precision = "32-true"
"""


def study(sessions: list[Images], work: Path, settings: str = SETTINGS) -> dict[str, Any]:
    work.mkdir(parents=True, exist_ok=True)
    found, contrasts = {}, {}
    for one in sessions:
        found[one.name], contrasts[one.name] = _session(one, work, settings)
        found[one.name]["neighbours_alike"] = neighbours_alike(one)
    for name, (_, test) in contrasts.items():
        others = [training for other, (training, _) in contrasts.items() if other != name]
        if others:
            found[name]["contrast_by_the_others"], _ = contrast_score(*_joined(others), *test)
    return {"sessions": found, "together": _together(found)}


def _session(one: Images, work: Path, settings: str) -> tuple[dict[str, Any], tuple[Any, Any]]:
    """What is found, and of training and test part the rates, contrasts and stretches of the contrast series."""
    cut = round(TRAINING_PART * len(one.counts))
    parts = {"training": one.part(slice(0, cut)), "test": one.part(slice(cut, None))}
    files = {
        name: write_counts(work / f"{one.name}-{name}.npz", part.counts, ONSET_S, "2000-01-01")
        for name, part in parts.items()
    }
    network = trained([files["training"]], work / f"{one.name}-run", settings)
    windows, stretch, shown, level, when = {}, {}, {}, {}, {}
    for name, part in parts.items():
        (session,) = open_sessions([files[name]], work / "cache")
        rows = np.asarray(session.allowed(1))
        windows[name], stretch[name] = session.windows(rows, 1), rows // STRETCH
        series = part.contrast[rows] >= 0
        shown[name] = tuple(every[series] for every in windows[name])
        level[name], when[name] = part.contrast[rows][series], stretch[name][series]

    def score(training: Any, test: Any) -> Any:
        return contrast_score(training, level["training"], when["training"], test, level["test"], when["test"])

    units = one.counts.shape[1]
    some = slice(None, None, STRIDE)
    test = tuple(every[some] for every in windows["test"])
    tasks = {  # half: as in training
        name: Task(partial(hide, channels=channels, bins=0, patch_bins=1), line_axis=1)
        for name, channels in (("a fifth", max(1, units // 5)), ("half", units // 2))
    }
    found = {
        "units": units,
        "presentations": len(one.counts),
        "missing": float((one.counts < 0).mean()),
        "signal_share": signal_share(one),
        "signal_share_by_chance": interval([signal_share(one, seed) for seed in range(SHUFFLES)]),
        "contrast": side_by_side(
            features(network.encoder, windows["training"]), score, shown["training"], shown["test"]
        ),
        "hidden": filled_in(network, windows["training"], test, stretch["test"][some], tasks),
    }
    return found, tuple((rate(shown[name]), level[name], when[name]) for name in parts)


def _joined(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Several sessions as one; stretches stay apart."""
    apart, behind = [], 0
    for features_of, levels, when in parts:
        apart.append((features_of, levels, when + behind))
        behind = apart[-1][2].max() + 1
    return tuple(np.concatenate(column) for column in zip(*apart, strict=True))


def _together(found: dict[str, Any]) -> dict[str, Any]:
    """Means over sessions with the 95 % interval of Student's t: a session is one observation, and there are few."""
    sessions = list(found.values())
    auc = {name: [one["contrast"][name]["auc"] for one in sessions] for name in sessions[0]["contrast"]}
    told: dict[str, Any] = {
        "contrast": {
            name: _mean(values) | {"mae_ahead": _mean(_minus(auc["mae"], values))} for name, values in auc.items()
        }
    }
    for what in sessions[0]["hidden"]:
        ways = {
            way: [one["hidden"][what]["ways"][way]["explained"] for one in sessions]
            for way in sessions[0]["hidden"][what]["ways"]
        }
        told[what] = {
            way: _mean(values) | {"mae_ahead": _mean(_minus(ways["mae"], values))} for way, values in ways.items()
        }
    return told


def _minus(first: list[float], second: list[float]) -> list[float]:
    return np.subtract(first, second).tolist()


def _mean(values: list[float]) -> dict[str, Any]:
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return {"mean": mean}
    reach = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return {"mean": mean, "interval": [mean - reach, mean + reach]}
