"""A small network on the labelled trials alone: what labels give without pretraining.

Spatial filters, a temporal filter on each, power, ln, logistic regression: the shape that is strong on power in few
trials (shallow ConvNet, Schirrmeister et al. 2017). The last fifth of the labels says when to stop.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.evaluation.features import Windows

FILTERS = 16
KERNEL_BINS = 31
EPOCHS = 60
PATIENCE = 10
BATCH = 64
RATE = 2e-3
DROPOUT = 0.3
STOPPING_PART = 0.2


class PowerNetwork(nn.Module):
    """Windows (n, channels, bins) to log odds (n,)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space = nn.Conv1d(channels, FILTERS, 1, bias=False)
        self.time = nn.Conv1d(FILTERS, FILTERS, KERNEL_BINS, groups=FILTERS, bias=False)
        self.norm = nn.BatchNorm1d(FILTERS)
        self.drop = nn.Dropout(DROPOUT)
        self.out = nn.Linear(2 * FILTERS, 1)

    def forward(self, windows: Tensor) -> Tensor:
        filtered = self.norm(self.time(self.space(windows)))
        power = filtered.square().mean(dim=2).clamp(min=1e-6).log()
        return self.out(self.drop(torch.cat([filtered.mean(dim=2), power], dim=1)))[:, 0]


def supervised(windows: Windows, perceived: NDArray[np.bool_], seed: int = 0) -> PowerNetwork:
    """Fitted to trials in order of time, classes weighing the same; the weights of the best epoch."""
    cut = len(perceived) - round(STOPPING_PART * len(perceived))
    labels = torch.from_numpy(perceived.astype(np.float32))
    weight = torch.where(labels > 0, 0.5 / labels[:cut].mean(), 0.5 / (1 - labels[:cut].mean()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PowerNetwork(windows.shape[1])
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
        best, since, kept = np.inf, 0, {name: value.clone() for name, value in network.state_dict().items()}
        for _ in range(EPOCHS):
            network.train()
            for rows in torch.randperm(cut).split(BATCH):
                if len(rows) < 2:  # nothing to normalise by
                    continue
                odds = network(torch.from_numpy(np.asarray(windows[rows.numpy()], np.float32)))
                loss = F.binary_cross_entropy_with_logits(odds, labels[rows], weight[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            told = torch.from_numpy(log_odds(network, windows[cut:]))
            stopping = float(F.binary_cross_entropy_with_logits(told, labels[cut:], weight[cut:]))
            since += 1
            if stopping < best:
                best, since = stopping, 0
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            if since >= PATIENCE:
                break
    network.load_state_dict(kept)
    return network


@torch.no_grad()
def log_odds(network: PowerNetwork, windows: Windows) -> NDArray[np.float32]:
    """Of balanced classes, (n,)."""
    network.eval()
    parts = [
        network(torch.from_numpy(np.asarray(windows[k : k + 512], np.float32))) for k in range(0, len(windows), 512)
    ]
    return torch.cat(parts).numpy()
