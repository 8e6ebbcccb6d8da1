"""LSL stays on this machine while tests run; every stream has a name of its own."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path

import pytest

# Before liblsl is loaded: it reads its settings once, at its first call. Known peers are asked at their ports, of which
# each outlet takes two; the 32 of the default are soon taken, and an outlet outside of them is never found.
_SETTINGS = Path(tempfile.mkdtemp(prefix="phosphene-lsl-")) / "lsl_api.cfg"
_SETTINGS.write_text("""
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {127.0.0.1}
[ports]
PortRange = 400
[log]
level = -3
""")
os.environ.setdefault("LSLAPICFG", str(_SETTINGS))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that the machine holds up is not silent; that silence is told after 250 ms has a test of its own."""
    monkeypatch.setattr("streaming.sources.lsl.SILENCE_S", 30.0)


@pytest.fixture
def name() -> str:
    """A stream name that no other test has."""
    return f"T{uuid.uuid4().hex[:12]}"
