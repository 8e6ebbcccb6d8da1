"""`--plan`: what would be trained on and held out, said before anything trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from server.cli import run
from tests.training.sessions import small_session
from training.data import Session
from training.plan import HELD_OUT, TRAINING, by_date, planned, show
from training.settings import SETTINGS


def sessions_of(folder: Path, dates: list[str]) -> list[Session]:
    return [small_session(folder, f"s{k}", date=date, seconds=36, seed=k) for k, date in enumerate(dates)]


def test_dates_parts_hours_and_dead_channels(tmp_path: Path):
    days = ["2031-01-01", "2031-01-01", "2031-01-02", "2031-01-03", "2031-01-04", "2031-01-05"]
    sessions = sessions_of(tmp_path, days)
    usable = np.array(sessions[1].usable)
    usable[:, 4] = False
    usable[:20_000, 6] = False  # more than half of it
    usable[30_000:] = False
    sessions[1] = Session(sessions[1].header, sessions[1].stored, usable)
    rows = planned(sessions, 128)
    assert [(one.date, one.part) for one in rows] == [
        (day, TRAINING if day == "2031-01-01" else HELD_OUT) for day in days
    ]
    assert [one.hours for one in rows] == pytest.approx([0.01] * 6)
    assert (rows[1].usable_hours, rows[1].windows) == (pytest.approx(0.01 * 30 / 36), 30_000 - 127)
    assert (rows[0].dead, rows[1].dead) == ((), (5, 7))
    (first, *others) = by_date(rows)
    assert (first.name, first.sessions, first.hours, first.dead) == ("2 sessions", 2, pytest.approx(0.02), (5, 7))
    assert len(others) == 4
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(rows, 2.0, console)
    said = console.export_text()
    assert "5, 7" in said
    assert "training: 2 sessions, 0.02 h of which 0.02 h usable, 2031-01-01; 2.0 h of windows are drawn, 109" in said
    assert "held out: 4 sessions, 0.04 h of which 0.04 h usable, 2031-01-02 to 2031-01-05 (4 dates)" in said


def test_one_session_is_both(tmp_path: Path):
    training, held_out = planned(sessions_of(tmp_path, ["2031-01-01"]), 128)
    assert (training.part, held_out.part) == (TRAINING, HELD_OUT)
    assert training.hours == pytest.approx(0.008)
    assert held_out.hours == pytest.approx(0.002)


def test_what_is_mixed_in_is_counted_around_trials_only(tmp_path: Path):
    sessions = sessions_of(tmp_path, ["2031-01-01", "2031-01-02"])
    sessions.append(small_session(tmp_path, "stimulated", date="2031-01-03", seconds=36, trials=20))
    mixed = replace(SETTINGS["nano"], pretrain_mix=0.2)
    *_, stimulated = planned(sessions, 128, mixed)
    assert (stimulated.name, stimulated.part) == ("stimulated", TRAINING)
    assert stimulated.windows == 32  # before and after, of the first sixteen trials
    assert [one.part for one in planned(sessions, 128)] == [TRAINING, TRAINING, HELD_OUT]


def test_the_command_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sessions_of(tmp_path / "data", ["2031-01-01", "2031-01-02"])
    assert run(["pretrain", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--preset", "nano", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "2031-01-02" in said
    assert "training: 1 sessions" in said
    assert not (tmp_path / "run" / "settings.toml").exists()
