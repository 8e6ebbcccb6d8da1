"""liblsl without a wrapper: what arrives is what was sent, and nothing is sent where nobody listens."""

from __future__ import annotations

from tests.streaming.sources.conftest import name  # isort: skip, before liblsl reads its settings

import numpy as np
import pylsl
import pytest
from pylsl.util import LostError

from streaming.lsl_calls import ROOM, ChunkPull, TextOutlet, local_clock
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


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_samples_arrive_whole_with_their_stamps_and_a_sender_that_ends_is_an_error(name: str, dtype: str) -> None:
    sender = pylsl.StreamOutlet(pylsl.StreamInfo(name, "EEG", 3, 1000.0, dtype, name))
    (found,) = pylsl.resolve_byprop("name", name, timeout=10)
    inlet = pylsl.StreamInlet(found, recover=False)
    inlet.open_stream(10)
    pull = ChunkPull(inlet, 8, 3, dtype)
    assert pull(0.0) == 0
    sent = np.arange(36, dtype=dtype).reshape(12, 3)
    stamps = 100.0 + np.arange(12) / 1000
    sender.push_chunk(sent, timestamp=list(stamps))
    heard, times = [], []
    until(lambda: inlet.samples_available() == 12)
    for rows in (8, 4):  # as many as there is room for, then the rest
        assert pull(1.0) == rows
        heard.append(pull.raw[:rows].copy())
        times.append(pull.stamps[:rows].copy())
    np.testing.assert_array_equal(np.concatenate(heard), sent)
    np.testing.assert_array_equal(np.concatenate(times), stamps)
    del sender
    with pytest.raises(LostError):
        [pull(0.1) for _ in range(100)]
