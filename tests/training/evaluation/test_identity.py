"""Which session a window is of: told where an embedding holds it, at chance where it does not; compared in pairs."""

from __future__ import annotations

import numpy as np

from training.evaluation.identity import session_identity, session_identity_less, told

SESSIONS, WINDOWS, WIDTH = 8, 200, 6


def embedded(offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Windows of sessions that lie `offset` apart in every direction."""
    rng, session = np.random.default_rng(0), np.repeat(np.arange(SESSIONS), WINDOWS)
    return offset * rng.standard_normal((SESSIONS, WIDTH))[session] + rng.standard_normal(
        (len(session), WIDTH)
    ), session


def test_what_holds_the_session_tells_it_and_more_than_what_does_not():
    much, none = told(*embedded(1.0)), told(*embedded(0.0))
    found, by_chance = session_identity(much), session_identity(none)
    assert found is not None
    assert by_chance is not None
    assert found["interval"][0] > 0.4
    assert by_chance["interval"][0] < by_chance["chance"] == 1 / SESSIONS < by_chance["interval"][1]
    assert found["windows"] == SESSIONS * WINDOWS // 2
    less = session_identity_less(none, much)
    assert less is not None
    assert less["interval"][1] < -0.2
    np.testing.assert_allclose(less["difference"], by_chance["accuracy"] - found["accuracy"])


def test_of_one_session_nothing_is_asked():
    one = told(np.ones((10, 2)), np.zeros(10, np.int64))
    assert session_identity(one) is None
    assert session_identity_less(one, one) is None
