"""What a network shows of itself: held-out resting windows rebuilt, and the electrodes that its decisions rest on.

Windows of rest that no encoder was trained on go through the whole autoencoder, three quarters hidden. Saliency is
asked of trials that the probe was not fitted to: of the threshold protocol where there is one, with the same readout as
the table's, fitted once more (its weights are not kept with what it foretold).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from models.networks.masked_autoencoder import Encoder
from training.evaluation import rest as resting
from training.evaluation.embedding import Pooling
from training.evaluation.outcomes import Layout
from training.evaluation.slow import SlowMap
from training.evaluation.trial_file import Seen
from training.readout import Readout, fit
from training.report.latent import evenly
from training.report.rebuilt import load_autoencoder, rebuild, scored
from training.report.saliency import LogOdds, saliency

ROWS = {"mae": "mean", "mae_place_slow": "place"}  # the rows that are asked, and whose pooling they read
SHOWN = 3  # windows that are kept to look at; all of them are scored
ASKED = 300  # trials at most, for the map and for its test
OCCLUDED = 8  # trials whose electrodes are taken away one by one
Arrays = dict[str, NDArray[Any]]


def passes(windows: int, rows: int, channels: int = 96) -> float:
    """How many windows the encoder reads for this, a gradient counting as three."""
    return 3.0 * windows + rows * (3.0 * ASKED / 2 + OCCLUDED * channels + 4 * ASKED / 2)


def rebuilds(encoder: Path) -> bool:
    """Whether a checkpoint holds the whole autoencoder; a distilled student has nothing that rebuilds."""
    with safe_open(encoder, framework="pt") as stored:
        return any(name.startswith("reconstructor.") for name in stored.keys())  # noqa: SIM118, it is no dict


def reconstructions(encoder: Path, sample: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays `window`, `rebuilt` (3, channels, bins) and `masked` (3, channels, patches); numbers over all windows."""
    rest = resting.read(sample)
    windows = rest.held_out.astype(np.float32)
    found = rebuild(load_autoencoder(encoder), windows, rest.held_out_usable)
    shown = np.linspace(0, len(windows) - 1, min(SHOWN, len(windows)) + 2)[1:-1].astype(int)
    arrays = {
        "window": found.window[shown].astype(np.float16),
        "rebuilt": found.rebuilt[shown].astype(np.float16),
        "masked": found.masked[shown],
    }
    return arrays, scored(found)


def log_odds(encoder: Encoder, pooling: Pooling, name: str, slow: SlowMap | None, readout: Readout) -> LogOdds:
    """A row's decision as one function of windows, through which a gradient flows."""
    weight, bias = readout.folded()
    if slow is not None:
        weight = slow.directions @ weight
        bias = bias - float(slow.centre @ weight)
    along = torch.from_numpy(np.asarray(weight, np.float32))

    def decide(windows: Tensor, usable: Tensor) -> Tensor:
        latents, visible = encoder(windows, usable)
        return pooling(latents, latents[:, :1], visible)[name] @ along + bias  # no row here reads registers

    return decide


def electrodes(
    seen: Seen, layout: Layout, embedded: Path, learned: Path, encoder: Encoder, row: str
) -> tuple[Arrays, dict[str, Any]]:
    """Map by gradient and map by occlusion (channels,), and the test of the map. `embedded` and `learned` are the
    encoder's files of these trials and of rest."""
    pooled = ROWS[row]
    slow = None
    with np.load(learned) as stored:
        pooling = Pooling(*(stored[f"pooling.{field}"] for field in Pooling.__dataclass_fields__))
        if row.endswith("_slow"):
            slow = SlowMap(stored[f"{pooled}.centre"], stored[f"{pooled}.directions"])
    with np.load(embedded) as stored:
        features = stored[f"{pooled}_slow" if slow else pooled].astype(np.float64)
    readout = fit(features[layout.training], seen.trials.perceived[layout.training])
    rows = evenly(layout.test, ASKED)
    decide = log_odds(encoder, pooling, pooled, slow, readout)
    trials = seen.trials
    found = saliency(decide, trials.windows[rows], trials.usable[rows], trials.perceived[rows], OCCLUDED)
    return {"saliency": found.by_electrode, "occluded": found.occluded}, found.numbers


def write(file: Path, arrays: Arrays, numbers: dict[str, Any]) -> None:
    with file.open("wb") as stream:
        np.savez(stream, numbers=np.array(json.dumps(numbers)), **arrays)
