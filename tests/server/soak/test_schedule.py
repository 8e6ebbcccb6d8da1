"""The same seed brings the same faults, every kind comes, and nothing strikes at the end."""

from __future__ import annotations

import itertools

from server.soak.faults import BY_KIND
from server.soak.schedule import CALM_S, END_S, KINDS, STARTS_S, schedule


def test_a_seed_is_a_schedule() -> None:
    assert schedule(3600, 3) == schedule(3600, 3)
    assert schedule(3600, 3) != schedule(3600, 4)


def test_every_kind_has_its_fault_and_comes_before_any_comes_again() -> None:
    assert set(KINDS) == set(BY_KIND)
    planned = schedule(3600, 0)
    assert {one.kind for one in planned[: len(KINDS)]} == set(KINDS)
    assert planned[0].at_s == CALM_S
    ends = [one.kind for one in planned if one.side == "service"]
    assert 0 < len(ends) < len(planned) / 6, "lives are long enough to judge memory by"


def test_one_ends_before_the_next_and_all_before_the_end() -> None:
    for seconds, seed in itertools.product((60, 600, 7200), range(5)):
        planned = schedule(seconds, seed)
        assert planned, seconds
        assert planned[0].at_s >= 0.4 * min(seconds, 150)
        for one, after in itertools.pairwise(planned):
            rest_s = STARTS_S if one.side == "service" else 0
            assert one.at_s + one.lasts_s + rest_s <= after.at_s
        assert planned[-1].at_s + planned[-1].lasts_s <= seconds - END_S
