"""For the tests of the server."""

from __future__ import annotations

import pytest

from tests.server import seen


@pytest.fixture(autouse=True)
def every_message_is_as_documented():
    seen.faults.clear()
    yield
    assert not seen.faults, seen.faults[0]
