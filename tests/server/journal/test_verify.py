"""Whatever is done to a journal behind its back, verify names the first row that is wrong."""

import contextlib
import shutil
import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import OperatorFault
from server.journal.read import Head, head, rows, tail, verify
from server.journal.rows import COLUMNS, GENESIS, JournalFault, Row, seal
from server.journal.writer import Journal
from tests.server.journal.fakes import FakeClocks, lived_in

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
CASES = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=SLOW)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "p07.journal"
    clock = FakeClocks()
    lived_in(path, clock)
    lived_in(path, clock, pulses=1)
    return path


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copy(original, tmp_path / "copy.journal")


def edited(original, copy, sql, *values):
    shutil.copy(original, copy)
    connection = sqlite3.connect(copy)
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    with connection:
        for line in sql.split(";"):
            connection.execute(line, values if "?" in line else ())
    connection.close()


def test_a_whole_journal_says_so(original):
    found = verify(original)
    everything = list(rows(original))
    assert found == Head(len(everything), everything[-1].sha256)
    assert [row.seq for row in everything] == list(range(1, found.rows + 1))
    assert tail(original, 5) == everything[-5:]
    assert tail(original, 10_000) == everything
    assert verify(original, seen=everything[7].sha256) == found


def test_a_journal_that_was_written_anew_is_known_by_a_seal_kept_elsewhere(original, tmp_path):
    other = tmp_path / "other.journal"
    lived_in(other, FakeClocks())
    verify(other)
    with pytest.raises(JournalFault, match="no row has the seal"):
        verify(other, seen=verify(original).sha256)


def test_it_is_read_while_an_engine_writes(tmp_path):
    path = tmp_path / "live.journal"
    journal = Journal(path)
    assert verify(path).rows == 1
    assert [row.kind for row in tail(path, 3)] == ["run_started"]
    journal.close()


def test_no_file_is_called_wrongly(tmp_path):
    with pytest.raises(OperatorFault, match="no journal there"):
        verify(tmp_path / "none.journal")


@CASES
@given(data=st.data())
def test_any_change_of_a_row_is_found(original, copy, data):
    everything = list(rows(original))
    row = data.draw(st.sampled_from(everything))
    column = data.draw(st.sampled_from(range(1, 9)), label="column")
    value = row[column]
    if isinstance(value, float):
        other = data.draw(st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != value))
    else:
        at = data.draw(st.integers(0, len(value) - 1))
        letter = data.draw(st.characters(min_codepoint=1, max_codepoint=255).filter(lambda x: x != value[at]))
        other = value[:at] + letter + value[at + 1 :]
    resealed = data.draw(st.booleans(), label="resealed") and column < 7
    changed = Row(*row[:column], other, *row[column + 1 :])
    if resealed:  # as one would who knows how it is made
        changed = changed._replace(sha256=seal(changed))
    assignments = ", ".join(f"{name} = ?{i}" for i, name in enumerate(COLUMNS, 1))
    edited(original, copy, f"UPDATE rows SET {assignments} WHERE seq = ?1", *changed)
    last = row.seq == len(everything)
    wrong = row.seq + 1 if resealed and not last else row.seq
    with pytest.raises(JournalFault, match=f"row {wrong} "):
        verify(copy)


@CASES
@given(data=st.data())
def test_deleted_inserted_swapped_and_cut_rows_are_found(original, copy, data):
    n = verify(original).rows
    at = data.draw(st.integers(1, n), label="row")
    how = data.draw(st.sampled_from(["deleted", "cut", "cut with its head", "swapped", "inserted", "before", "added"]))
    wrong = at
    if how == "deleted":
        edited(original, copy, "DELETE FROM rows WHERE seq = ?", at)
    elif how == "cut":
        edited(original, copy, "DELETE FROM rows WHERE seq >= ?", at)
    elif how == "cut with its head":  # its count alone; with both it would be a shorter journal: see `seen`
        edited(original, copy, "DELETE FROM rows WHERE seq >= ?1; UPDATE head SET count = ?1 - 1", at)
        wrong = at - 1
    elif how == "swapped":
        other = data.draw(st.integers(1, n).filter(lambda x: x != at))
        moves = ((at, -9), (other, at), (-9, other))
        edited(original, copy, "; ".join(f"UPDATE rows SET seq = {to} WHERE seq = {of}" for of, to in moves))
        wrong = min(at, other)
    elif how == "inserted":
        edited(
            original,
            copy,
            f"UPDATE rows SET seq = -seq - 1 WHERE seq >= {at}; UPDATE rows SET seq = -seq WHERE seq < 0;"
            f"INSERT INTO rows SELECT {at}, {', '.join(COLUMNS[1:])} FROM rows WHERE seq = {at + 1}",
        )
        wrong = at + 1  # row `at` stands there twice
    elif how == "before":
        number = data.draw(st.integers(-(2**63), 0))
        edited(original, copy, f"INSERT INTO rows SELECT ?, {', '.join(COLUMNS[1:])} FROM rows WHERE seq = 1", number)
        wrong = 1
    else:
        last = list(rows(original))[-1]
        more = last._replace(seq=n + 1, prev_sha256=last.sha256)
        more = more._replace(sha256=seal(more))
        edited(original, copy, f"INSERT INTO rows VALUES ({', '.join('?' * 9)})", *more)
        wrong = n + 1
    with pytest.raises(JournalFault, match=f"row {wrong} "):
        verify(copy)


@CASES
@given(data=st.data())
def test_any_byte_of_the_file(original, copy, data):
    """A changed byte is found, or it stands where nothing is read from."""
    content = bytearray(original.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1), label="byte")
    content[at] ^= data.draw(st.integers(1, 255), label="bits")
    copy.write_bytes(content)
    try:
        assert verify(copy) == verify(original)
        assert list(rows(copy)) == list(rows(original))
    except JournalFault as fault:
        assert str(copy) in str(fault)  # noqa: PT017


def test_any_letter_of_the_schema(original, copy):
    """Also those that make a column's name no UTF-8."""
    content = original.read_bytes()
    for at in (at for at in range(2000, 4096) if content[at]):
        copy.write_bytes(content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :])
        with contextlib.suppress(JournalFault):
            assert verify(copy) == verify(original)


def test_any_page_of_the_file(original, copy):
    """As a disk loses them."""
    content = original.read_bytes()
    found = []
    for at in range(0, len(content), 4096):
        copy.write_bytes(content[:at] + bytes(4096) + content[at + 4096 :])
        with pytest.raises(JournalFault) as fault:
            verify(copy)
        found.append(str(fault.value))
    assert any("cannot be read" in line for line in found)


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM head", "INSERT INTO head SELECT * FROM head", "UPDATE head SET count = 'all'", "DROP TABLE head"],
)
def test_a_changed_head_is_found(original, copy, sql):
    edited(original, copy, sql)
    with pytest.raises(JournalFault, match="head"):
        verify(copy)


def test_an_emptied_journal_is_found(original, copy):
    edited(original, copy, "DELETE FROM rows")
    with pytest.raises(JournalFault, match="row 1 is missing"):
        verify(copy)
    with pytest.raises(JournalFault, match="row 1 is missing"):
        Journal(copy)
    with pytest.raises(JournalFault, match="is missing"):
        tail(copy, 3)


def test_a_damaged_index_is_found(original, copy):
    connection = sqlite3.connect(copy)
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'by_wall'").fetchone()
    with connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute(
            "UPDATE sqlite_master SET sql = ? WHERE name = 'by_wall'", (sql.replace("t_wall", "t_mono"),)
        )
    connection.close()
    with pytest.raises(JournalFault, match="every row holds, but"):
        verify(copy)


def test_an_engine_refuses_a_journal_that_does_not_hold(original, copy):
    before = copy.read_bytes()
    edited(original, copy, "UPDATE rows SET t_wall = t_wall + 1 WHERE seq = 5")
    with pytest.raises(JournalFault, match=r"row 5 was changed.*name another --journal"):
        Journal(copy, clocks=FakeClocks().clocks())
    copy.write_bytes(before)
    Journal(copy, clocks=FakeClocks().clocks()).close()  # and let go of it


def test_other_files_are_no_journals(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("electrode 34 hurts\n" * 100)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    with connection:
        connection.execute("CREATE TABLE rows (seq INTEGER)")
    connection.close()
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(JournalFault, match=path.name):
            verify(path)
        with pytest.raises(JournalFault, match=path.name):
            Journal(path)
        assert path.read_bytes() == before


def test_head_of_a_new_journal(tmp_path):
    path = tmp_path / "new.journal"
    Journal(path).close()
    connection = sqlite3.connect(path)
    assert head(connection).rows == 2
    assert head(connection).sha256 != GENESIS
    connection.close()
