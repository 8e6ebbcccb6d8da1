"""LSL stays on this machine here too."""

from tests.streaming.sources.conftest import name

__all__ = ["name"]
