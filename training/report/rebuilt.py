"""What a masked autoencoder makes of windows that it sees a quarter of, and what simpler ways make of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from models.networks.masked_autoencoder import MaeConfig, MaskedAutoencoder, build
from training.pretrain import load_encoder

MASKED = 0.75
BATCH = 32
RESAMPLES = 1000
Windows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """`window` and `rebuilt` (n, channels, bins), z units, unusable channels 0; `masked` (n, channels, patches)."""

    window: Windows
    masked: NDArray[np.bool_]
    rebuilt: Windows


def load_autoencoder(file: Path) -> MaskedAutoencoder:
    """Both halves of `best.safetensors`.

    Raises:
        OperatorFault: there is no such checkpoint.
    """
    _, about = load_encoder(file)
    network = build(MaeConfig(**about["network"]))
    network.load_state_dict(load_file(file))
    return network.eval()


@torch.no_grad()
def rebuild(network: MaskedAutoencoder, windows: Windows, usable: NDArray[np.bool_], seed: int = 0) -> Rebuilt:
    """Three quarters of the usable tokens of each window hidden, others in each; the session is unknown."""
    config, rng = network.encoder.config, np.random.default_rng(seed)
    noise = rng.random((len(windows), config.tokens)) + ~usable.repeat(config.patches, axis=1)
    keep = np.argsort(noise, axis=1)[:, : max(1, round(config.tokens * (1 - MASKED)))]
    masked = usable.repeat(config.patches, axis=1)
    np.put_along_axis(masked, keep, False, axis=1)
    windows = np.where(usable[:, :, None], windows, 0).astype(np.float32)
    parts = []
    for k in range(0, len(windows), BATCH):
        rows = slice(k, k + BATCH)
        batch, flags, kept = (torch.from_numpy(value[rows]) for value in (windows, usable, keep))
        parts.append(network(batch, flags, kept, torch.full((len(batch),), config.sessions))[0].float().numpy())
    return Rebuilt(windows, masked.reshape(len(windows), config.channels, config.patches), np.concatenate(parts))


def scored(found: Rebuilt) -> dict[str, Any]:
    """Mean squared error on the masked bins, by the network and by simpler ways; correlation with the truth there.

    rest       every channel's usual value, which is 0 in z units
    neighbours the mean of the visible channels in the same bins, times what fits best
    line       a line through time between the visible tokens of the same channel; rest where there is none
    """
    window, hidden = found.window, _by_bin(found.masked, found.window.shape[2])
    truth = window[hidden]
    visible = ~hidden & (window != 0).any(axis=2, keepdims=True)
    together = (window * visible).sum(axis=1) / np.maximum(visible.sum(axis=1), 1)
    beside = np.broadcast_to(together[:, None], window.shape)[hidden]
    told = {
        "network": found.rebuilt[hidden],
        "rest": np.zeros_like(truth),
        "neighbours": beside * (beside @ truth / max(float(beside @ beside), 1e-12)),
        "line": _lines(window, visible, hidden)[hidden],
    }
    wrong = {name: (value - truth) ** 2 for name, value in told.items()}
    drawn = _drawn(len(window))
    return {
        "windows": len(window),
        "masked_bins": int(hidden.sum()),
        "mse": {name: float(np.mean(value)) for name, value in wrong.items()},
        "interval": {name: _interval(value, hidden, drawn) for name, value in wrong.items()},
        "correlation": float(np.corrcoef(told["network"], truth)[0, 1]),
    }


def _drawn(n: int) -> NDArray[np.int64]:
    """How often each window is drawn in each bootstrap sample, (resamples, n); the same for every way."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)


def _interval(wrong: Windows, hidden: NDArray[np.bool_], drawn: NDArray[np.int64]) -> list[float]:
    """Of a mean error, by bootstrap over windows: bins of one window are no independent trials."""
    of, n = np.nonzero(hidden)[0], drawn.shape[1]
    total, bins = np.bincount(of, weights=wrong, minlength=n), np.bincount(of, minlength=n)
    return [float(end) for end in np.percentile((drawn @ total) / np.maximum(drawn @ bins, 1), [2.5, 97.5])]


def _by_bin(masked: NDArray[np.bool_], bins: int) -> NDArray[np.bool_]:
    return masked.repeat(bins // masked.shape[2], axis=2)


def _lines(window: Windows, visible: NDArray[np.bool_], hidden: NDArray[np.bool_]) -> Windows:
    out, at = np.zeros_like(window), np.arange(window.shape[2])
    for i, j in np.argwhere(hidden.any(axis=2) & visible.any(axis=2)):
        seen = visible[i, j]
        out[i, j] = np.interp(at, at[seen], window[i, j, seen])
    return out
