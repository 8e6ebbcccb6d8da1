"""Commands of a session with a participant: record, calibrate."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from models.errors import OperatorFault
from server.cli.options import Participant, Session, set_at_signal


def record(
    out: Annotated[Path | None, typer.Option(help="NWB file, not there yet.")] = None,
    source: Annotated[str, typer.Option(help="lsl:PREDICATE of the broadband stream.")] = "lsl:name='UtahArray'",
    events: Annotated[str, typer.Option(help="LSL predicate of the event stream.")] = "name='StimEvents'",
    broadband: Annotated[bool, typer.Option("--broadband", help="Keep the raw samples too: 350 MB a minute.")] = False,
    participant: Participant = None,
    session: Session = None,
    seconds: Annotated[float, typer.Option(min=2, help="End after so long; else at Ctrl-C.")] = float("inf"),
    recover: Annotated[
        Path | None, typer.Option(help="Make the file of S.nwb.part, which a broken recording left.")
    ] = None,
) -> None:
    """Record a session: MUA, trials and, if asked for, broadband, as NWB. Safe against a kill at any moment."""
    if (out is None) == (recover is None):
        raise OperatorFault("expected either --out S.nwb or --recover S.nwb.part")
    if recover is not None:
        from training.record_file import recover as make_file

        print(make_file(recover))
        return
    kind, _, predicate = source.partition(":")
    if kind != "lsl" or not predicate:
        raise OperatorFault(f"--source {source!r}: expected lsl:PREDICATE, such as \"lsl:name='UtahArray'\"")
    from streaming.sources.lsl import LslSource
    from training.record import record

    assert out is not None
    stop = threading.Event()
    set_at_signal(stop)
    lsl = LslSource(predicate, event_predicate=events)
    print(f"waiting for {lsl.looking_for}; Ctrl-C ends", file=sys.stderr, flush=True)
    try:
        said = record(out, lsl, stop, seconds, broadband, participant, session, _tell)
    finally:
        _tell("")
    print(said)


def _tell(line: str) -> None:
    """One line that is written over where someone looks at it; else one of them every second would be a flood."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif line.startswith("recording"):
        print(line, file=sys.stderr, flush=True)


def calibrate(
    recordings: Annotated[list[Path], typer.Argument(help="NWB files of `phosphene record` or `phosphene mua`.")],
    out: Annotated[Path, typer.Option(help="Folder of bundles: the next version is written there.")],
    model: Annotated[str, typer.Option(help="NAME[@VERSION] of the bundle whose encoder is kept.")] = "default",
    participant: Annotated[str | None, typer.Option(help="Who it is, where the recordings do not say.")] = None,
) -> None:
    """Fit both probes of a bundle anew to today's trials, as the bundle's next version."""
    from server.settings import load
    from training.calibrate import calibrate
    from training.calibration_table import show

    show(calibrate(recordings, model, load(None).bundles, out, participant))


COMMANDS = (record, calibrate)
