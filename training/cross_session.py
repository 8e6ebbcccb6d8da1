"""The cross-session loss ("inverted SigLIP"): windows of different sessions pulled together, of the same pushed apart.

A pair's label depends on the sessions alone, which electrodes drift between, not on the state of the cortex. With
t > 0 raw recordings start above the floor, since windows of a session are alike; at the floor the embedding says
nothing of the session; below it the session is used against itself. A constant embedding sits on the floor too, so
the floor is read together with the rank of the embeddings (`ranks`).

    l_ij = t z_i·z_j + b,   z = embedding / |embedding|,   t = exp(log_t)
    y_ij = +1 where the sessions differ, -1 where they are the same, i ≠ j
    L    = (1/B) Σ softplus(-y_ij l_ij)     norm "siglip"; "mean" divides by the pairs, "balanced" is the mean of the
                                            two means over y = +1 and y = -1

Sigmoid loss: Zhai et al., ICCV 2023 (arXiv 2303.15343). Its bias of -10 is for batches in which almost every pair is
a negative; here almost every pair is a positive, so b is set once, on the first batch, to where the loss starts from
what the pairs' shares alone would give.

Sessions differ in their states, too: pulled together whatever they were doing, windows lose some of that. With
`neighbours`, of two sessions only windows are pulled together that were doing alike: one is among so many whose
channels' mean activity is nearest to the other's, in z units, that is against the last seconds of its own session.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORMS = ("siglip", "mean", "balanced")
EMBEDDINGS = ("pooled", "projector", "register")  # the last is the network's to give, see MaskedAutoencoder
PROJECTED = 128  # width of the projector's output


class CrossSession(nn.Module):
    """The loss and its two learned scalars; with a projector, a small network in front of it that is not exported.
    `neighbours`: 0 pulls all windows of different sessions together."""

    def __init__(self, width: int, norm: str = "siglip", embedding: str = "pooled", neighbours: int = 0) -> None:
        super().__init__()
        self.norm, self.neighbours = norm, neighbours
        self.log_t = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(0.0))
        self.project: nn.Module = nn.Identity()
        if embedding == "projector":
            self.project = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, PROJECTED))

    def forward(self, pooled: Tensor, session: Tensor, seen: Tensor, activity: Tensor | None = None) -> Tensor:
        """
        Args:
            pooled: (batch, width), of the whole batch.
            session: (batch,) long, which recording a window is of.
            seen: (batch,) bool, False for windows of which nothing was visible; they are in no pair.
            activity: (batch, channels), by which neighbours are found; needed where they are asked for.
        """
        same, differ = self._pairs(session, seen, activity)
        logits = self.log_t.exp() * self._cosines(pooled) + self.bias
        costs = F.softplus(torch.where(differ, -logits, logits))
        apart, together = torch.where(same, costs, 0.0).sum(), torch.where(differ, costs, 0.0).sum()
        if self.norm == "balanced":
            return (apart / same.sum().clamp(min=1) + together / differ.sum().clamp(min=1)) / 2
        return (apart + together) / _divisor(self.norm, same, differ, seen)

    def floor(self, session: Tensor, seen: Tensor, activity: Tensor | None = None) -> float:
        """The loss of the best constant logit: what an embedding that knows nothing of the session cannot go below."""
        same, differ = self._pairs(session, seen, activity)
        negatives, positives = int(same.sum()), int(differ.sum())
        if self.norm == "balanced":
            return math.log(2) if negatives and positives else 0.0
        cost = sum(-n * math.log(n / (negatives + positives)) for n in (negatives, positives) if n)
        return cost / float(_divisor(self.norm, same, differ, seen))

    @torch.no_grad()
    def calibrate(self, pooled: Tensor, session: Tensor, seen: Tensor, activity: Tensor | None = None) -> None:
        """Sets b so that the mean logit of this batch is the log odds of the pairs' shares."""
        same, differ = self._pairs(session, seen, activity)
        odds = torch.tensor(1.0) if self.norm == "balanced" else differ.sum() / same.sum().clamp(min=1)
        pair = same | differ
        cosine = torch.where(pair, self._cosines(pooled), 0.0).sum() / pair.sum().clamp(min=1)
        self.bias.copy_(odds.to(cosine).clamp(min=1e-3).log() - self.log_t.exp() * cosine)

    def _cosines(self, pooled: Tensor) -> Tensor:
        z = F.normalize(self.project(pooled.float()), dim=-1)
        return z @ z.T

    def _pairs(self, session: Tensor, seen: Tensor, activity: Tensor | None) -> tuple[Tensor, Tensor]:
        """(batch, batch) bool: ordered pairs of the same session and of different ones, without the diagonal."""
        equal = session[:, None] == session[None, :]
        pair = seen[:, None] & seen[None, :] & ~torch.eye(len(session), dtype=torch.bool, device=session.device)
        same, differ = equal & pair, ~equal & pair
        if self.neighbours:
            assert activity is not None
            differ = _alike(activity, differ, self.neighbours)
        return same, differ


def _alike(activity: Tensor, pairs: Tensor, neighbours: int) -> Tensor:
    """Those pairs of which one is among the nearest of the other; of two there are both orders."""
    far = torch.cdist(activity.float(), activity.float(), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = torch.where(pairs, far, math.inf).topk(min(neighbours, len(far)), largest=False).indices
    near = torch.zeros_like(pairs).scatter(1, nearest, True)
    return (near | near.T) & pairs


def _divisor(norm: str, same: Tensor, differ: Tensor, seen: Tensor) -> Tensor:
    return (seen.sum() if norm == "siglip" else same.sum() + differ.sum()).clamp(min=1)


def ranks(gram: Tensor, total: Tensor, count: float) -> dict[str, float]:
    """How many directions embeddings use, from sums that add up over batches and processes: has the latent collapsed?

    `rank`: exp of the entropy of the singular values (RankMe, Garrido et al. 2023, of centred embeddings);
    `participation`: (Σλ)² / Σλ² of the covariance's eigenvalues. Both lie between 1 and the width.

    Args:
        gram: (width, width) float64, Σ embedding embeddingᵀ.
        total: (width,) float64, Σ embedding.
        count: how many embeddings.
    """
    covariance = gram / count - torch.outer(total, total) / count**2
    eigenvalues = torch.linalg.eigvalsh(covariance.cpu()).clamp(min=0)
    shares = eigenvalues.sqrt() / eigenvalues.sqrt().sum()
    entropy = -(shares * shares.clamp(min=1e-300).log()).sum()
    return {
        "rank": float(entropy.exp()),
        "participation": float(eigenvalues.sum() ** 2 / eigenvalues.square().sum()),
    }
