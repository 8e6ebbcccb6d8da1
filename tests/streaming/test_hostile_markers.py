"""Markers come from the network, from anybody on it: whatever they say, one is taken or is one sentence."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import RigFault
from streaming.events import Report, Stimulation, marker_text, parse_marker

QUICK = settings(max_examples=400, deadline=None, derandomize=True, database=None)
ANY_TEXT = st.text(st.characters(categories=None), max_size=300)  # surrogates as well
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.lists(st.integers(), max_size=3)
    | st.sampled_from([10**400, -(2**63), 2**64, 1e308, 5e-324])
)
KEYS = ("trial", "electrode", "current_ua", "duration_s", "pulses", "phase_us", "interphase_us", "frequency_hz")
FIELDS = st.fixed_dictionaries(
    {"event": st.sampled_from(["stim", "report"]) | VALUES},
    optional={key: VALUES | st.integers(0, 100) for key in (*KEYS, "perceived", "trigger_id", "more")},
)


def taken(text: str) -> Any:
    """The marker, or the sentence that refuses it; either can be written down and sent on."""
    try:
        marker = parse_marker(text)
    except RigFault as fault:
        return str(fault)
    if isinstance(marker, Stimulation | Report):
        told = {key: getattr(marker, key) for key in marker.__slots__}
        orjson.dumps(told)
        msgpack.packb(told)
        assert parse_marker(marker_text(marker)) == marker
    return marker


@QUICK
@given(FIELDS)
def test_any_fields(fields: dict[str, Any]) -> None:
    taken(json.dumps(fields))


@QUICK
@given(ANY_TEXT)
def test_any_text(text: str) -> None:
    assert isinstance(taken(text), str)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"event": ' + "9" * 5000 + "}",
        '{"event": "stim", "duration_s": ' + "9" * 5000 + "}",
        '{"event": "stim", "duration_s": 0.1, "trial": 1e999}',
        '{"event": "stim", "duration_s": 0.1, "frequency_hz": 5e-324, "pulses": 2, "phase_us": 1, "interphase_us": 1}',
        '{"event": "report", "perceived": NaN}',
    ],
)
def test_the_worst_of_them(text: str) -> None:
    assert isinstance(taken(text), str) or "stim" not in text


def test_half_a_character_is_not_sent_on() -> None:
    marker = taken(r'{"event": "stim", "duration_s": 0.1, "trigger_id": "\ud800"}')
    assert marker.trigger_id == "?"
