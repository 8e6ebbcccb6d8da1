"""Attention pooling learned without labels, on the frozen tokens of resting windows.

Each query weighs a window's tokens by a softmax and takes their mean. The queries are learned by time contrast (van den
Oord et al. 2018; Hyvärinen and Morioka 2016): the pooled tokens of two windows half a second apart must find each other
among those of other moments of the same session. What lasts from one window to the next is the slow state; the session
cannot help, since all candidates share it. The projection that the contrast is made in is thrown away.
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
RATE = 1e-2


def attend(latents: Tensor, visible: Tensor, queries: Tensor) -> Tensor:
    """Tokens (n, tokens, width), which are visible (n, tokens), queries (queries, width): (n, queries · width)."""
    score = torch.einsum("ntw,qw->nqt", latents, queries)
    weight = score.masked_fill(~visible[:, None], -torch.inf).softmax(dim=2)
    return torch.einsum("nqt,ntw->nqw", weight, latents).flatten(1)


def learn(first: Tensor, second: Tensor, visible: Tensor, session: Tensor, seed: int = 0) -> Tensor:
    """Queries, from the tokens of the `first` and `second` window of each pair, (pairs, tokens, width), half precision
    will do; `visible` (pairs, tokens) in both; `session` (pairs,)."""
    width = first.shape[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        queries = nn.Parameter(torch.randn(QUERIES, width) * width**-0.5)
        project = nn.Linear(QUERIES * width, PROJECTION)
    generator = torch.Generator().manual_seed(seed)
    groups = [rows for one in session.unique() if len(rows := torch.nonzero(session == one)[:, 0]) > 1]
    optimizer = torch.optim.AdamW([queries, *project.parameters()], lr=RATE)
    for _ in range(STEPS):
        group = groups[int(torch.randint(len(groups), (1,), generator=generator))]
        rows = group[torch.randperm(len(group), generator=generator)[:PAIRS]]
        pooled = (attend(one[rows].float(), visible[rows], queries) for one in (first, second))
        # less their mean: pooled tokens are almost parallel, and what differs is small
        a, b = (F.normalize(project(one - one.mean(dim=0)), dim=1) for one in pooled)
        alike, target = a @ b.T / TEMPERATURE, torch.arange(len(rows))
        loss = (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return queries.detach()
