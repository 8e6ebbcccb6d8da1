"""Masked autoencoder of MUA windows (Kovalev, Lozano, Grani et al., PMLR 308:93-98).

A window (channels, bins) is cut into one token per channel and stretch of `patch_bins`. The encoder sees a random
quarter of the tokens; the reconstructor, which alone knows the session, fills in the rest. Only the encoder is
exported: its pooled latent is the embedding. One token never spans two channels, so a dead or missing channel is a
dropped token: masked out of every attention and of the pooling, in training and live, whatever values it holds.

Widths that the paper leaves open follow from its parameter counts (246 M and 83 M): inner attention width heads x
head_width = 1024, SwiGLU hidden 3072, no biases but in patch embedding, projection and head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class MaeConfig:
    """Sizes of both halves. `sessions` is the length of the reconstructor's session table, without the unknown row;
    `embedding` the width of the latents that leave the encoder, 0: its own. A student's is its teacher's."""

    channels: int = 96
    bins: int = 128
    patch_bins: int = 16
    width: int = 768
    depth: int = 24
    heads: int = 16
    head_width: int = 64
    hidden: int = 3072
    registers: int = 4
    reconstructor_depth: int = 8
    sessions: int = 252
    embedding: int = 0

    def __post_init__(self) -> None:
        if self.bins % self.patch_bins:
            raise ValueError(f"patch_bins {self.patch_bins} does not divide the window's {self.bins} bins")
        if self.registers < 1:
            raise ValueError("registers must be at least 1: with no usable channel they are all there is to attend to")

    @property
    def patches(self) -> int:
        """Tokens per channel."""
        return self.bins // self.patch_bins

    @property
    def tokens(self) -> int:
        return self.channels * self.patches

    @property
    def latent_width(self) -> int:
        """Of each latent that leaves the encoder, and so of the embedding."""
        return self.embedding or self.width


PAPER = MaeConfig()
PRESETS: dict[str, MaeConfig] = {
    "paper": PAPER,
    "base": replace(PAPER, depth=12, heads=12, hidden=2048, reconstructor_depth=4),
    "small": replace(PAPER, width=384, depth=12, heads=6, hidden=1024, reconstructor_depth=4),
    "tiny": replace(PAPER, width=192, depth=6, heads=3, hidden=512, reconstructor_depth=2),
    "micro": replace(PAPER, width=128, depth=4, heads=2, hidden=384, reconstructor_depth=2),
    "live": replace(PAPER, width=128, depth=4, heads=2, hidden=384, reconstructor_depth=2, patch_bins=128),
    "ci": replace(PAPER, width=64, depth=3, heads=2, head_width=32, hidden=192, reconstructor_depth=1, patch_bins=128),
    "nano": replace(PAPER, width=64, depth=2, heads=2, head_width=32, hidden=192, reconstructor_depth=1, patch_bins=64),
    "pico": replace(PAPER, width=64, depth=1, heads=1, head_width=32, hidden=96, reconstructor_depth=1, patch_bins=128),
}


class Attention(nn.Module):
    """Full attention with RMS-normalised queries and keys."""

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        inner = config.heads * config.head_width
        self.qkv = nn.Linear(config.width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.width, bias=False)
        self.q_norm = nn.RMSNorm(config.head_width, eps=1e-6)
        self.k_norm = nn.RMSNorm(config.head_width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, tokens, _ = x.shape
        by_head = (batch, tokens, self.heads, self.head_width)
        q, k, v = (part.view(by_head).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.q_norm(q.float()), self.k_norm(k.float())  # also under autocast: a variance in bf16 is no variance
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(x.transpose(1, 2).reshape(batch, tokens, self.heads * self.head_width))


class SwiGLU(nn.Module):
    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.width, eps=1e-6)
        self.attention = Attention(config)
        self.norm2 = nn.RMSNorm(config.width, eps=1e-6)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`mask` bool, broadcastable to (batch, heads, queries, keys): True may be attended to. None: all may."""
        x = x + self.attention(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class Positions(nn.Module):
    """Learned embedding of time plus learned embedding of place, for token = channel * patches + patch."""

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.empty(config.patches, config.width))
        self.space = nn.Parameter(torch.empty(config.channels, config.width))

    def forward(self) -> Tensor:
        return (self.space[:, None, :] + self.time[None, :, :]).flatten(0, 1)


class Encoder(nn.Module):
    """Windows to latents. Called without `keep` it reads every usable token, as it does live."""

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.patch_bins, config.width)
        self.positions = Positions(config)
        self.registers = nn.Parameter(torch.empty(config.registers, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.project = nn.Linear(config.width, config.embedding) if config.embedding else nn.Identity()
        self.reads = config.channels  # of a window

    def forward(
        self, window: Tensor, usable: Tensor, keep: Tensor | None = None, whole: bool = False
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            window: (batch, channels, bins), z units; unusable channels may hold anything, NaN included.
            usable: (batch, channels) bool.
            keep: (batch, kept) indices of the tokens to read, or None for all.
            whole: the caller vouches that every token read is of a usable channel, which spares attention its mask
                (with one, a GPU's fastest kernel is out of reach).

        Returns:
            latents (batch, kept, latent width) and which of them are of usable channels (batch, kept).
        """
        x, visible = self.read(window, usable, keep, whole)
        return self.project(x[:, self.config.registers :]), visible

    def read(
        self, window: Tensor, usable: Tensor, keep: Tensor | None = None, whole: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, before the projection, and with the registers in front: (batch, registers + kept, width)."""
        batch, config = window.shape[0], self.config
        window = torch.where(usable[:, :, None], window, 0.0)
        tokens = self.embed(window.reshape(batch, config.tokens, config.patch_bins)) + self.positions()
        visible = usable[:, :, None].expand(-1, -1, config.patches).reshape(batch, config.tokens)
        if keep is not None:
            tokens = tokens.gather(1, keep[:, :, None].expand(-1, -1, config.width))
            visible = visible.gather(1, keep)
        x = torch.cat([self.registers.expand(batch, -1, -1), tokens], dim=1)
        mask = None
        if not whole:
            keys = torch.cat([visible.new_ones(batch, config.registers), visible], dim=1)
            mask = keys[:, None, None, :].expand(-1, 1, x.shape[1], -1)  # spelled out: ONNX Attention broadcasts none
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), visible

    def looked_at(self, window: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """What it sees of them: all. A reader of fewer electrodes sees less."""
        return window, usable


def pool(latents: Tensor, visible: Tensor) -> Tensor:
    """Mean of the visible latents, (batch, latent width): the embedding. NaN where nothing is visible."""
    weight = visible[:, :, None].to(latents.dtype)
    return (latents * weight).sum(dim=1) / weight.sum(dim=1)


def pool_some(latents: Tensor, visible: Tensor) -> Tensor:
    """As `pool`, for training: where nothing is visible the mean of whatever stands there. The loss leaves such a
    window out, and a NaN that is left out would still make its gradient NaN."""
    return pool(latents, visible | ~visible.any(dim=1, keepdim=True))


class Reconstructor(nn.Module):
    """Latents of the kept tokens to the whole window. Its session table ends in a row for unknown sessions."""

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.latent_width, config.width)
        self.mask_token = nn.Parameter(torch.empty(config.width))
        self.positions = Positions(config)
        self.sessions = nn.Embedding(config.sessions + 1, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.reconstructor_depth))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.head = nn.Linear(config.width, config.patch_bins)

    def forward(self, latents: Tensor, visible: Tensor, keep: Tensor, session: Tensor) -> Tensor:
        """
        Args:
            latents, visible: of the encoder, for the tokens `keep` (batch, kept).
            session: (batch,) long.

        Returns:
            (batch, channels, bins).
        """
        batch, config = latents.shape[0], self.config
        known = torch.where(visible[:, :, None], self.project(latents), self.mask_token.to(latents.dtype))
        tokens = self.mask_token.to(known.dtype).expand(batch, config.tokens, -1)
        tokens = tokens.scatter(1, keep[:, :, None].expand(-1, -1, config.width), known) + self.positions()
        x = torch.cat([self.sessions(session)[:, None, :], tokens], dim=1)
        for block in self.blocks:
            x = block(x, None)
        return self.head(self.norm(x)[:, 1:]).reshape(batch, config.channels, config.bins)


class MaskedAutoencoder(nn.Module):
    """Encoder and reconstructor; the encoder alone is exported. `by_register`: the first register stands for a window
    where windows are compared, in the place of the mean of its tokens."""

    def __init__(self, encoder: Encoder, reconstructor: Reconstructor, by_register: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.reconstructor = reconstructor
        self.by_register = by_register

    def forward(
        self, window: Tensor, usable: Tensor, keep: Tensor, session: Tensor, whole: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction (batch, channels, bins), and what stands for the window (batch, latent width)."""
        latents, visible, compared = self._encode(window, usable, keep, whole)
        return self.reconstructor(latents, visible, keep, session), compared

    def embed(self, window: Tensor, usable: Tensor, keep: Tensor, whole: bool = False) -> Tensor:
        """What stands for the window alone, as `forward` gives it."""
        return self._encode(window, usable, keep, whole)[2]

    def _encode(self, window: Tensor, usable: Tensor, keep: Tensor, whole: bool) -> tuple[Tensor, Tensor, Tensor]:
        x, visible = self.encoder.read(window, usable, keep, whole)
        latents = self.encoder.project(x[:, self.encoder.config.registers :])
        compared = self.encoder.project(x[:, 0]) if self.by_register else pool_some(latents, visible)
        return latents, visible, compared


def build(config: MaeConfig) -> MaskedAutoencoder:
    """A fresh network. Linear, tokens and tables start from N(0, 0.02) truncated at two sigma, biases 0, norms 1."""
    network = MaskedAutoencoder(Encoder(config), Reconstructor(config))
    for module in network.modules():
        if isinstance(module, nn.RMSNorm):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
    return network
