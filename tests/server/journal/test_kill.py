"""Ten deaths; `python -m tests.server.journal.kill` for as many as one likes."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="no fork, no SIGKILL")
def test_killed_at_ten_random_instants():
    done = subprocess.run(
        [sys.executable, "-m", "tests.server.journal.kill", "--kills", "10"],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Toll(kills=10, "), done.stdout
