"""The journal's file: SQLite in WAL mode. `append` is one transaction, and it is on the disk when it returns."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.errors import OperatorFault
from server.journal.lock import Lock
from server.journal.read import LIST, MARK, VERSION, Head, check_mark, checked, decode, head
from server.journal.rows import COLUMNS, GENESIS, Entry, JournalFault, Row, chain

INSERT = f"INSERT INTO rows ({LIST}) VALUES ({', '.join('?' * len(COLUMNS))})"
MOVE_HEAD = "UPDATE head SET count = ?, sha256 = ? WHERE count = ? AND sha256 = ?"
SCHEMA = (
    f"PRAGMA application_id = {MARK}",
    f"PRAGMA user_version = {VERSION}",
    "CREATE TABLE rows (seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, t_wall REAL NOT NULL, t_lsl REAL NOT NULL, "
    "t_mono REAL NOT NULL, kind TEXT NOT NULL, fields TEXT NOT NULL, prev_sha256 TEXT NOT NULL, sha256 TEXT NOT NULL)",
    "CREATE TABLE head (count INTEGER NOT NULL, sha256 TEXT NOT NULL)",
    "CREATE INDEX by_wall ON rows (t_wall)",
    "CREATE INDEX runs ON rows (seq, run_id) WHERE kind = 'run_started'",
    f"INSERT INTO head VALUES (0, '{GENESIS}')",
)


class Store:
    """The file, open for writing by this engine alone. `last` is the newest durable row's number and seal.

    Raises:
        OperatorFault: another engine holds it, or it cannot be made there.
        JournalFault: a file that is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = Path(os.path.realpath(path))  # two names of one file are one journal
        with contextlib.ExitStack() as undo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # what was done to a person is not for everyone
                lock = Lock(path)
            except OSError as error:
                raise OperatorFault(f"journal {path}: {error.strerror}; name another --journal") from error
            undo.callback(lock.release)
            self._file = os.stat(path)
            self._connection = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
            undo.callback(self._connection.close)
            self._connection.text_factory = decode
            with self._told():
                self._prepare()
                self.last = head(self._connection)
            self._held = undo.pop_all()

    def append(self, run_id: str, entries: Sequence[Entry]) -> list[Row]:
        """All of them; or none, where an sqlite3.Error is raised."""
        rows = chain(run_id, entries, *self.last)
        last = Head(rows[-1].seq, rows[-1].sha256)
        if not self._is_there():  # an open file that was removed takes rows, and loses them
            raise sqlite3.OperationalError("the file was moved or removed")
        with self._transaction() as connection:
            connection.executemany(INSERT, rows)
            moved = connection.execute(MOVE_HEAD, (*last, *self.last))
            if moved.rowcount != 1:
                raise sqlite3.IntegrityError("somebody else wrote into the file")
        self.last = last
        return rows

    def since(self, t_wall: float) -> list[Row]:
        """The rows of every run that wrote after `t_wall`, and of the last run.

        Raises:
            JournalFault: one of them is not what was written.
        """
        with self._told():
            one = self._connection.execute
            (first,) = one("SELECT min(seq) FROM rows WHERE t_wall > ?", (t_wall,)).fetchone()
            first = self.last.rows if first is None else first
            found = one("SELECT max(seq) FROM rows WHERE kind = 'run_started' AND seq <= ?", (first,)).fetchone()
            return list(checked(self._connection, after=(found[0] or 1) - 1))

    def has_run(self, run_id: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM rows WHERE kind = 'run_started' AND run_id = ?", (run_id,))
        return found.fetchone() is not None

    def close(self) -> None:
        self._held.close()

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), self._file)
        except OSError:
            return False

    def _prepare(self) -> None:
        execute = self._connection.execute
        fresh = execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if not fresh:
            check_mark(self._connection)
        if execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise JournalFault("its folder cannot hold a write-ahead log (a network disk?)")
        execute("PRAGMA synchronous = FULL")  # in WAL mode: a commit returns when the log has reached the disk
        if fresh:
            with self._transaction():
                for line in SCHEMA:
                    execute(line)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError, JournalFault) as error:
            raise JournalFault(f"journal {self.path}: {error}; leave it as it is and name another --journal") from error
