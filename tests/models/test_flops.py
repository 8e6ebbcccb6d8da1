"""Operations of a window against the arithmetic of the paper's sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.networks.flops import flops, step_flops
from models.networks.masked_autoencoder import PRESETS

ONE_TOKEN = replace(PRESETS["micro"], patch_bins=128)


def test_the_papers_encoder():
    """24 layers of 772 tokens: 2 · (3 145 728 + 7 077 888) each, and attention's 4 · 772² · 1024."""
    layers = 24 * (772 * 2 * (3_145_728 + 7_077_888) + 4 * 772**2 * 1024)
    assert flops(PRESETS["paper"]) == layers + 2 * 768 * 768 * 16  # and the patches' embedding
    assert flops(PRESETS["paper"]) / 1e9 == pytest.approx(437, abs=0.5)


@pytest.mark.parametrize(
    ("config", "giga"),
    [
        (PRESETS["base"], 152),
        (PRESETS["small"], 43),
        (PRESETS["tiny"], 6.8),
        (PRESETS["micro"], 2.5),
        (ONE_TOKEN, 0.18),
        (replace(PRESETS["nano"], depth=3, patch_bins=16), 0.7),
    ],
)
def test_the_presets(config, giga: float):
    """Tables of them leave out the registers, four tokens of 772 or of 100, and the ends."""
    assert flops(config) / 1e9 == pytest.approx(giga, rel=0.08)
    assert flops(config) / 1e9 > giga


def test_a_students_projection_counts():
    assert flops(replace(ONE_TOKEN, embedding=768)) - flops(ONE_TOKEN) == 2 * 96 * 128 * 768


def test_a_step_of_the_papers_pretraining():
    """100 GFLOP of the encoder over 192 tokens and its registers, 146 of the reconstructor; three times that, by 32."""
    assert step_flops(PRESETS["paper"]) / 1e9 == pytest.approx(3 * (100 + 146), rel=0.01)
    assert 32 * step_flops(PRESETS["paper"]) / 1e12 == pytest.approx(23.6, abs=0.1)
