"""phosphene journal verify | tail | export, and where a journal lies."""

import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from models.errors import OperatorFault
from server.cli import run
from server.journal.export import Trial, find_run, waits_s
from server.journal.place import default_path
from server.journal.read import rows, verify
from server.journal.rows import COLUMNS, Entry, chain
from server.journal.writer import Journal
from server.trigger_settings import PlanSettings
from tests.server.journal.fakes import FakeClocks, limits, lived_in


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """Two runs: the first of three pulses, the second of one."""
    path, clock = tmp_path_factory.mktemp("journal") / "p07.journal", FakeClocks()
    runs = [lived_in(path, clock, pulses) for pulses in (3, 1)]
    return path, runs


def test_verify_says_what_to_keep(journal, capsys):
    path, _ = journal
    head = verify(path)
    assert run(["journal", "verify", str(path)]) == 0
    assert (
        capsys.readouterr().out
        == f"{path}: {head.rows} rows, each as it was written; seal of the last: {head.sha256}\n"
    )
    assert run(["journal", "verify", str(path), "--seen", head.sha256]) == 0
    assert run(["journal", "verify", str(path), "--seen", "f" * 64]) == 1


def test_verify_names_the_wrong_row_and_fails(journal, tmp_path, capsys):
    copy = shutil.copy(journal[0], tmp_path / "copy.journal")
    connection = sqlite3.connect(copy)
    with connection:
        connection.execute(
            """UPDATE rows SET fields = replace(fields, '"electrode":34', '"electrode":35') WHERE seq = 7"""
        )
    connection.close()
    for command in (["verify"], ["export", "--out", str(tmp_path / "x.parquet")], ["tail", "-n", "99"]):
        assert run(["journal", command[0], str(copy), *command[1:]]) == 1
        assert capsys.readouterr().err == f"phosphene: {copy}: row 7 was changed: it is not what its seal was made of\n"
    assert os.listdir(tmp_path) == ["copy.journal"]  # reading leaves nothing, and half an export neither


def test_tail_shows_the_last_rows(journal, capsys):
    path, runs = journal
    assert run(["journal", "tail", str(path), "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    n = verify(path).rows
    assert lines[0] == f'{n - 1} 2027-01-15T08:00:44.000+00:00 {runs[1]} inhibited {{"THRESHOLD":900,"WINDOW":12}}'
    assert lines[1].startswith(f"{n} 2027-01-15T08:00:44.000+00:00 {runs[1]} run_ended ")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["verify", "/nowhere/p07.journal"], "no journal there"),
        (["tail", "/nowhere/p07.journal"], "no journal there"),
        (["tail", "/nowhere/p07.journal", "-n", "0"], "-n"),
        (["export", "/nowhere/p07.journal", "--out", "x.parquet"], "no journal there"),
        (["export", "/nowhere/p07.journal", "--out", "x.csv"], ".parquet or .nwb"),
        (["print", "/nowhere/p07.journal"], "print"),
    ],
)
def test_called_wrongly_is_one_line(arguments, word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["journal", *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
    assert word in line
    assert os.listdir(tmp_path) == []


def test_export_never_overwrites(journal, tmp_path, capsys):
    for name in ("x.parquet", "x.nwb"):
        (tmp_path / name).write_text("mine")
        assert run(["journal", "export", str(journal[0]), "--out", str(tmp_path / name)]) == 2
        assert (tmp_path / name).read_text() == "mine"
        assert "exists already" in capsys.readouterr().err
    assert run(["journal", "export", str(journal[0]), "--out", str(tmp_path / "none" / "x.parquet")]) == 2
    assert "its folder is not there" in capsys.readouterr().err


def test_parquet_holds_every_row(journal, tmp_path, capsys):
    pq = pytest.importorskip("pyarrow.parquet")
    path, out = journal[0], tmp_path / "p07.parquet"
    assert run(["journal", "export", str(path), "--out", str(out)]) == 0
    table = pq.read_table(out).to_pylist()
    assert [tuple(row[name] for name in COLUMNS) for row in table] == [tuple(row) for row in rows(path)]
    assert capsys.readouterr().out == f"{out}: {len(table)} rows\n"


def test_nwb_holds_the_contract_s_trials(journal, tmp_path, capsys):
    pynwb = pytest.importorskip("pynwb")
    path, runs = journal
    out = tmp_path / "p07.nwb"
    assert run(["journal", "export", str(path), "--out", str(out), "--run", runs[0]]) == 0
    assert capsys.readouterr().out == f"{out}: 3 trials\n"
    with pynwb.NWBHDF5IO(out, "r") as io:
        nwb = io.read()
        assert (nwb.session_id, nwb.subject.subject_id) == ("s1", "p07")
        assert nwb.session_start_time.timestamp() == 1_800_000_000.0
        table = nwb.trials.to_dataframe()
        assert list(table.columns) == list(Trial._fields)
        assert [tuple(row) for row in table.itertuples(index=False)] == [
            (10.0, 11.0, 10.0, 0.167, 34, 10.0, True),
            (21.0, 22.0, 21.0, 0.167, 34, 10.0, False),
            (32.0, 33.0, 32.0, 0.167, 34, 10.0, True),
        ]
        assert [table[name].dtype.kind for name in Trial._fields] == [*"ffff", "i", "f", "b"]
    last = tmp_path / "last.nwb"
    assert run(["journal", "export", str(path), "--out", str(last)]) == 0
    assert capsys.readouterr().out == f"{last}: 1 trials\n"


def test_nwb_of_a_run_without_stimulation_has_no_table(tmp_path):
    pynwb = pytest.importorskip("pynwb")
    path, out = tmp_path / "p07.journal", tmp_path / "p07.nwb"
    Journal(path, run_id="r1").close()
    assert run(["journal", "export", str(path), "--out", str(out)]) == 0
    with pynwb.NWBHDF5IO(out, "r") as io:
        nwb = io.read()
        assert (nwb.trials, nwb.subject, nwb.session_id) == (None, None, "r1")


def told(*entries):
    return chain("r1", [Entry(kind, fields, 1e9 + t, 100.0 + t, 5.0 + t) for t, kind, fields in entries], 0, "0" * 64)


def test_trials_are_matched_stimulations_and_reports():
    found = find_run(
        told(
            (0, "run_started", {}),
            (1, "stimulation", {"trial": 1, "duration_s": 0.2, "electrode": None, "current_ua": None, "time": 100.9}),
            (2, "stimulation", {"trial": 2, "duration_s": 2.5, "electrode": 7, "current_ua": 4.0}),
            (3, "report", {"trial": 1, "perceived": False, "time": 102.9}),
            (4, "report", {"trial": 2, "perceived": True}),
            (5, "report", {"trial": 2, "perceived": False}),  # nobody asked twice
            (6, "stimulation", {"trial": 3, "duration_s": 0.2}),  # never answered
            (7, "stimulation", {"duration_s": 0.2}),  # nobody knows whose answer the next is
            (8, "report", {"trial": None, "perceived": True}),
        )
    )
    assert found.trials[0][:5] == pytest.approx((0.9, 2.9, 0.9, 0.2, 0))
    assert found.trials[0].current_ua != found.trials[0].current_ua
    assert found.trials[1] == (2.0, 4.5, 2.0, 2.5, 7, 4.0, True)
    assert len(found.trials) == 2


def test_waits_are_those_of_a_runs_last_plan_in_its_order():
    told_of = [
        (0, "run_started", {}),
        (1, "trigger", {"trial": 0, "waited_s": 9.0}),
        (2, "trigger", {"trial": 0, "waited_s": 1.2344}),  # another plan
        (3, "would_fire", {"trial": 0, "waited_s": 5.0}),
        (4, "trigger", {"trial": 1, "waited_s": 0.5, "sham": True}),
    ]
    assert waits_s(told(*told_of)) == [1.234, 0.5]
    with pytest.raises(OperatorFault, match="run r1: found no trial that came due"):
        waits_s(told(*told_of, (5, "run_started", {})))
    with pytest.raises(OperatorFault, match="no trial"):
        waits_s(told(*told_of), "r9")


def test_waits_of_a_journal_are_what_a_plan_takes(journal, capsys):
    assert run(["journal", "waits", str(journal[0]), "--run", journal[1][0]]) == 0
    waits = json.loads(capsys.readouterr().out)
    assert len(waits) == 3
    plan = PlanSettings(arms=["yoked"], trials_per_arm=4, sham_fraction=0, waits_s=waits).plan(limits())
    assert [plan.wait_s(index, []) for index in range(4)] == [*waits, waits[0]]


def test_a_run_that_is_not_there(journal, tmp_path, capsys):
    pytest.importorskip("pynwb")
    assert run(["journal", "export", str(journal[0]), "--out", str(tmp_path / "x.nwb"), "--run", "r9"]) == 2
    assert "no run r9" in capsys.readouterr().err
    with pytest.raises(Exception, match="no run in it"):
        find_run([])


def test_one_place_for_each_participant():
    linux = {"HOME": "/home/ana"}
    assert default_path("p07", "linux", linux) == Path("/home/ana/.local/state/phosphene/p07.journal")
    assert default_path(None, "linux", {"XDG_STATE_HOME": "/state"}) == Path("/state/phosphene/nobody.journal")
    assert default_path("p07", "darwin", linux) == Path("/home/ana/Library/Application Support/phosphene/p07.journal")
    assert default_path("p07", "win32", {**linux, "LOCALAPPDATA": "/local"}) == Path("/local/phosphene/p07.journal")
    names = [default_path(name, "linux", linux).name for name in ("../p 7", "..-p-7", "a/b", "a_b", "x" * 99)]
    assert len(set(names)) == len(names)
    assert all(default_path(name, "linux", linux).parent.name == "phosphene" for name in ("../../etc/passwd", "/", "."))
    assert default_path("p07").is_absolute()


def test_commands_need_no_clock_and_no_reader():
    import subprocess

    code = (
        "import sys, server.journal.read, server.cli.journal; print('pylsl' in sys.modules, 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
