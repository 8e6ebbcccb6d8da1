"""What a readout of a real recording is given: embeddings of the frozen encoder, and what it has to beat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from models.networks.masked_autoencoder import Encoder, MaskedAutoencoder, build, pool
from training.checkpoints import BEST
from training.fill_in import Seen
from training.pretrain import pretrain
from training.report.rebuilt import load_autoencoder

Features = NDArray[np.floating]


def trained(counts: list[Path], run: Path, settings: str) -> MaskedAutoencoder:
    """`phosphene pretrain COUNTS --out RUN --preset nano --settings …`, or its result where it stands."""
    run.mkdir(parents=True, exist_ok=True)
    toml = run / "asked.toml"
    toml.write_text(settings)
    pretrain(counts, run, "nano", settings_file=toml, resume=True)
    return load_autoencoder(run / BEST)


@torch.no_grad()
def embedded(encoder: Encoder, windows: Seen) -> NDArray[np.float32]:
    """The mean of all tokens, as in the paper, (n, width)."""
    parts = [slice(k, k + 128) for k in range(0, len(windows[0]), 128)]
    return np.concatenate([pool(*encoder(*(torch.from_numpy(part[at]) for part in windows))).numpy() for at in parts])


def untrained(encoder: Encoder) -> Encoder:
    """Another of its kind that has learned nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(encoder.config).encoder.eval()


def flat(windows: Seen) -> NDArray[np.float32]:
    """The counts as the encoder sees them, (n, channels x bins): z of square roots, 0 where there is none."""
    return np.where(windows[1][:, :, None], windows[0], 0).reshape(len(windows[0]), -1)


def rate(windows: Seen) -> NDArray[np.float32]:
    """The mean over channels, (n, bins): what can be known without knowing which channel is which."""
    there = windows[1][:, :, None]
    return np.where(there, windows[0], 0).sum(axis=1) / there.sum(axis=1)


def features(encoder: Encoder, training: Seen) -> dict[str, Callable[[Seen], Features]]:
    """By name, of windows; principal components are fitted on the training part, as many as an embedding has numbers
    where there are so many."""
    counts, fresh = flat(training), untrained(encoder)
    components = PCA(min(encoder.config.latent_width, counts.shape[1]), random_state=0).fit(counts)
    return {
        "mae": lambda windows: embedded(encoder, windows),
        "untrained": lambda windows: embedded(fresh, windows),
        "pca": lambda windows: components.transform(flat(windows)),
        "counts": flat,
        "rate": rate,
    }
