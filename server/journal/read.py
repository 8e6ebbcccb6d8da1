"""Reading a journal, also while an engine writes it: every row is checked on its way out."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from models.errors import OperatorFault
from server.journal.rows import COLUMNS, GENESIS, JournalFault, Row, walk

MARK = 0x50686A6C  # application_id of the file
VERSION = 1
LIST = ", ".join(COLUMNS)
LEAST = -(2**63)


class Head(NamedTuple):
    """How many rows were written, and the seal of the last: what to copy elsewhere, to compare with later."""

    rows: int
    sha256: str


def verify(path: Path, seen: str | None = None) -> Head:
    """Check every row, the head and the file's structure. `seen`: a head's seal of an earlier day, still to be there.

    Raises:
        JournalFault: names the first row that is wrong.
        OperatorFault: no file there.
    """
    with _opened(path) as connection:
        known = seen is None
        for row in checked(connection):
            known = known or row.sha256 == seen
        if not known:
            raise JournalFault(f"no row has the seal {seen}: this is another journal, or it was written anew")
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise JournalFault(f"every row holds, but the file around them is damaged ({' '.join(found.split())})")
        return head(connection)


def rows(path: Path) -> Iterator[Row]:
    """Every row, oldest first; raises as `verify`, at the first that is wrong."""
    with _opened(path) as connection:
        yield from checked(connection)


def tail(path: Path, n: int) -> list[Row]:
    """The last `n` rows, oldest first; raises as `verify`."""
    with _opened(path) as connection:
        return list(checked(connection, after=max(0, head(connection).rows - n)))


def head(connection: sqlite3.Connection) -> Head:
    found = connection.execute("SELECT count, sha256 FROM head").fetchall()
    if len(found) != 1 or type(found[0][0]) is not int:
        raise JournalFault("its head, which counts the rows, was changed")
    return Head(*found[0])


def check_mark(connection: sqlite3.Connection) -> None:
    (mark,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    if (mark, version) != (MARK, VERSION):
        raise JournalFault(f"found mark {mark:#x} and version {version}, expected a journal of version {VERSION}")


def decode(text: bytes) -> str:
    """Text as it stands in the file; bytes that are no UTF-8 stay distinguishable, so that a seal can refuse them."""
    return text.decode("utf-8", "surrogateescape")


def checked(connection: sqlite3.Connection, after: int = 0) -> Iterator[Row]:
    """The rows after row `after`, up to what the head says; raises JournalFault."""
    expected = head(connection)
    last = Head(after, GENESIS)
    if after:
        found = connection.execute("SELECT sha256 FROM rows WHERE seq = ?", (after,)).fetchone()
        last = Head(after, found[0] if found else GENESIS)
    start = after + 1 if after else LEAST  # a row that somebody numbered -1 is to be found, too
    try:
        cursor = connection.execute(f"SELECT {LIST} FROM rows WHERE seq >= ? ORDER BY seq", (start,))
        for row in walk(cursor, *last):
            last = Head(row.seq, row.sha256)
            if row.seq > expected.rows:
                raise JournalFault(f"row {row.seq} was added: the head counts {expected.rows}")
            yield row
    except sqlite3.Error as error:
        raise JournalFault(f"row {last.rows + 1} cannot be read ({error})") from error
    if last.rows < expected.rows:
        raise JournalFault(f"row {last.rows + 1} is missing: the head counts {expected.rows}")
    if last != expected:
        raise JournalFault(f"row {last.rows} was replaced: the head says another seal")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """One moment of the file, which nothing here can change. Without a log beside it nobody writes, and reading leaves
    no trace, so that an archive may be read-only."""
    path = Path(os.path.realpath(path))
    if not path.is_file():
        raise OperatorFault(f"{path}: no journal there")
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None)
        with contextlib.closing(connection):
            connection.text_factory = decode
            connection.execute("BEGIN")
            check_mark(connection)
            yield connection
    except (sqlite3.Error, UnicodeDecodeError, JournalFault) as error:  # a column's name may be damaged, too
        raise JournalFault(f"{path}: {error}") from error
