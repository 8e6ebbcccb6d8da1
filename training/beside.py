"""What a probe is held against on the same trials, each the best readout of the same kind that it allows.

The same network untrained, its pooling learned as the trained one's is; raw MUA; principal components, as many as the
encoder is wide; electrode and current alone; an older bundle, as it stands. Where there is rest to learn from, also the
mean of the tokens, and the strongest simple rival: statistics of the window (means, log-variances, lagged covariances)
by their slow directions (docs/decisions/slow-directions.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from models.networks.masked_autoencoder import build
from models.networks.slow_pooling import Embedder
from models.onnx_decoder import OnnxDecoder
from training.evaluation.features import SpontaneousComponents, blanked
from training.evaluation.unlabelled import FITTED_TO, statistics
from training.readout import fit
from training.resting import Pairs
from training.slow_pooling import learn, steady
from training.trials import Trials, stimulus

WORDS = {
    "older": "the bundle before",
    "mean_pooling": "mean of the tokens",
    "untrained_encoder": "same network, untrained",
    "statistics": "statistics of the window, slow directions",
    "raw_mua": "raw MUA",
    "principal_components": "principal components",
    "stimulus_only": "electrode and current alone",
}
See = Callable[[Trials], NDArray[Any]]
Foretell = Callable[[Trials], tuple[NDArray[np.float64], float]]  # probabilities, and above which a percept is called


@torch.no_grad()
def embed(embedder: Embedder, trials: Trials, usable: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Embeddings (n, size), every usable channel visible, as live."""
    usable = trials.usable if usable is None else usable
    parts = [
        embedder(torch.from_numpy(trials.windows[k : k + 64]), torch.from_numpy(usable[k : k + 64]))
        for k in range(0, len(trials), 64)
    ]
    return torch.cat(parts).numpy().astype(np.float64)


def unlabelled(embedder: Embedder, rest: Pairs | None) -> dict[str, See]:
    """The features that owe nothing to answers; those by slow directions where the embedder has them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build(embedder.encoder.config).encoder.eval()
    untrained = Embedder(encoder, learn(encoder, rest, embedder.read) if rest else None).eval()
    found: dict[str, See] = {"untrained_encoder": lambda trials: embed(untrained, trials)[:, : untrained.read]}
    if rest is None:
        return found
    return found | {
        "mean_pooling": lambda trials: embed(embedder, trials)[:, embedder.read :],
        "statistics": _statistics(rest, embedder.read),
    }


def _statistics(rest: Pairs, kept: int) -> See:
    rows = np.linspace(0, len(rest.windows) - 1, min(FITTED_TO, len(rest.windows))).astype(int)
    spontaneous = SpontaneousComponents.fitted(rest.windows[rows].astype(np.float32))
    slow = steady(statistics(rest.windows, spontaneous), rest, kept)
    return lambda trials: slow(statistics(blanked(trials), spontaneous))


def told(training: Trials, unlabelled: dict[str, See], components: int) -> dict[str, Foretell]:
    """Readouts of each, fitted to `training`."""

    def raw(trials: Trials) -> NDArray[Any]:
        return blanked(trials).reshape(len(trials), -1)

    pca = PCA(min(components, len(training) - 1), svd_solver="randomized", random_state=0).fit(raw(training))
    electrodes = np.unique(training.electrode)
    seen: dict[str, See] = unlabelled | {
        "raw_mua": raw,
        "principal_components": lambda trials: pca.transform(raw(trials)),
        "stimulus_only": lambda trials: stimulus(trials, electrodes),
    }
    return {name: _foretell(see, training) for name, see in seen.items()}


def _foretell(see: See, training: Trials) -> Foretell:
    readout = fit(see(training), training.perceived)
    return lambda trials: (readout.probability(see(trials)), readout.prevalence)


def by(older: OnnxDecoder | None, probe: str) -> dict[str, Foretell]:
    """The older bundle, by its float32 or int8 model as it was opened."""
    if older is None or probe not in older.manifest.probes:
        return {}
    prevalence, step = older.manifest.probes[probe].prevalence, older.step

    def foretell(trials: Trials) -> tuple[NDArray[np.float64], float]:
        decoded = [step(window, usable) for window, usable in zip(trials.windows, trials.usable, strict=True)]
        return np.array([getattr(one, probe) for one in decoded], np.float64), prevalence

    return {"older": foretell}
