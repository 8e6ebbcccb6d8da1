"""A run of the engine as its journal tells it: what the trigger was told besides the samples, and what it decided.

Pure. Rows of the decode thread stand in the order in which it wrote them; a mask is written by the event loop a moment
later, so its own sample says from when it held. Windows that were skipped are told only while the trigger is armed,
being armed or in shadow: between those times nothing was decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from models.errors import OperatorFault
from server.journal.rows import Row
from streaming.events import Stimulation
from streaming.trigger import Conditions

Fields = dict[str, Any]
HAPPENED = ("engine", "transition", "inhibited")
MARKED = ("time", "sample", "before_sample")  # of a stimulation row, beside the stimulation itself


class Train(NamedTuple):
    """A stimulation that began with `sample`, told before the chain took in `before_sample`."""

    before_sample: int
    sample: int
    stimulation: Stimulation


class Mask(NamedTuple):
    from_sample: int
    masked: tuple[int, ...]  # channels, 1-based in stream order


@dataclass
class Connection:
    """A chain, from its first sample on: a stream began, or another bundle did on the same stream, and then it took
    over `inherited` and `mask` from the connection before. `wall_s`: the time of its first sample by the wall clock."""

    about: Fields
    wall_s: float
    inherited: list[Train] = field(default_factory=list)
    mask: Mask | None = None
    trains: list[Train] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)


class Window(NamedTuple):
    """A prediction that a row tells of: which window it was, how its samples came, and under which conditions."""

    epoch: int
    last_sample: int
    flags: tuple[str, ...]
    conditions: Conditions


@dataclass
class Session:
    """`steps`: what happened, in order. `windows`: by seq of the prediction, where anything changed. `decided`: by seq,
    what fired or would have. `plans`: settings of plans that were asked for. `ended`: why what came after the last step
    cannot be replayed, where it cannot."""

    run_id: str
    steps: list[tuple[str, Fields | Connection]] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    windows: dict[int, Window] = field(default_factory=dict)
    decided: dict[int, Fields] = field(default_factory=dict)
    plans: list[Fields | None] = field(default_factory=list)
    ended: str = ""

    @property
    def last_seq(self) -> int:
        """The last prediction that has a row of its own."""
        return max([-1, *self.windows, *self.decided])


def read_session(rows: Iterable[Row], run_id: str | None = None) -> Session:
    """One run of a journal; the last where none is named.

    Raises:
        OperatorFault: no such run, or one of an engine that did not write down what a replay needs.
    """
    session: Session | None = None
    for row in rows:
        if row.kind == "run_started" and run_id in (None, row.run_id):
            session = Session(row.run_id)
        if session is not None and row.run_id == session.run_id and not session.ended:
            _add(session, row)
    if session is None:
        raise OperatorFault(f"no run {run_id}; phosphene journal tail shows runs" if run_id else "no run in it")
    return session


def _add(session: Session, row: Row) -> None:
    fields: Fields = row.load()
    match row.kind:
        case "connection":
            if "first_row_sha256" not in fields:
                raise OperatorFault(f"run {session.run_id} was written before journals told what a replay needs")
            wall_s = row.t_wall - (row.t_lsl - fields["first_time"])
            session.steps.append((row.kind, _connect(session.connections, fields, wall_s)))
        case "stimulation" if session.connections:
            told = {name: value for name, value in fields.items() if name not in MARKED}
            train = Train(fields["before_sample"], fields["sample"], Stimulation(**told))
            session.connections[-1].trains.append(train)
        case "mask" if session.connections:
            _mask(session.connections, Mask(fields["from_sample"], tuple(fields["masked"])), fields["epoch"])
        case "conditions":
            conditions = Conditions(*(fields[name] for name in Conditions().as_fields()))
            window = Window(fields["epoch"], fields["last_sample"], tuple(fields["flags"]), conditions)
            session.windows[fields["seq"]] = window
        case "trigger" | "would_fire":
            session.decided[fields["seq"]] = {"kind": row.kind, **fields}
        case "settings":
            session.plans += [told["plan"] for told in (fields, fields.get("asked", {})) if "plan" in told]
        case "fault" if fields.get("reason") == "journal_overflow":
            session.ended = f"the journal lost {fields['rows_lost']} rows there"
        case "transition" if fields["reason"].startswith("the trigger failed"):
            session.ended = "the trigger failed there, by a defect of Phosphene"
        case kind if kind in HAPPENED:
            session.steps.append((kind, fields))


def _connect(connections: list[Connection], about: Fields, wall_s: float) -> Connection:
    found = Connection(about, wall_s)
    if connections:
        before = connections[-1]
        found.mask = before.masks[-1] if before.masks else before.mask
        if before.about["epoch"] == about["epoch"]:
            found.inherited = before.inherited + before.trains
    connections.append(found)
    return found


def _mask(connections: list[Connection], mask: Mask, epoch: int | None) -> None:
    """Under the connection that it fell into, which need not be the last; those behind it took it over."""
    place = len(connections) - 1
    while place and epoch is not None and not _holds(connections[place], mask.from_sample, epoch):
        place -= 1
    connections[place].masks.append(mask)
    for later in connections[place + 1 :]:
        later.mask = mask


def _holds(connection: Connection, sample: int, epoch: int) -> bool:
    return bool(connection.about["epoch"] == epoch and connection.about["first_sample"] <= sample)
