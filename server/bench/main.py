"""`phosphene bench`: each figure beside the host's own noise floor, the machine named, everything in one JSON file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from models.errors import OperatorFault
from server.bench import arrays, fanout, files, hang, large, path, peers, pulse, scale, stages, swap
from server.bench.measure import machine
from server.settings import PACKAGED

ROWS: dict[str, Callable[[float], dict[str, Any]]] = {
    "chain-96": lambda seconds: stages.chain(96),
    "chain-96-10ms": lambda seconds: stages.chain(96, 2000, 10),
    "chain-1024": lambda seconds: stages.chain(1024, 2000),
    "chain-1024-10ms": lambda seconds: stages.chain(1024, 400, 10),
    "robust": lambda seconds: stages.robust(),
    "bundle": lambda seconds: stages.bundle(PACKAGED),
    "participant": lambda seconds: stages.participant(),
    "mua": lambda seconds: files.mua(),
    "loader": lambda seconds: files.loader(),
    "training": lambda seconds: files.training(seconds),
    "startup": lambda seconds: path.startup(),
    "path": lambda seconds: path.path(seconds),
    "pulse": lambda seconds: pulse.pulse(seconds),
    "fanout": lambda seconds: fanout.fanout(),
    "placement": lambda seconds: path.placement(seconds),
    "swap": lambda seconds: swap.swap(),
    "lsl": lambda seconds: scale.lsl_in(seconds),
    "scale": lambda seconds: scale.scale(seconds),
    "hop-1ms": lambda seconds: scale.hop_1ms(seconds),
    "arrays": lambda seconds: arrays.arrays(),
    "hang": lambda seconds: hang.hang(),
    "peers": lambda seconds: peers.peers(seconds),
    "large": lambda seconds: large.large(held_s=max(seconds, large.HELD_S)),
}
ANYHOW = {"scale": scale.scale, "hop-1ms": scale.hop_1ms}  # by whatever provider and precision is asked for
NEEDS_TRAIN = {"mua", "loader", "training", "large", "scale", "hop-1ms"}
UNASKED = [row for row in ROWS if row not in ("peers", "large")]  # the others take what not every machine has


def bench(
    rows: list[str], seconds: float, out: Path | None, with_peers: bool = False, run: scale.Run | None = None
) -> dict[str, Any]:
    """Run the rows that are named, or those of UNASKED, and those `with_peers`; print them, and write them to `out`.
    `run`: the provider and the precision of ANYHOW.

    Raises:
        OperatorFault: no such row, one that runs in its own way alone, or an output that exists.
    """
    if unknown := [row for row in rows if row not in ROWS]:
        raise OperatorFault(f"bench: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if run is not None and (not rows or with_peers or not ANYHOW.keys() >= set(rows)):
        raise OperatorFault(f"bench: --provider and --precision are for {', '.join(ANYHOW)}; name of these alone")
    if out is not None and out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    console = Console(stderr=True)
    found: dict[str, Any] = {"machine": machine(), "rows": {}}
    asked = rows or UNASKED
    for row in [*asked, *(["peers"] if with_peers and "peers" not in asked else [])]:
        try:
            with console.status(row):
                found["rows"][row] = ROWS[row](seconds) if run is None else ANYHOW[row](seconds, run)
                drawn = found["rows"][row].pop("svg", None)
        except ImportError as missing:
            if rows or row not in NEEDS_TRAIN:
                raise OperatorFault(f"bench {row}: {missing}; pip install 'phosphene[train]'") from missing
            console.print(f"{row}: left out, it needs the extra 'train'")
            continue
        console.print(_table(row, found["rows"][row]))
        if drawn and out is not None:
            picture = out.with_name(f"{out.stem}-{row}.svg")
            picture.write_text(drawn)
            console.print(f"written: {picture}")
    if out is not None:
        out.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return found


def _table(title: str, row: dict[str, Any]) -> Table:
    table = Table(title=f"{title}  ({row.get('unit', '')})", title_justify="left")
    for column in ("", "p50", "p99", "p99.9", "max"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value in _flat(row):
        if isinstance(value, dict) and "p50" in value:
            table.add_row(name, *(f"{value[key]:.3g}" for key in ("p50", "p99", "p99.9", "max")))
        elif name != "unit":
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def _flat(row: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in row.items():
        if isinstance(value, dict) and "p50" not in value:
            flat += _flat(value, f"{before}{name}.")
        else:
            flat.append((before + name, value))
    return flat
