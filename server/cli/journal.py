"""phosphene journal: verify, tail, export, replay and take the waits of what an engine wrote down. Also while it
writes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from models.errors import OperatorFault

Journal = Annotated[Path, typer.Argument(help="The journal's file.")]

app = typer.Typer(
    help="Verify, show, export and replay the journal of triggers, stimulations and faults.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.command()
def verify(
    path: Journal,
    seen: Annotated[
        str | None, typer.Option(help="A seal that this command printed earlier: it must be there.")
    ] = None,
) -> None:
    """Check that every row is what was written; names the first that is not."""
    from server.journal.read import verify

    head = verify(path, seen)
    print(f"{path}: {head.rows} rows, each as it was written; seal of the last: {head.sha256}")


@app.command()
def tail(path: Journal, n: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 10) -> None:
    """Show the last rows: number, time (UTC), kind, fields."""
    from server.journal.read import tail

    for row in tail(path, n):
        time = datetime.fromtimestamp(row.t_wall, UTC).isoformat(timespec="milliseconds")
        print(f"{row.seq} {time} {row.run_id} {row.kind} {row.fields}")


@app.command()
def export(
    path: Journal,
    out: Annotated[Path, typer.Option(help="A .parquet file (all rows) or .nwb (trials of one run), not there yet.")],
    run: Annotated[str | None, typer.Option(help="With .nwb: which run; the last where none is named.")] = None,
) -> None:
    """Export the rows as Parquet, or a run's answered stimulations as NWB."""
    from server.journal.export import to_nwb, to_parquet

    if out.suffix == ".parquet":
        print(f"{out}: {to_parquet(path, out)} rows")
    elif out.suffix == ".nwb":
        print(f"{out}: {to_nwb(path, out, run)} trials")
    else:
        raise OperatorFault(f"--out: found {out.name}, expected a name that ends in .parquet or .nwb")


@app.command()
def waits(
    path: Journal,
    run: Annotated[str | None, typer.Option(help="Which run of the journal; the last where none is named.")] = None,
) -> None:
    """Print how long each trial of a run waited, for the yoked arm of another session (`waits_s` of its plan)."""
    from server.journal.export import waits_s
    from server.journal.read import rows

    print(waits_s(rows(path), run))


@app.command()
def replay(
    path: Journal,
    recording: Annotated[Path, typer.Argument(help="Broadband of the session, begun before the service was.")],
    limits: Annotated[list[Path], typer.Option(help="The limits file then; again for each, where it was changed.")],
    run: Annotated[str | None, typer.Option(help="Which run of the journal; the last where none is named.")] = None,
    bundles: Annotated[Path | None, typer.Option(help="Folder of bundles, NAME/VERSION.")] = None,
    stream: Annotated[str | None, typer.Option(help="Which signal, where the recording holds several.")] = None,
) -> int:
    """Decide a recorded session again: triggers, shams, would-fires and reasons must be the journal's, to the bit.

    Exit status 1 where one is not.
    """
    from server.journal.replay_files import replay, show
    from server.settings import load

    found = replay(path, recording, limits, load(None, bundles=bundles).bundles, run, stream)
    print(show(found))
    return int(bool(found.difference))
