"""The contract's JSON, and nothing that JSON has no word for."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from streaming.stimulators.markers import TriggerForm, state_marker
from tests.streaming.stimulators.benches import limits

PATTERN = limits("20.0").patterns[0]


def built(event: str = "trigger", probability: float = 0.81, sample_time: float = 123.456, blind: bool = False) -> str:
    return TriggerForm(event, "7f-12", PATTERN, "ab" * 32, blind).fill(4711, probability, sample_time)


@pytest.mark.parametrize("event", ["trigger", "would_fire"])
def test_a_trigger_and_one_that_would_have_been_say_the_same(event: str) -> None:
    found = json.loads(built(event))
    assert list(found.items()) == [
        ("event", event),
        ("trigger_id", "7f-12"),
        ("seq", 4711),
        ("probability", 0.81),
        ("electrode", 34),
        ("current_ua", 20.0),
        ("pattern", "e34-20uA"),
        ("limits_sha256", "ab" * 32),
        ("sample_time", 123.456),
    ]
    assert '"current_ua":20.0' in built(event)


def test_in_blind_mode_the_probability_is_null() -> None:
    assert json.loads(built(blind=True))["probability"] is None


def test_numbers_of_numpy_are_numbers() -> None:
    assert json.loads(built(probability=np.float32(0.5)))["probability"] == 0.5


@pytest.mark.parametrize("probability", [math.nan, math.inf, -math.inf, -0.01, 1.0000001])
def test_what_is_no_probability_is_never_sent(probability: float) -> None:
    with pytest.raises(ValueError, match="expected one in"):
        built(probability=probability)


@pytest.mark.parametrize("sample_time", [math.nan, math.inf])
def test_a_time_that_is_none_is_never_sent(sample_time: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        built(sample_time=sample_time)


@pytest.mark.parametrize("event", ["armed", "disarmed", "fault"])
def test_states_say_why(event: str) -> None:
    assert json.loads(state_marker(event, 'the file "x" changed')) == {"event": event, "reason": 'the file "x" changed'}
