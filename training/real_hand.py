"""Ninety-five channels of motor cortex and a hand: hidden channels, bins and tokens filled in, and velocity read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training.data import open_sessions
from training.fill_in import Task, filled_in, hide, hide_tokens
from training.real_data import BIN_S, Hand, write_counts
from training.real_features import features, trained
from training.real_readout import side_by_side, velocity_score

TRAINING_PART = 0.8  # of the trials
STRIDE = 3  # every third test window is filled in: they overlap
HIDDEN_CHANNELS = 10
RATIO = 0.75  # of tokens, as in training
SETTINGS = """
[network]
bins = 12
patch_bins = 4
[training]
steps = 1000
batch = 16
validate_every = 100
validation_windows = 512
precision = "32-true"
"""


def study(recording: Hand, work: Path, settings: str = SETTINGS, channels: int = HIDDEN_CHANNELS) -> dict[str, Any]:
    """Everything that is fitted or chosen is so on the first trials, and scored on the last; no window lies in two
    trials, and the last trials are normalised by themselves. So many `channels` are hidden."""
    trials = int(recording.trial[-1]) + 1
    cut = round(TRAINING_PART * trials)
    parts = {"training": recording.part(slice(0, cut)), "test": recording.part(slice(cut, None))}
    work.mkdir(parents=True, exist_ok=True)
    files = {
        name: write_counts(work / f"hand-{name}.npz", one.counts, BIN_S, "2000-01-01", one.first)
        for name, one in parts.items()
    }
    network = trained([files["training"]], work / "hand-run", settings)
    config = network.encoder.config
    windows, moved, trial = {}, {}, {}
    for name, one in parts.items():
        (session,) = open_sessions([files[name]], work / "cache")
        first = np.asarray(session.allowed(config.bins))
        windows[name] = session.windows(first, config.bins)
        moved[name] = one.velocity[first + config.bins - 1]  # of the newest bin
        trial[name] = one.trial[first]

    def score(training: Any, test: Any) -> Any:
        return velocity_score(training, moved["training"], trial["training"], test, moved["test"], trial["test"])

    some = slice(None, None, STRIDE)
    test = tuple(part[some] for part in windows["test"])
    cut_by = config.patch_bins
    tasks = {
        "channels": Task(partial(hide, channels=channels, bins=0, patch_bins=cut_by), line_axis=1),
        "bins": Task(partial(hide, channels=0, bins=cut_by, patch_bins=cut_by), line_axis=2),
        "tokens": Task(partial(hide_tokens, share=RATIO, patch_bins=cut_by), line_axis=2),
    }
    return {
        "trials": {"training": cut, "test": trials - cut},
        "bins": len(recording.counts),
        "channels": recording.counts.shape[1],
        "windows": {name: len(one[0]) for name, one in windows.items()},
        "velocity": side_by_side(
            features(network.encoder, windows["training"]), score, windows["training"], windows["test"]
        ),
        "hidden": filled_in(network, windows["training"], test, trial["test"][some], tasks),
    }
