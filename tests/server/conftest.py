"""For the tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.in_memory import in_memory
from tests.server import seen


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Journals of services that are armed lie in it."""
    with in_memory() as folder:
        yield folder


@pytest.fixture(autouse=True)
def every_message_is_as_documented():
    seen.faults.clear()
    yield
    assert not seen.faults, seen.faults[0]
