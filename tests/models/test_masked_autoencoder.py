"""The network against the paper's arithmetic, and the law of the dropped token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.networks.masked_autoencoder import (
    PAPER,
    PRESETS,
    Encoder,
    MaeConfig,
    MaskedAutoencoder,
    Reconstructor,
    build,
    pool,
)

SMALL = replace(PRESETS["nano"], channels=10, bins=64, patch_bins=16, sessions=3)


@pytest.fixture
def network() -> MaskedAutoencoder:
    torch.manual_seed(1)
    return build(SMALL).eval()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_preset_has_the_papers_parameter_counts():
    with torch.device("meta"):
        encoder, reconstructor = Encoder(PAPER), Reconstructor(PAPER)
    assert count(encoder) == 245_503_488
    assert count(reconstructor) == 82_680_848
    assert (PAPER.tokens, PAPER.patches) == (768, 8)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_reads_a_window_of_the_array(name: str):
    config = PRESETS[name]
    with torch.device("meta"):
        network = MaskedAutoencoder(Encoder(config), Reconstructor(config))
        window, usable = torch.empty(2, 96, 128), torch.ones(2, 96, dtype=torch.bool)
        keep = torch.zeros(2, config.tokens // 4, dtype=torch.long)
        rebuilt, pooled = network(window, usable, keep, torch.zeros(2, dtype=torch.long))
    assert rebuilt.shape == (2, 96, 128)
    assert pooled.shape == (2, config.width)


def test_what_stands_for_a_window_is_its_mean_token_or_its_first_register(network: MaskedAutoencoder):
    window, usable = torch.randn(3, 10, 64), torch.ones(3, 10, dtype=torch.bool)
    keep, session = torch.arange(8).expand(3, 8), torch.zeros(3, dtype=torch.long)
    rebuilt, pooled = network(window, usable, keep, session)
    latents, visible = network.encoder(window, usable, keep)
    assert torch.equal(pooled, pool(latents, visible))
    network.by_register = True
    again, register = network(window, usable, keep, session)
    assert torch.equal(again, rebuilt)
    assert torch.equal(register, network.encoder.read(window, usable, keep)[0][:, 0])
    assert torch.equal(register, network.embed(window, usable, keep))
    assert not torch.allclose(register, pooled)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e9, -1e9])
def test_values_of_unusable_channels_do_not_matter(network: MaskedAutoencoder, garbage: float):
    window = torch.randn(3, 10, 64)
    usable = torch.ones(3, 10, dtype=torch.bool)
    usable[0, 2:5] = usable[1, :9] = False
    spoiled = torch.where(usable[:, :, None], window, garbage)
    clean, dirty = (pool(*network.encoder(w, usable)) for w in (window, spoiled))
    assert torch.equal(clean, dirty)


def test_an_unusable_channel_is_a_dropped_token(network: MaskedAutoencoder):
    window, usable = torch.randn(1, 10, 64), torch.ones(1, 10, dtype=torch.bool)
    usable[0, [1, 7]] = False
    kept = torch.tensor([[e * 4 + t for e in range(10) if e not in (1, 7) for t in range(4)]])
    dropped = pool(*network.encoder(window, torch.ones_like(usable), kept))
    assert torch.allclose(pool(*network.encoder(window, usable)), dropped, atol=1e-6)


def test_no_usable_channel_gives_nan(network: MaskedAutoencoder):
    assert pool(*network.encoder(torch.randn(1, 10, 64), torch.zeros(1, 10, dtype=torch.bool))).isnan().all()


def test_order_of_kept_tokens_does_not_matter(network: MaskedAutoencoder):
    """Positions travel with their tokens: encoder latents permute along, the reconstruction stays."""
    window, usable, session = torch.randn(1, 10, 64), torch.ones(1, 10, dtype=torch.bool), torch.tensor([1])
    keep = torch.tensor([[3, 17, 30, 8, 25]])
    turned = keep[:, torch.tensor([4, 2, 0, 1, 3])]
    assert torch.allclose(
        network(window, usable, keep, session)[0], network(window, usable, turned, session)[0], atol=1e-5
    )


def test_masked_tokens_cannot_be_seen(network: MaskedAutoencoder):
    window, usable, keep = torch.randn(1, 10, 64), torch.ones(1, 10, dtype=torch.bool), torch.tensor([[0, 1, 20]])
    other = window.clone()
    other[0, 0, 32:] += 1  # channel 0 from its third patch on; tokens 0 and 1 are its first two
    other[0, 6:] += 1
    session = torch.tensor([0])
    assert torch.equal(network(window, usable, keep, session)[0], network(other, usable, keep, session)[0])


def test_the_session_reaches_the_reconstructor_only(network: MaskedAutoencoder):
    window, usable, keep = torch.randn(1, 10, 64), torch.ones(1, 10, dtype=torch.bool), torch.arange(10)[None]
    (first, pooled), (second, pooled_too) = (network(window, usable, keep, torch.tensor([s])) for s in (0, 3))
    assert torch.equal(pooled, pooled_too)
    assert not torch.allclose(first, second)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="does not divide"):
        MaeConfig(patch_bins=17)
    with pytest.raises(ValueError, match="registers"):
        MaeConfig(registers=0)


def test_where_all_is_usable_no_mask_is_needed(network: MaskedAutoencoder):
    window, usable, keep = (
        torch.randn(3, 10, 64),
        torch.ones(3, 10, dtype=torch.bool),
        torch.rand(3, 40).argsort(1)[:, :9],
    )
    session = torch.tensor([0, 1, 3])
    masked, plain = (network(window, usable, keep, session, whole) for whole in (False, True))
    for one, other in zip(masked, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.equal(plain[1], network.embed(window, usable, keep, whole=True))


def test_a_window_with_nothing_to_see_spoils_no_gradient(network: MaskedAutoencoder):
    window, usable, keep = (
        torch.randn(2, 10, 64),
        torch.ones(2, 10, dtype=torch.bool),
        torch.rand(2, 40).argsort(1)[:, :9],
    )
    usable[0] = False
    rebuilt, pooled = network(window, usable, keep, torch.tensor([0, 1]))
    assert pooled.isfinite().all()
    (rebuilt[1].square().sum() + pooled[1].sum()).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())
