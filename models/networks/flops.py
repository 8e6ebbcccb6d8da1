"""How much work a window is: floating-point operations of the encoder's matrix products, every channel usable. Pure.

A multiplication and an addition are two. Norms, softmax and sums are left out: they are a few per cent of the work, and
less of the time.
"""

from __future__ import annotations

from models.networks.masked_autoencoder import MaeConfig


def flops(config: MaeConfig) -> int:
    """Of one window (channels, bins) through the encoder, as it runs live."""
    inner, tokens = config.heads * config.head_width, config.tokens + config.registers
    weights = 4 * config.width * inner + 3 * config.width * config.hidden  # queries, keys, values, out; SwiGLU
    layer = 2 * tokens * weights + 4 * tokens**2 * inner  # attention: scores, and what they weigh
    ends = 2 * config.tokens * config.width * (config.patch_bins + config.embedding)
    return config.depth * layer + ends
