"""One step of pretraining, whatever it is cut over: micro-batches in time, processes in space.

A step sees one batch, of which every process holds its own rows and looks at them `micro_batch` at a time. Sums are
divided by totals of the whole batch, which are known before anything is computed, so that gradients and losses are
those of the batch in one piece. The cross-session loss compares every window with every other and cannot be cut: the
embeddings of all processes are gathered, each computes the same loss of the whole batch, and takes the gradient of
its own rows. With micro-batches the embeddings are computed first without gradients, an encoder pass more (a gradient
cache: Gao et al. 2021, arXiv 2101.06983); networks here are deterministic, so the second pass meets the same ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.networks.masked_autoencoder import MaeConfig, build
from training.batches import Batch
from training.cross_session import CrossSession, ranks
from training.losses import correlation, moving, reconstruction
from training.optimizing import begin_step, clipped, optimizers, refuse_not_finite
from training.settings import PretrainSettings


class Learner:
    """Network, cross-session loss and optimisers of one process. `parts` holds all that training changes."""

    def __init__(self, fabric: Any, config: MaeConfig, settings: PretrainSettings) -> None:
        torch.manual_seed(settings.seed)
        self.fabric, self.settings = fabric, settings
        self.network = build(config)
        self.network.by_register = settings.cross_session_embedding == "register"
        self.cross_session = CrossSession(
            config.latent_width,
            settings.cross_session_norm,
            settings.cross_session_embedding,
            settings.cross_session_neighbours,
        ).to(fabric.device)
        self.parts = torch.nn.ModuleDict({"network": self.network, "cross_session": self.cross_session})
        chosen = optimizers(self.parts, settings, fabric.device)
        module = torch.compile(self.network) if settings.compile else self.network
        self.model, *self.optimizers = fabric.setup(module, *chosen)

    def learn(self, batch: Batch, step: int, rate: float, stop: bool = False) -> tuple[dict[str, float], bool]:
        """Takes step number `step`, counted from 0, at this learning rate.

        Returns:
            What it cost, by name, the same in every process; and whether any process has been asked to stop.

        Raises:
            OperatorFault: a loss or gradient is not finite; nothing was changed.
        """
        settings, fabric = self.settings, self.fabric
        pieces = [piece.to(fabric.device) for piece in batch.split(settings.micro_batch)]
        patches, signals, asked = self._totals(pieces, stop)
        begin_step(self.optimizers, rate)
        sums = torch.zeros(2, device=fabric.device)
        cross: dict[str, float] = {}
        pulls: list[Tensor] | None = None
        if settings.cross_session_weight and len(pieces) > 1:
            pulls, cross = self._pulls([self._embed(piece) for piece in pieces], pieces, step)
        for k, piece in enumerate(pieces):
            with fabric.no_backward_sync(self.model, enabled=k + 1 < len(pieces)):
                rebuilt, pooled = self.model(piece.window, piece.usable, piece.keep, piece.row, piece.whole)
                mse = reconstruction(rebuilt, piece.window, piece.masked, patches)
                lack = correlation(
                    rebuilt, piece.window, piece.usable, piece.masked, settings.correlation_over, signals
                )
                loss = mse + settings.correlation_weight * lack
                if settings.cross_session_weight:
                    if pulls is None:
                        pulls, cross = self._pulls([pooled], pieces, step)
                    loss = loss + (pooled * pulls[k]).sum()
                fabric.backward(loss * fabric.world_size)  # processes' gradients are averaged; these are to be added
            sums += torch.stack([mse.detach(), lack.detach()])
        mse, lack = fabric.all_reduce(sums, reduce_op="sum").tolist()
        norm = clipped(fabric, self.model, self.optimizers, settings.clip_norm)
        refuse_not_finite(step, rate, "reconstruction loss", mse, norm)
        for optimizer in self.optimizers:
            optimizer.step()
        return {"training": mse, "correlation": lack, **cross, "gradient": norm, "rate": rate}, asked

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> dict[str, float]:
        """Reconstruction loss over the held-out batches of all processes, every masked patch weighing the same, and
        the rank of their embeddings. Without compilation: its kernels are those of training."""
        width = self.network.encoder.config.latent_width
        sums = torch.zeros(3, dtype=torch.float64, device=self.fabric.device)
        total, gram = sums.new_zeros(width), sums.new_zeros(width, width)
        for batch in (one.to(self.fabric.device) for one in batches):
            with self.fabric.autocast():
                rebuilt, pooled = self.network(batch.window, batch.usable, batch.keep, batch.row, batch.whole)
            pooled = pooled[batch.seen].double()
            error = reconstruction(rebuilt, batch.window, batch.masked, torch.ones((), device=rebuilt.device))
            sums += torch.stack([error.double(), batch.masked.sum().double(), batch.seen.sum().double()])
            total, gram = total + pooled.sum(0), gram + pooled.T @ pooled
        sums, total, gram = (self.fabric.all_reduce(one, reduce_op="sum") for one in (sums, total, gram))
        error, patches, seen = sums.tolist()
        return {"held_out": error / max(1.0, patches), **ranks(gram, total, seen)}

    @torch.no_grad()
    def rebuilt(self, batch: Batch, most: int = 6) -> tuple[Batch, Tensor]:
        """The first windows of a batch and their reconstruction, to be looked at."""
        few = batch.split(most)[0].to(self.fabric.device)
        with self.fabric.autocast():
            return few, self.network(few.window, few.usable, few.keep, few.row, few.whole)[0]

    def _totals(self, pieces: list[Batch], stop: bool) -> tuple[Tensor, Tensor, bool]:
        """Masked patches and moving signals of the whole batch; whether any process is asked to stop."""
        over = self.settings.correlation_over
        counts = torch.stack(
            [
                sum(piece.masked.sum() for piece in pieces),
                sum(moving(piece.window, piece.usable, piece.masked, over).sum() for piece in pieces),
                torch.tensor(int(stop), device=self.fabric.device),
            ]
        )
        patches, signals, asked = self.fabric.all_reduce(counts, reduce_op="sum")
        return patches, signals, bool(asked)

    @torch.no_grad()
    def _embed(self, piece: Batch) -> Tensor:
        with self.fabric.autocast():
            return self.network.embed(piece.window, piece.usable, piece.keep, piece.whole)

    def _pulls(self, embeddings: list[Tensor], pieces: list[Batch], step: int) -> tuple[list[Tensor], dict[str, float]]:
        """The gradient of the weighted cross-session loss in each piece's embeddings, and what the loss was; that of
        its own parameters is laid where the optimiser finds it, the same in every process."""
        settings, fabric = self.settings, self.fabric
        own = torch.cat([one.detach().float() for one in embeddings])
        pooled = fabric.all_gather(own).reshape(-1, own.shape[1]).requires_grad_()
        session, seen = (
            fabric.all_gather(torch.cat([getattr(piece, name) for piece in pieces])).reshape(-1)
            for name in ("session", "seen")
        )
        activity = None
        if settings.cross_session_neighbours:
            own_activity = torch.cat([_activity(piece) for piece in pieces])
            activity = fabric.all_gather(own_activity).reshape(-1, own_activity.shape[1])
        if step == 0:
            self.cross_session.calibrate(pooled, session, seen, activity)
        loss = self.cross_session(pooled, session, seen, activity)
        (settings.cross_session_weight * loss).backward()
        rows = pooled.grad[len(own) * fabric.global_rank :][: len(own)]
        value = float(loss.detach())
        told = {"cross_session": value, "above_floor": value - self.cross_session.floor(session, seen, activity)}
        return list(rows.split([len(one) for one in embeddings])), told

    def weights(self) -> dict[str, Tensor]:
        """What the checkpoint that is used holds."""
        return dict(self.network.state_dict())


def _activity(piece: Batch) -> Tensor:
    """Mean z of each channel, (batch, channels); 0, its usual value, where it is not usable."""
    return torch.where(piece.usable[:, :, None], piece.window, 0.0).mean(dim=2)
