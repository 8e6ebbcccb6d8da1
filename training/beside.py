"""What a probe is held against on the same trials, each the best readout of the same kind that it allows.

Raw MUA; principal components, as many as the encoder is wide; electrode and current alone; an older bundle, as it
stands. Where there is rest to learn from, what is read is two things, and each stands alone, too: the slow directions
of the encoder's tokens, and those of simple statistics of the window (means, log-variances, lagged covariances), which
owe nothing to a network. Then the mean of the tokens, and the same network untrained, read as the trained one is
(docs/decisions/slow-directions.md).
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
from training.evaluation.features import blanked
from training.evaluation.slow import KEPT
from training.readout import fit
from training.resting import Pairs
from training.slow_pooling import learn
from training.trials import Trials, stimulus

WORDS = {
    "older": "the bundle before",
    "tokens": "its tokens alone, slow directions",
    "statistics": "statistics of the window alone, slow directions",
    "mean_pooling": "mean of the tokens",
    "untrained_encoder": "same network, untrained",
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
    untrained = Embedder(encoder, learn(encoder, rest) if rest else None).eval()
    if rest is None:
        return {"untrained_encoder": lambda trials: embed(untrained, trials)}
    first = slice(0, KEPT)  # of what is read: what the tokens say; the window's statistics follow
    return {
        "tokens": lambda trials: embed(embedder, trials)[:, first],
        "untrained_encoder": lambda trials: embed(untrained, trials)[:, : untrained.read],
        "statistics": lambda trials: embed(embedder, trials)[:, KEPT : embedder.read],
        "mean_pooling": lambda trials: embed(embedder, trials)[:, embedder.read :],
    }


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
