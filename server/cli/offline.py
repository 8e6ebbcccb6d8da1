"""Commands that work on files: mua, pretrain, probe, export, decode, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recording = Annotated[Path, typer.Argument(help="NWB, .ns5/.ns6 or XDF.")]
Out = Annotated[Path, typer.Option(help="Where the result goes; never overwritten.")]


def decode(
    recording: Recording,
    out: Out,
    model: Annotated[str | None, typer.Option(help="NAME[@VERSION] of a bundle.")] = None,
) -> None:
    """Decode a recording with the very chain that serves, into a table of predictions."""
    from streaming.offline import decode

    decode(recording, out)


def mua(recording: Recording, out: Out) -> None:
    """The 1 kHz multi-unit envelope of a recording, as NWB."""
    from training.mua import mua

    mua(recording, out)


COMMANDS = (decode, mua)
