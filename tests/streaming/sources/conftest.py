"""LSL stays on this machine while tests run; every stream has a name of its own."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path

import pytest

# before liblsl is loaded: it reads its settings once, at its first call
_SETTINGS = Path(tempfile.mkdtemp(prefix="phosphene-lsl-")) / "lsl_api.cfg"
_SETTINGS.write_text("[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -3\n")
os.environ.setdefault("LSLAPICFG", str(_SETTINGS))


@pytest.fixture
def name() -> str:
    """A stream name that no other test has."""
    return f"T{uuid.uuid4().hex[:12]}"
