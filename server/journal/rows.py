"""What a journal is made of: rows, each sealed by a hash of itself and of the row before. Pure.

A row's seal is the SHA-256 of eight lines: seq, run_id, the three times as hexadecimal floats, kind, fields (the JSON
as it is stored) and the seal of the row before; sixty-four zeros before the first. No part holds a line break, so the
lines can be read in one way only. Changing, removing, moving or adding a row breaks the seal of that row or the link of
the next; what the chain cannot show is said in docs/decisions/journal.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson

from models.errors import Fault

KINDS = (
    *("run_started", "run_ended", "unclean_end", "limits", "reserved"),  # written by the journal itself
    *("settings", "bundle", "plan", "connection", "engine", "mask", "conditions", "transition", "inhibited", "fault"),
    *("trigger", "would_fire", "outcome", "stimulation", "report"),
)
COLUMNS = ("seq", "run_id", "t_wall", "t_lsl", "t_mono", "kind", "fields", "prev_sha256", "sha256")
TYPES = (int, str, float, float, float, str, str, str, str)
GENESIS = "0" * 64
LARGEST_FIELDS = 64 * 1024
OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


class JournalFault(Fault):
    """The journal is not what was written: something outside changed it, or the disk did."""


class Entry(NamedTuple):
    """What somebody wants written, and when they said so: wall clock, LSL clock, monotonic clock, in seconds."""

    kind: str
    fields: Mapping[str, object]
    t_wall: float
    t_lsl: float
    t_mono: float


class Row(NamedTuple):
    """A row as it stands in the file. `fields` is JSON with sorted keys; a number in it is finite, or null."""

    seq: int
    run_id: str
    t_wall: float
    t_lsl: float
    t_mono: float
    kind: str
    fields: str
    prev_sha256: str
    sha256: str

    def load(self) -> dict[str, object]:
        """The fields."""
        fields: dict[str, object] = orjson.loads(self.fields)
        return fields


def seal(row: Sequence[object]) -> str:
    """The hash of a row's first eight columns, in hexadecimal."""
    lines = [part.hex() if isinstance(part, float) else str(part) for part in row[:8]]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def encode(fields: Mapping[str, object]) -> str:
    """Fields as JSON. Of what JSON cannot hold, or is too long, a word is told: no caller can stop the journal."""
    try:
        text = orjson.dumps(dict(fields), default=str, option=OPTIONS).decode()
    except Exception as error:  # whatever a caller's objects raise as they are looked at
        text = orjson.dumps({"not_json": ascii(error)[:200]}).decode()
    if len(text) > LARGEST_FIELDS:
        text = orjson.dumps({"too_long": len(text), "begins": text[:1000]}).decode()
    return text


def chain(run_id: str, entries: Iterable[Entry], seq: int, sha256: str) -> list[Row]:
    """The rows that follow on row `seq`, whose seal is `sha256`."""
    rows = []
    for entry in entries:
        seq += 1
        open_row = (seq, run_id, *entry[2:], entry.kind, encode(entry.fields), sha256)
        sha256 = seal(open_row)
        rows.append(Row(*open_row, sha256))
    return rows


def walk(records: Iterable[Sequence[object]], seq: int = 0, sha256: str = GENESIS) -> Iterator[Row]:
    """Records as rows, each checked; the first is to follow on row `seq`, whose seal is `sha256`.

    Raises:
        JournalFault: at the first record that is not the row that was written there.
    """
    for record in records:
        seq += 1
        found = record[0]
        if found != seq:
            raise JournalFault(f"row {seq} is missing; row {found} stands in its place")
        if any(type(value) is not kind for value, kind in zip(record, TYPES, strict=True)) or seal(record) != record[8]:
            raise JournalFault(f"row {seq} was changed: it is not what its seal was made of")
        row = Row(*record)  # type: ignore[arg-type]
        if row.prev_sha256 != sha256:
            raise JournalFault(f"row {seq} does not follow row {seq - 1}: one of them was replaced")
        sha256 = row.sha256
        yield row
