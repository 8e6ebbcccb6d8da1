"""liblsl without a wrapper: what arrives is what was sent, and nothing is sent where nobody listens."""

from __future__ import annotations

from tests.streaming.sources.conftest import name  # isort: skip, before liblsl reads its settings

import pylsl
import pytest

from streaming.lsl_calls import ROOM, TextOutlet, local_clock
from tests.streaming.stimulators.benches import until

TEXTS = ['{"µ": "34"}', "x" * (ROOM - 1), "y" * ROOM, "z" * 5 * ROOM, ""]


__all__ = ["name"]


def outlet(name: str) -> TextOutlet:
    return TextOutlet(pylsl.StreamInfo(name, "Markers", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string, name))


def test_the_clock_is_liblsls() -> None:
    before, ours, after = pylsl.local_clock(), local_clock(), pylsl.local_clock()
    assert before <= ours <= after


def test_texts_arrive_whole_and_are_stamped_when_they_are_handed_over(name: str) -> None:
    sender = outlet(name)
    assert not sender.has_consumers()
    assert not sender.push("nobody hears it")
    (found,) = pylsl.resolve_byprop("name", name, timeout=10)
    assert found.uid() == sender.uid
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(10)
    until(sender.has_consumers)
    for text in TEXTS:
        before = local_clock()
        assert sender.push(text)
        after = local_clock()
        (heard,), stamp = inlet.pull_sample(timeout=5)
        assert heard == text
        assert before <= stamp <= after
    inlet.close_stream()


def test_what_liblsl_does_not_take_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = outlet(name)
    monkeypatch.setattr(sender, "_consumers", lambda handle: 1)
    monkeypatch.setattr(sender, "_push", lambda handle, row, stamp: -4)
    with pytest.raises(RuntimeError, match="error -4"):
        sender.push("{}")
