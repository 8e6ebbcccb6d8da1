"""What two parts of a manifest say of the same thing must agree, and every number is one that something can be made
from."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.manifest import MOST, DriftReference, Profile
from tests.models.bundles import CHANNELS, CONFIG, manifest


def profile(numbers: int) -> Profile:
    return Profile(mean=(0.0,) * numbers, spread=(1.0,) * numbers, limit=3.0)


def test_one_that_agrees_with_itself() -> None:
    drift = DriftReference(over_s=30.0, mua=profile(CHANNELS), embedding=profile(CONFIG.width))
    one = manifest(drift=drift, read=CONFIG.width, frozen={"median_uv": [1.0] * CHANNELS, "mad_uv": [1.0] * CHANNELS})
    assert one.full_name == "small@1"
    assert one.drift == drift


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"chain": {"clip_uv": 1.0}}, "chain settings do not have the hash"),
        ({"min_usable_channels": 99}, "min_usable_channels 99 of 12"),
        ({"precisions": {}}, "no float32 model"),
        ({"array": {"name": "a", "labels": ["e"] * 11, "sha256": "0" * 64}}, "11 labels for 12 channels"),
        (
            {"array": {"name": "a", "labels": ["e"] * 12, "positions": [(0, 0)], "sha256": "0" * 64}},
            "1 positions for 12 channels",
        ),
        (
            {"array": {"name": "a", "labels": ["e"] * 12, "sha256": "0" * 64}},
            "labels and positions do not have the hash",
        ),
        ({"array": manifest().array.model_copy(update={"masked": (13,)})}, "masked channels"),
        ({"frozen": {"median_uv": [1.0], "mad_uv": [1.0]}}, "frozen normalisation"),
        ({"read": CONFIG.width + 1}, f"of {CONFIG.width} numbers of the embedding"),
        (
            {"drift": DriftReference(over_s=30.0, mua=profile(3), embedding=profile(CONFIG.width))},
            "drift reference is not of 12 channels",
        ),
        ({"input": {"channels": CHANNELS, "bins": MOST + 1, "rate_hz": 30000.0}}, "bins"),
        ({"embedding_size": MOST + 1}, "embedding_size"),
        ({"version": 0}, "version"),
    ],
)
def test_one_that_does_not(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        manifest(**changes)


def test_a_profile_has_a_spread_for_each_mean() -> None:
    with pytest.raises(ValidationError, match="2 spreads for 3 means"):
        Profile(mean=(0.0,) * 3, spread=(1.0,) * 2, limit=3.0)


@pytest.mark.parametrize("spread", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spread_can_be_divided_by(spread: float) -> None:
    with pytest.raises(ValidationError, match="spread"):
        Profile(mean=(0.0,), spread=(spread,), limit=3.0)
