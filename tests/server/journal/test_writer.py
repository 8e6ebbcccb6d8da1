"""The journal in the engine: nothing waits, nothing is lost, and it says when it cannot write."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from models.errors import OperatorFault
from server.journal.read import rows, verify
from server.journal.reservations import BLOCK, Reservations
from server.journal.rows import KINDS, Entry, JournalFault
from server.journal.writer import QUEUE, Journal
from streaming.limits import parse_limits
from tests.server.journal.fakes import (
    LIMITS_TOML,
    TRAIN_UC,
    Disk,
    FakeClocks,
    limits,
    lived_in,
    outcome,
    taken,
    trigger,
    until,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "p07.journal"


def told(path):
    return [(row.kind, row.load()) for row in rows(path)]


def test_rows_are_stamped_when_they_are_said_and_kept_in_order(path):
    clock = FakeClocks()
    journal = Journal(path, {"participant": "p07"}, clocks=clock.clocks(), run_id="r1")
    for n in range(1000):
        assert journal.write("fault", {"n": n})
        clock.pass_(0.001)
    assert journal.close()
    assert verify(path).rows == 1002
    found = list(rows(path))
    assert [row.load()["n"] for row in found[1:-1]] == list(range(1000))
    assert {row.run_id for row in found} == {"r1"}
    assert {row.kind for row in found} <= set(KINDS)
    third = found[3]
    assert (third.t_wall, third.t_lsl, third.t_mono) == pytest.approx((1_800_000_000.002, 500.002, 90.002))
    assert (found[0].kind, found[0].load()) == ("run_started", {"participant": "p07"})
    assert found[-1].kind == "run_ended"


def test_writing_wakes_nobody_unless_it_is_durable(path):
    disk = Disk()
    journal = Journal(path, store=disk.store)
    journal.write("fault", {})
    journal.write("fault", {})
    journal.write("fault", {}, durable=True)
    assert until(lambda: journal.statistics().rows == 4)
    assert sum(len(kinds) for kinds in disk.transactions[1:]) == 3
    journal.write("report", {})  # in company, which comes within 50 ms
    assert until(lambda: journal.statistics().rows == 5)
    journal.close()


def test_no_call_waits_while_the_disk_hangs(path):
    disk = Disk()
    journal = Journal(path, limits=limits(), store=disk.store)
    disk.free.clear()
    journal.write("fault", {}, durable=True)
    began = time.perf_counter()
    for _ in range(1000):
        journal.write("fault", {})
        journal.take_id()
        _ = journal.healthy, journal.statistics()
    assert time.perf_counter() - began < 1.0
    assert until(lambda: not journal.healthy)
    disk.free.set()
    assert until(lambda: journal.healthy)
    assert journal.close()
    assert verify(path).rows == len(list(rows(path)))


def test_healthy_until_a_row_has_waited_for_250_ms(path):
    disk, clock = Disk(), FakeClocks()
    journal = Journal(path, store=disk.store, clocks=clock.clocks())
    assert journal.healthy
    disk.free.clear()
    journal.write("fault", {}, durable=True)
    clock.pass_(0.2499)
    assert journal.healthy
    clock.pass_(0.0002)
    assert not journal.healthy
    disk.free.set()
    assert until(lambda: journal.healthy)
    journal.close()
    assert not journal.healthy
    assert not journal.write("fault", {})


def test_a_full_disk_loses_nothing_and_needs_no_restart(path):
    disk = Disk()
    journal = Journal(path, limits=limits(), store=disk.store)
    disk.fill()
    began = time.monotonic()
    for n in range(20):
        assert journal.write("fault", {"n": n}, durable=True)
    assert until(lambda: not journal.healthy)
    assert time.monotonic() - began < 1.0  # the first transaction tells; a busy machine may be slow to run it
    found = journal.statistics()
    assert (found.rows, found.healthy) == (3, False)
    assert "full" in found.problem
    assert until(lambda: journal.statistics().failures > 1)
    disk.error = None
    assert until(lambda: journal.healthy and journal.statistics().waiting == 0)
    assert journal.close()
    verify(path)
    assert [fields["n"] for kind, fields in told(path) if kind == "fault"] == list(range(20))


FULL = """
import sys, time
from pathlib import Path
from server.journal.writer import Journal
from server.journal.read import rows, verify
from tests.server.journal.fakes import limits, until

folder = Path(sys.argv[1])
journal = Journal(folder / "p07.journal", limits=limits())
ballast = folder / "ballast"
try:
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
n, took = 0, []
def say():
    global n
    began = time.monotonic()
    n += journal.write("fault", {"n": n, "text": "x" * 2000})
    took.append(time.monotonic() - began)
while "full" not in journal.statistics().problem:  # until what SQLite had at hand is used up
    say()
    time.sleep(0.002)
    assert n < 5000
for _ in range(10):
    say()
assert sorted(took)[len(took) // 2] < 0.01 and max(took) < 5.0  # it does not wait for the disk, which stays full
assert "full" in journal.statistics().problem, journal.statistics()
ballast.unlink()
assert until(lambda: journal.healthy and journal.statistics().waiting == 0), journal.statistics()
assert journal.close()
verify(folder / "p07.journal")
assert [row.load()["n"] for row in rows(folder / "p07.journal") if row.kind == "fault"] == list(range(n))
print("recovered")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tmpfs is Linux's")
def test_a_tmpfs_of_a_megabyte(tmp_path):
    """A real disk, really full: in a mount namespace of its own, which ends with the process."""
    inside = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$SCRIPT" "{tmp_path}"'
    begin = ["unshare", "--mount", "--map-root-user", "--user"]
    if subprocess.run([*begin, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "SCRIPT": FULL, "PYTHONPATH": str(root)}
    done = subprocess.run([*begin, "sh", "-c", inside], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout == "recovered\n", done.stderr


def test_a_full_queue_refuses_and_says_so_later(path):
    disk = Disk()
    journal = Journal(path, store=disk.store)
    disk.free.clear()
    written = sum(journal.write("fault", {"n": n}) for n in range(QUEUE + 50))
    assert QUEUE <= written < QUEUE + 50
    assert not journal.healthy
    assert journal.statistics().refused == QUEUE + 50 - written
    disk.free.set()
    assert until(lambda: journal.healthy and journal.statistics().waiting == 0)
    assert journal.close(timeout_s=20)
    overflow = [fields for kind, fields in told(path) if kind == "fault" and "reason" in fields]
    assert overflow == [{"reason": "journal_overflow", "rows_lost": QUEUE + 50 - written}]


# Ids ------------------------------------------------------------------------------------------------------------------


def test_ids_are_on_the_disk_before_they_can_be_taken(path):
    disk = Disk()
    journal = Journal(path, limits=limits(), store=disk.store, run_id="r1")
    assert journal.ids_left == BLOCK
    disk.free.clear()
    ids = [journal.take_id() for _ in range(BLOCK)]
    assert ids == [f"r1-{n}" for n in range(1, BLOCK + 1)]
    assert until(lambda: journal.take_id() is None, 0.2)  # nothing is written, so nothing can be taken
    assert journal.take_id() is None
    disk.free.set()
    ids += [taken(journal) for _ in range(3 * BLOCK)]
    assert ids == [f"r1-{n}" for n in range(1, 4 * BLOCK + 1)]
    journal.close()
    reserved = [one for kind, fields in told(path) if kind == "reserved" for one in fields["ids"]]
    assert reserved[: len(ids)] == ids


def test_a_block_follows_when_half_of_one_is_left(path):
    ids = Reservations("r1")
    ids.durable([Entry("limits", {"largest_train_uc": 0.2}, 0.0, 0.0, 0.0)])
    first = ids.due()
    assert first == {"ids": [f"r1-{n}" for n in range(1, BLOCK + 1)], "largest_train_uc": 0.2}
    assert ids.take() is None  # not on the disk yet, and asked again it is the same block
    assert ids.due() == first
    ids.durable([Entry("reserved", first, 0.0, 0.0, 0.0)])
    for _ in range(BLOCK // 2 - 1):
        ids.take()
        assert ids.due() is None
    ids.take()
    assert ids.due()["ids"][0] == f"r1-{BLOCK + 1}"
    journal = Journal(path, limits=limits())
    for _ in range(BLOCK // 2):
        journal.take_id()
    assert until(lambda: journal.ids_left == BLOCK // 2 + BLOCK)
    journal.close()


def test_without_limits_nothing_is_reserved(path):
    journal = Journal(path)
    assert journal.take_id() is None
    journal.write("limits", {"name": "not by use_limits"})
    assert journal.use_limits(limits())
    first = taken(journal)
    assert first == f"{journal.run_id}-1"
    journal.close()
    assert journal.take_id() is None
    kinds = [kind for kind, _ in told(path)]
    assert kinds.index("reserved") > kinds.index("limits")
    ended = told(path)[-1][1]
    assert ended["unused"] == [f"{journal.run_id}-{n}" for n in range(2, len(ended["unused"]) + 2)]


def test_the_dearest_train_is_that_of_any_limits_of_the_run_as_the_device_rounds_it(path):
    journal = Journal(path, limits=limits(), device_steps=(3.0, 100.0))
    smaller = parse_limits(LIMITS_TOML.replace(b"[5.0, 10.0]", b"[5.0]"))
    journal.use_limits(smaller)
    until(lambda: journal.statistics().rows == 4)
    journal.take_id()
    journal.close()
    told_uc = [fields["largest_train_uc"] for kind, fields in told(path) if kind == "limits"]
    assert told_uc == pytest.approx([9.0 * 200e-6 * 50, 6.0 * 200e-6 * 50])
    again = Journal(path)
    assert again.ledger.charge_unknown_uc == pytest.approx(9.0 * 200e-6 * 50)
    again.close()


def test_a_clean_end_accounts_for_every_id(path):
    journal = Journal(path, limits=limits())
    fired, shadow, lost = taken(journal), taken(journal), taken(journal)
    journal.write("trigger", trigger(fired))
    journal.write("outcome", outcome(fired))
    journal.write("would_fire", trigger(shadow))
    assert journal.close()
    found = told(path)
    assert [(f["trigger_id"], f["result"]) for kind, f in found if kind == "outcome"] == [
        (fired, "delivered"),
        (lost, "unknown"),
    ]
    reserved = {one for kind, fields in found if kind == "reserved" for one in fields["ids"]}
    assert reserved == {fired, shadow, lost, *found[-1][1]["unused"]}


def test_an_unclean_end_counts_every_id_as_delivered(path):
    disk = Disk()
    journal = Journal(path, limits=limits(), store=disk.store)
    one = taken(journal)
    journal.write("trigger", trigger(one, 35), durable=True)
    assert until(lambda: journal.statistics().rows == 4)
    disk.fill()  # and it never ends
    journal.write("outcome", outcome(one))
    assert not journal.close(timeout_s=0.2)
    again = Journal(path, limits=limits())
    assert again.ledger.charge_today_uc == pytest.approx({35: TRAIN_UC})
    assert again.ledger.charge_unknown_uc == pytest.approx((BLOCK - 1) * TRAIN_UC)
    assert len(again.ledger.recent) == 1 + BLOCK
    again.close()
    found = told(path)
    ends = [fields for kind, fields in found if kind == "unclean_end"]
    assert [len(end["ids"]) for end in ends] == [BLOCK]
    assert ends[0]["of_run"] == journal.run_id
    assert len([1 for kind, _ in found if kind == "outcome"]) == BLOCK


# Opening and closing --------------------------------------------------------------------------------------------------


def test_a_second_engine_is_refused_until_the_first_has_gone(path, tmp_path):
    journal = Journal(path)
    link = tmp_path / "same.journal"
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(OperatorFault, match=rf"another engine writes it \(process {os.getpid()}\); stop that one"):
            Journal(name)
    journal.close()
    Journal(link).close()


def test_the_lock_ends_with_its_process(path):
    script = f"from server.journal.writer import Journal; Journal({str(path)!r}); import os; os._exit(9)"
    script = script.replace("Journal('", "Journal(__import__('pathlib').Path('").replace(
        "'); import os", "')); import os"
    )
    subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).resolve().parents[3])
    assert (path.parent / f"{path.name}.lock").exists()
    journal = Journal(path)
    assert journal.ledger.pulses_ago() == ((0.0, None, 0.0),)  # an unclean end is a stimulation just now
    journal.close()


def test_a_run_is_begun_once(path):
    Journal(path, run_id="r1").close()
    with pytest.raises(OperatorFault, match="holds run r1 already"):
        Journal(path, run_id="r1")
    Journal(path, run_id="r2").close()


def test_a_place_that_cannot_hold_one(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "p07.journal", tmp_path):
        with pytest.raises(OperatorFault, match="name another --journal"):
            Journal(path)
    disk = Disk()
    disk.fill()
    with pytest.raises(OperatorFault, match="database or disk is full; make room"):
        Journal(tmp_path / "full.journal", store=disk.store)
    connect = sqlite3.connect  # a file system without shared memory, as SQLite sees one
    monkeypatch.setattr(sqlite3, "connect", lambda at, **how: connect(f"file:{at}?vfs=unix-none", uri=True, **how))
    with pytest.raises(JournalFault, match="a network disk"):
        Journal(tmp_path / "there.journal")


def test_only_its_owner_can_read_it(path):
    Journal(path).close()
    assert path.stat().st_mode & 0o077 == 0


def test_a_journal_that_was_moved_away_is_noticed(path):
    journal = Journal(path)
    path.rename(path.with_suffix(".gone"))
    journal.write("fault", {}, durable=True)
    assert until(lambda: "moved or removed" in journal.statistics().problem)
    assert not journal.healthy
    path.with_suffix(".gone").rename(path)
    assert until(lambda: journal.healthy)
    assert journal.close()


def test_somebody_else_s_row_is_noticed(path):
    journal = Journal(path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE head SET sha256 = 'other'")
    connection.close()
    journal.write("fault", {}, durable=True)
    assert until(lambda: "somebody else" in journal.statistics().problem)
    assert not journal.close(timeout_s=0.1)


def test_close_gives_up_on_a_disk_that_hangs(path):
    disk = Disk()
    journal = Journal(path, store=disk.store)
    disk.free.clear()
    journal.write("fault", {})
    began = time.monotonic()
    assert not journal.close(timeout_s=0.1)
    assert time.monotonic() - began < 2.0
    disk.free.set()


def test_close_waits_for_a_disk_that_comes_back(path):
    disk = Disk()
    journal = Journal(path, store=disk.store)
    disk.fill()
    journal.write("fault", {})
    threading.Timer(0.3, lambda: setattr(disk, "error", None)).start()
    assert journal.close(timeout_s=10.0)
    verify(path)


def test_a_fault_of_ours_in_the_writer_shows(path):
    disk = Disk()
    journal = Journal(path, store=disk.store)
    disk.error = ZeroDivisionError("a bug")
    journal.write("fault", {}, durable=True)
    assert until(lambda: not journal.healthy)
    assert not journal.close()
    disk.error = None
    Journal(path).close()  # it let go


def test_a_row_costs_the_decode_thread_microseconds(path):
    journal = Journal(path, limits=limits())
    spent = []
    for _ in range(2000):
        began = time.perf_counter_ns()
        journal.write("inhibited", {"THRESHOLD": 1})
        spent.append(time.perf_counter_ns() - began)
    journal.close()
    assert sorted(spent)[len(spent) // 2] < 50_000


def test_lives_of_many_runs_chain(path):
    clock = FakeClocks()
    runs = [lived_in(path, clock, 1) for _ in range(4)]
    assert len({*runs}) == 4
    found = list(rows(path))
    assert [row.run_id for row in found if row.kind == "run_started"] == runs
