"""Where a participant's journal lies when nobody says: in the user's state folder, one file for each participant, so
that the charge of their day follows them whatever folder the engine is started in."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path


def default_path(
    participant: str | None, platform: str = sys.platform, environment: Mapping[str, str] = os.environ
) -> Path:
    """The journal of this participant; of nobody in particular where there is no name."""
    return state_folder(platform, environment) / f"{_as_file_name(participant or 'nobody')}.journal"


def state_folder(platform: str = sys.platform, environment: Mapping[str, str] = os.environ) -> Path:
    """Where this user's programs keep what must outlive them."""
    home = Path(environment.get("HOME") or Path.home())
    if platform == "win32":
        state = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif platform == "darwin":
        state = home / "Library" / "Application Support"
    else:
        state = Path(environment.get("XDG_STATE_HOME") or home / ".local" / "state")
    return state / "phosphene"


def _as_file_name(name: str) -> str:
    """Letters, digits, `-` and `_`; where that changes the name, a piece of its hash keeps two names apart."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
