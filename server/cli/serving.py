"""Commands of the running service: demo, simulate, replay, serve, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="TOML file of settings; flags and PHOSPHENE__… come before it.")]
Port = Annotated[int | None, typer.Option(help="TCP port on 127.0.0.1.")]
Model = Annotated[str | None, typer.Option(help="NAME[@VERSION] of a bundle.")]


def serve(
    source: Annotated[
        str | None, typer.Option(help="lsl:PREDICATE, a recording, or simulate. [lsl:name='UtahArray']")
    ] = None,
    model: Model = None,
    participant: Annotated[str | None, typer.Option(help="Who is connected, where the stream does not say.")] = None,
    session: Annotated[str | None, typer.Option(help="Name of the session, where the stream does not say.")] = None,
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="127.0.0.1; any other is refused.")] = None,
    config: Config = None,
) -> None:
    """Predict from a stream, over HTTP, WebSocket and LSL; waits for the stream."""
    import server.wiring
    from server.settings import load

    flags = {
        "source": source,
        "model": model,
        "participant": participant,
        "session": session,
        "port": port,
        "host": host,
    }
    server.wiring.serve(load(config, **flags))


def demo(
    port: Port = None,
    seed: Annotated[int, typer.Option(help="Which simulated participant.")] = 0,
    model: Model = None,
) -> None:
    """Simulated participant, service and live page, together."""
    import server.demo

    server.demo.demo(port, seed, model)


def doctor() -> None:
    """Say whether this machine is fit to serve: versions, LSL, providers, cores, the bundles' golden vectors."""
    import server.doctor

    if not server.doctor.doctor():
        raise typer.Exit(1)


COMMANDS = (demo, serve, doctor)
