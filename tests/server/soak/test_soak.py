"""A minute of chaos with the real service: nothing unlawful, nothing lost, nobody dies in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tests.streaming.sources.conftest  # noqa: F401, LSL stays on this machine
from models.errors import OperatorFault
from server.cli import run
from server.soak.soak import soak

MINUTES = 0.9
SEED = 16  # the source is killed and paused, the disk fills, the inference hangs, the limits are edited
# A machine that runs other tests beside is late in its own right: these are judged in a soak of their own (docs).
CLOCKED = ("within", "p99")


@pytest.mark.timeout(400)
def test_a_minute_of_chaos(tmp_path: Path) -> None:
    said: list[str] = []
    found = soak(MINUTES, SEED, tmp_path / "soak", said.append)
    wrong = [one for one in found["verdicts"] if not one["holds"] and not any(word in one["what"] for word in CLOCKED)]
    assert wrong == [], json.dumps(found, indent=1)
    assert len(found["faults"]) >= 5
    assert found["armed"] >= 1
    report = (tmp_path / "soak" / "report.html").read_text()
    assert all(one["kind"] in report for one in found["faults"])
    assert json.loads((tmp_path / "soak" / "report.json").read_text())["seed"] == SEED


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OperatorFault, match="never overwritten"):
        soak(1.0, 0, tmp_path)
    assert run(["soak", "--out", str(tmp_path), "--minutes", "1"]) == 2
    assert "never overwritten" in capsys.readouterr().err
