"""A resolver that has gone deaf is replaced."""

from __future__ import annotations

import pylsl
import pytest

from streaming.sources import finder
from streaming.sources.finder import RENEW_S, Finder


class Deaf:
    """Every resolver but the third hears nothing."""

    made = 0

    def __init__(self, **_: object) -> None:
        Deaf.made += 1
        self.hears = Deaf.made == 3

    def results(self) -> list[object]:
        info = pylsl.StreamInfo("found", "EEG", 1, 0, "float32", "me")
        return [info] if self.hears else []


def test_a_deaf_resolver_is_replaced_and_one_that_hears_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(finder.pylsl, "ContinuousResolver", Deaf)
    monkeypatch.setattr(finder.pylsl, "local_clock", lambda: now[0])
    found = Finder("name='found'")
    heard = []
    for tenth in range(200):
        now[0] = tenth / 10
        heard.append(bool(found.found()))
    assert Deaf.made == 3
    assert not any(heard[: round(20 * RENEW_S)])
    assert all(heard[round(20 * RENEW_S) + 3 :])
