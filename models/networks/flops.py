"""How much work a window is: floating-point operations of the matrix products, every channel usable. Pure.

A multiplication and an addition are two. Norms, softmax and sums are left out: they are a few per cent of the work, and
less of the time.
"""

from __future__ import annotations

from models.networks.masked_autoencoder import MaeConfig


def flops(config: MaeConfig) -> int:
    """Of one window (channels, bins) through the encoder, as it runs live."""
    return _layers(config, config.depth, config.tokens + config.registers) + _ends(config, config.tokens)


def step_flops(config: MaeConfig, mask_ratio: float = 0.75) -> int:
    """Of one window in pretraining: the encoder over the tokens that it is shown, the reconstructor over all; forwards
    and, twice as much, backwards."""
    shown = max(1, round(config.tokens * (1 - mask_ratio)))
    encoder = _layers(config, config.depth, shown + config.registers) + _ends(config, shown)
    reconstructor = _layers(config, config.reconstructor_depth, config.tokens + 1)
    ends = 2 * config.width * (shown * config.latent_width + config.tokens * config.patch_bins)
    return 3 * (encoder + reconstructor + ends)


def _layers(config: MaeConfig, depth: int, tokens: int) -> int:
    inner = config.heads * config.head_width
    weights = 4 * config.width * inner + 3 * config.width * config.hidden  # queries, keys, values, out; SwiGLU
    return depth * (2 * tokens * weights + 4 * tokens**2 * inner)  # attention: scores, and what they weigh


def _ends(config: MaeConfig, tokens: int) -> int:
    return 2 * tokens * config.width * (config.patch_bins + config.embedding)
