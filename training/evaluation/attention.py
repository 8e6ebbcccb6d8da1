"""Attention pooling learned without labels, on the frozen tokens of resting windows.

Each query weighs a window's tokens by a softmax and takes their mean. The queries are learned by time contrast (van den
Oord et al. 2018; Hyvärinen and Morioka 2016): the pooled tokens of two windows a fifth of a second apart must find each
other among those of other moments of the same session. What lasts from one window to the next is the slow state; the
session cannot help, since all candidates share it. The projection that the contrast is made in is thrown away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QUERIES = 4
PROJECTION = 64
TEMPERATURE = 0.1
STEPS = 300
PAIRS = 64  # in a batch, of one session
RATE = 3e-3
APART_BINS = 200  # between the first bins of two windows of 128: they do not overlap


class AttentionPool(nn.Module):
    """Tokens (n, tokens, width) to (n, queries x width)."""

    def __init__(self, width: int, queries: int = QUERIES) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(queries, width))
        nn.init.normal_(self.queries, std=width**-0.5)

    def forward(self, latents: Tensor, visible: Tensor) -> Tensor:
        score = torch.einsum("ntw,qw->nqt", latents, self.queries)
        weight = score.masked_fill(~visible[:, None], -torch.inf).softmax(dim=2)
        return torch.einsum("nqt,ntw->nqw", weight, latents).flatten(1)


def learn(first: Tensor, second: Tensor, visible: Tensor, session: Tensor, seed: int = 0) -> AttentionPool:
    """Learned from pairs of windows: tokens of the `first` and `second` of each (pairs, tokens, width), half precision
    will do; `visible` (pairs, tokens) in both; `session` (pairs,)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attention = AttentionPool(first.shape[2])
        project = nn.Linear(first.shape[2] * len(attention.queries), PROJECTION)
    generator = torch.Generator().manual_seed(seed)
    groups = [rows for one in session.unique() if len(rows := torch.nonzero(session == one)[:, 0]) > 1]
    optimizer = torch.optim.AdamW([*attention.parameters(), *project.parameters()], lr=RATE)
    for _ in range(STEPS):
        group = groups[int(torch.randint(len(groups), (1,), generator=generator))]
        rows = group[torch.randperm(len(group), generator=generator)[:PAIRS]]
        a, b = (project(_centred(attention(one[rows].float(), visible[rows]))) for one in (first, second))
        a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        alike = a @ b.T / TEMPERATURE
        target = torch.arange(len(rows))
        loss = (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return attention.eval().requires_grad_(False)


def _centred(pooled: Tensor) -> Tensor:
    """Less their mean: pooled tokens are almost parallel, and what differs is small."""
    return pooled - pooled.mean(dim=0, keepdim=True)
