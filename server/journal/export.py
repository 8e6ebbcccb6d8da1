"""A journal as other tools read it: all rows as Parquet, one run's trials as NWB (CONTRACT, recordings), its waits."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from models.errors import OperatorFault
from server.journal.read import rows
from server.journal.rows import COLUMNS, Row

ROWS_AT_ONCE = 10_000
TRIAL_COLUMNS = {
    "stim_onset": "seconds from the session's start",
    "stim_duration": "seconds",
    "stim_electrode": "1-based, as printed on the array; 0 where unknown",
    "current_ua": "microamperes",
    "perceived": "the participant's answer",
}


class Trial(NamedTuple):
    """A stimulation that was answered, as a row of the trials table: seconds from the run's start."""

    start_time: float
    stop_time: float
    stim_onset: float
    stim_duration: float
    stim_electrode: int
    current_ua: float
    perceived: bool


@dataclass(slots=True)
class Run:
    """One run of the engine, as far as an NWB file tells of it."""

    started: Row
    about: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)


def find_run(all_rows: Iterable[Row], run_id: str | None = None) -> Run:
    """A run and its answered stimulations; the last run where none is named.

    Times are those of `time` in the stimulation and report rows, on the LSL clock, or of the row where there is none. A
    stimulation without a report is left out: nobody knows whether it was perceived, and the table has no word for that;
    so is what has no trial number, since nothing says which answer is whose.

    Raises:
        OperatorFault: no such run.
    """
    run: Run | None = None
    waiting: dict[Any, tuple[float, dict[str, Any]]] = {}
    for row in all_rows:
        if row.kind == "run_started" and run_id in (None, row.run_id):
            run, waiting = Run(row, row.load()), {}
        if run is None or row.run_id != run.started.run_id or row.kind not in ("stimulation", "report"):
            continue
        fields: dict[str, Any] = row.load()
        if fields.get("trial") is None:
            continue
        time_s = fields.get("time", row.t_lsl) - run.started.t_lsl
        if row.kind == "stimulation":
            waiting[fields["trial"]] = time_s, fields
        elif fields["trial"] in waiting:
            run.trials.append(_trial(*waiting.pop(fields["trial"]), time_s, bool(fields["perceived"])))
    if run is None:
        raise OperatorFault(f"no run {run_id}; phosphene journal tail shows runs" if run_id else "no run in it")
    return run


def _trial(onset_s: float, train: dict[str, Any], told_s: float, perceived: bool) -> Trial:
    return Trial(
        start_time=onset_s,
        stop_time=max(onset_s + train["duration_s"], told_s),
        stim_onset=onset_s,
        stim_duration=train["duration_s"],
        stim_electrode=train.get("electrode") or 0,
        current_ua=math.nan if train.get("current_ua") is None else train["current_ua"],
        perceived=perceived,
    )


def waits_s(all_rows: Iterable[Row], run_id: str | None = None) -> list[float]:
    """How long each trial of a run (the last) waited, shams too, seconds, in the order of its plan; of the last plan,
    where there were several. What the yoked arm of another session is given.

    Raises:
        OperatorFault: no such run, or one without a trial.
    """
    found: str | None = None
    waits: list[float] = []
    for row in all_rows:
        if row.kind == "run_started" and run_id in (None, row.run_id):
            found, waits = row.run_id, []
        elif row.kind == "trigger" and row.run_id == found:
            fields: dict[str, Any] = row.load()
            if fields["trial"] == 0:
                waits = []
            waits.append(round(fields["waited_s"], 3))
    if not waits:
        raise OperatorFault(
            f"run {run_id or found}: found no trial that came due while armed; phosphene journal tail shows runs"
        )
    return waits


def to_parquet(journal: Path, out: Path) -> int:
    """All rows, as they stand in the journal; returns how many.

    Raises:
        OperatorFault: the output exists, or there is no journal.
        JournalFault: a row that is not what was written; nothing is exported then.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = (pa.int64(), pa.string(), pa.float64(), pa.float64(), pa.float64(), *(pa.string(),) * 4)
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    count = 0
    with _whole(out) as partial, pq.ParquetWriter(partial, schema) as writer:
        found = rows(journal)
        while block := list(islice(found, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist([row._asdict() for row in block], schema))
            count += len(block)
    return count


def to_nwb(journal: Path, out: Path, run_id: str | None = None) -> int:
    """The answered stimulations of a run (the last) as a trials table; returns how many. Raises as `to_parquet`."""
    import pynwb

    run = find_run(rows(journal), run_id)
    nwb = pynwb.NWBFile(
        session_description=f"stimulations and reports of run {run.started.run_id}, from its journal",
        identifier=f"{run.started.run_id}-journal",
        session_start_time=datetime.fromtimestamp(run.started.t_wall, UTC),
        session_id=str(run.about.get("session") or run.started.run_id),
    )
    if run.about.get("participant"):
        nwb.subject = pynwb.file.Subject(subject_id=str(run.about["participant"]), description="as the run was told")
    if run.trials:
        for name, description in TRIAL_COLUMNS.items():
            nwb.add_trial_column(name, description)
    for trial in run.trials:
        nwb.add_trial(**trial._asdict())
    with _whole(out) as partial, pynwb.NWBHDF5IO(partial, "w") as io:
        io.write(nwb)
    return len(run.trials)


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A file beside `out` that takes its name at the end: it appears whole or not at all; nothing is overwritten."""
    if out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    if not out.parent.is_dir():
        raise OperatorFault(f"{out}: its folder is not there; make it first")
    partial = out.with_name(f".{out.stem}.{os.getpid()}.partial{out.suffix}")
    try:
        yield partial
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
