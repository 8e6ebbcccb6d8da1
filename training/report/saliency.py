"""Which electrodes a decision rests on, asked in two ways and put to the test.

    gradient × input    Σ over bins of x ∂(log odds)/∂x: what an electrode's window adds, to first order
    occlusion           log odds with all electrodes less those without one, whose tokens are dropped as live

The map is the mean size over trials. A map is easily drawn and hard to believe (Adebayo et al. 2018), so trials are
foretold once more without the electrodes that it names: if it is right, that costs more than losing as many at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from training.report.percepts import area

BATCH = 32
REMOVED = 10
LogOdds = Callable[[Tensor, Tensor], Tensor]  # windows (n, channels, bins), usable (n, channels) -> (n,)
Windows = NDArray[np.float32]
Flags = NDArray[np.bool_]


def gradient_times_input(log_odds: LogOdds, windows: Windows, usable: Flags) -> NDArray[np.float64]:
    """(n, channels); 0 at unusable ones."""
    found = []
    for k in range(0, len(windows), BATCH):
        batch = torch.from_numpy(np.where(usable[k : k + BATCH, :, None], windows[k : k + BATCH], np.float32(0)))
        batch.requires_grad_(True)
        (gradient,) = torch.autograd.grad(log_odds(batch, torch.from_numpy(usable[k : k + BATCH])).sum(), batch)
        found.append((batch.detach() * gradient).sum(dim=2).numpy())
    return np.concatenate(found).astype(np.float64)


def occlusion(log_odds: LogOdds, windows: Windows, usable: Flags) -> NDArray[np.float64]:
    """(n, channels); 0 at unusable ones. A forward pass for each electrode."""
    out = np.zeros(usable.shape)
    everything = foretold(log_odds, windows, usable)
    for channel in range(usable.shape[1]):
        rows = np.flatnonzero(usable[:, channel])
        without = usable[rows].copy()
        without[:, channel] = False
        out[rows, channel] = everything[rows] - foretold(log_odds, windows[rows], without)
    return out


@torch.no_grad()
def foretold(log_odds: LogOdds, windows: Windows, usable: Flags) -> NDArray[np.float64]:
    """The log odds themselves, (n,)."""
    parts = [
        log_odds(torch.from_numpy(windows[k : k + BATCH]), torch.from_numpy(usable[k : k + BATCH])).numpy()
        for k in range(0, len(windows), BATCH)
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)


@dataclass(frozen=True, eq=False)
class Saliency:
    """`by_electrode` (channels,): mean |gradient × input| in log odds; `occluded` (channels,): the same of occlusion,
    over fewer trials. `numbers`: how far the two agree, and the test of the map."""

    by_electrode: NDArray[np.float64]
    occluded: NDArray[np.float64]
    numbers: dict[str, Any]


def saliency(
    log_odds: LogOdds, windows: Windows, usable: Flags, perceived: Flags, occluded: int = 32, seed: int = 0
) -> Saliency:
    """Of trials that the probe was not fitted to; occlusion, which is slow, of so many of them. The map is made from
    every other trial and tested on those between."""
    asked, tested = np.arange(0, len(windows), 2), np.arange(1, len(windows), 2)
    by_electrode = np.abs(gradient_times_input(log_odds, windows[asked], usable[asked])).mean(axis=0)
    some = asked[np.linspace(0, len(asked) - 1, min(occluded, len(asked))).astype(int)]
    gone = np.abs(occlusion(log_odds, windows[some], usable[some])).mean(axis=0)
    order, n = np.argsort(-by_electrode, kind="stable"), min(REMOVED, usable.shape[1] // 3)
    lost = {"most": order[:n], "least": order[::-1][:n], "random": np.random.default_rng(seed).permutation(order)[:n]}
    everything = foretold(log_odds, windows[tested], usable[tested])
    auc, alike = {"none": area(perceived[tested], everything)}, {}
    for name, channels in lost.items():
        left = usable[tested].copy()
        left[:, channels] = False
        without = foretold(log_odds, windows[tested], left)
        auc[name] = area(perceived[tested], without)
        alike[name] = float(np.corrcoef(everything, without)[0, 1]) if everything.std() and without.std() else None
    total = by_electrode.sum()
    numbers = {
        "trials": len(asked),
        "occluded_trials": len(some),
        "agreement": float(spearmanr(by_electrode, gone).statistic) if by_electrode.std() and gone.std() else None,
        "share_of_top": float(by_electrode[order[:n]].sum() / total) if total else None,
        "removed": n,
        "tested_trials": len(tested),
        "auc_without": auc,
        "alike_without": alike,  # correlation of the log odds with those of all electrodes
    }
    return Saliency(by_electrode, gone, numbers)
