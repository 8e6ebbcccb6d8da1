"""Commands of the running service: demo, simulate, replay, serve, doctor."""

from __future__ import annotations

import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from models.errors import OperatorFault
from server.cli.options import (
    Config,
    Mode,
    Model,
    Participant,
    Precision,
    Provider,
    Recording,
    Scale,
    Session,
    Stream,
    set_at_signal,
)

Port = Annotated[int | None, typer.Option(help="TCP port. [8000]")]
Seed = Annotated[int, typer.Option(min=0, help="Which simulated participant.")]


class Protocol(StrEnum):
    """The words of streaming.participant.trials.Protocol."""

    rest = "rest"
    psychometric = "psychometric"
    threshold = "threshold"


class Log(StrEnum):
    """The words of server.settings.Settings.log."""

    text = "text"
    json = "json"


class Level(StrEnum):
    """The words of training.simulate.Level."""

    A = "A"
    B = "B"


def serve(
    source: Annotated[
        str | None, typer.Option(help="lsl:PREDICATE, a recording, or simulate. [lsl:name='UtahArray']")
    ] = None,
    events: Annotated[str | None, typer.Option(help="LSL predicate of the event stream. [name='StimEvents']")] = None,
    stream: Stream = None,
    scale_uv: Scale = None,
    model: Model = None,
    provider: Annotated[Provider | None, typer.Option(help="What runs the bundle; this or nothing. [cpu]")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Of its numbers. [auto]")] = None,
    participant: Participant = None,
    session: Session = None,
    limits: Annotated[
        Path | None, typer.Option(help="TOML file of what may ever be asked for (docs/safety.md); without it, nothing.")
    ] = None,
    stimulator: Annotated[
        str | None, typer.Option(help="lsl, serial:PORT, udp:HOST:PORT or simulated, with ?options. [none]")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Where triggers are written down. [one file per participant]")
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="A window every hop, or one after each stimulation. [continuous]")
    ] = None,
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="Any but 127.0.0.1 needs TLS and tokens.")] = None,
    log: Annotated[Log | None, typer.Option(help="For people, or one JSON object a line. [text]")] = None,
    config: Config = None,
) -> None:
    """Predict from a stream, over HTTP, WebSocket and LSL; waits for the stream."""
    import server.wiring
    from server.settings import load

    flags = {
        "source": source,
        "events": events,
        "stream": stream,
        "scale_uv": scale_uv,
        "model": model,
        "provider": provider.value if provider else None,
        "precision": precision.value if precision else None,
        "participant": participant,
        "session": session,
        "limits": limits,
        "stimulator": stimulator,
        "journal": journal,
        "mode": mode.value if mode else None,
        "port": port,
        "host": host,
        "log": log.value if log else None,
    }
    server.wiring.serve(load(config, **flags))


def demo(
    port: Port = None,
    seed: Seed = 0,
    model: Model = None,
) -> None:
    """Simulated participant, service and live page, together."""
    import server.demo

    server.demo.demo(port, seed, model)


def simulate(
    name: Annotated[str, typer.Option(help="Name of the broadband stream.")] = "UtahArray",
    events: Annotated[str, typer.Option(help="Name of the event stream.")] = "StimEvents",
    protocol: Annotated[Protocol, typer.Option(help="What is stimulated.")] = Protocol.threshold,
    seed: Seed = 0,
    day: Annotated[int, typer.Option(min=0, help="Which day: the array drifts.")] = 0,
    session: Annotated[int, typer.Option(min=0, help="Which session of the day.")] = 0,
    rate_hz: Annotated[int, typer.Option(help="Samples per second and channel.")] = 30_000,
    triggers: Annotated[
        str | None,
        typer.Option(help="Name of the trigger stream to obey. [PhospheneTriggers and PhospheneTriggersSimulated]"),
    ] = None,
    faults: Annotated[bool, typer.Option(help="Dead and shorted electrodes, lost packets.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="End after so long.")] = float("inf"),
    given: Annotated[
        Path | None,
        typer.Option(help="A JSON line in this file for each train that a trigger brought, with the truth."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write NWB sessions into this folder instead.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="With --out: how many, one a day.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.1, help="With --out: of each session.")] = 3.5,
    level: Annotated[Level, typer.Option(help="With --out: A the 1 kHz envelope, B broadband.")] = Level.B,
) -> None:
    """Be a rig: a simulated participant over LSL, until Ctrl-C; or, with --out, write its recordings."""
    from streaming.participant.settings import ParticipantSettings
    from streaming.simulated_rig import TRIGGERS, SimulatedRig

    settings = ParticipantSettings(seed=seed, day=day, session=session, rate_hz=rate_hz, faults=faults)
    if out is not None:
        from training.simulate import write_dataset

        if seconds < float("inf"):
            raise OperatorFault(f"--seconds {seconds:g}: ends a stream; of sessions in files say --minutes")
        write_dataset(out, protocol.value, settings, sessions, minutes, level.value, print)
        return
    obeys = TRIGGERS if triggers is None else f"name='{triggers}'"
    rig = SimulatedRig(settings, protocol.value, name, events, obeys, given=given)
    stop = threading.Event()
    set_at_signal(stop)
    rig.run(stop, seconds)
    rig.close()


def replay(
    recording: Recording,
    name: Annotated[str, typer.Option(help="Name of the broadband stream.")] = "UtahArray",
    events: Annotated[str, typer.Option(help="Name of the event stream.")] = "StimEvents",
    speed: Annotated[float, typer.Option(help="1 is real time.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end, after a gap.")] = False,
    stream: Stream = None,
    scale_uv: Scale = None,
    wait: Annotated[bool, typer.Option("--wait", help="Hold the first sample back until someone listens.")] = False,
) -> None:
    """Send a recording out over LSL, as a rig would; says which LSL time its first sample bears."""
    from streaming.replay import replay

    stop = threading.Event()

    def began(lsl_time: float) -> None:
        set_at_signal(stop)  # until here Ctrl-C breaks off, however long a file takes to open
        print(f"{name}: sample 0 at LSL time {lsl_time!r}", file=sys.stderr, flush=True)

    replay(recording, name, speed, loop, stop, stream, scale_uv, events, wait, began=began)


def doctor(
    provider: Annotated[Provider, typer.Option(help="What the bundles' golden vectors are asked on.")] = Provider.cpu,
) -> None:
    """Say whether this machine is fit to serve: versions, LSL, providers, cores, the bundles' golden vectors."""
    import server.doctor

    if not server.doctor.doctor(provider.value):
        raise typer.Exit(1)


COMMANDS = (demo, serve, simulate, replay, doctor)
