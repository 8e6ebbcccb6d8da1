"""Who creates what: from settings to a service that runs until it is told to stop."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pylsl
import uvicorn

from models.errors import OperatorFault, RigFault
from models.onnx_decoder import OnnxDecoder
from server.app import create_app
from server.array_settings import FIRST
from server.arrays import NOBODY, Others, named
from server.aside import log_aside, log_of
from server.bundles import Bundles
from server.closed_loop import open_loop
from server.json_lines import JsonLines
from server.service import Service
from server.settings import LOOPBACK, Settings
from server.tls import check_tls
from server.tokens import Tokens, open_tokens
from server.wire import Wire
from streaming.chunk import Source
from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings
from streaming.participant.source import SimulatedSource
from streaming.placement import Placement
from streaming.predictions import Prediction
from streaming.sinks.prediction_outlet import NAME, PredictionOutlet
from streaming.sources.lsl import LslSource
from streaming.sources.recording import open_recording

log = logging.getLogger("phosphene")
# Python hands the interpreter lock over at most this often; the default of 5 ms would show in the decode thread's p99
SWITCH_INTERVAL_S = 2e-4
PING_S = 5.0  # between pings, and for the answer: a client behind a cable that was pulled is let go within both
GIVEN_UP_S = 1.0  # for what is left to do once the decode thread hangs for good


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Everything that can be refused is refused before the first thread starts.

    Raises:
        Fault: a port in use, a bundle that does not hold, a recording that is not there; an inference that hangs.
    """
    lines = JsonLines() if settings.log == "json" else None
    log_aside(lines)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it, at any moment
        _serve(settings, lines)


def _serve(settings: Settings, lines: JsonLines | None) -> None:
    tokens = open_tokens(settings)
    if settings.tls_cert and settings.tls_key:
        check_tls(settings.tls_cert, settings.tls_key)
    bundles = Bundles(settings.bundles, settings.provider, settings.precision)
    listener = listen(settings.host, settings.port)
    with contextlib.closing(listener), contextlib.ExitStack() as opened:
        port = listener.getsockname()[1]
        first = _open(settings, bundles, opened)
        others = {name: _open(settings.of(name), bundles, opened, first, name) for name in settings.arrays}
        if lines is not None:
            lines.run_id = first.run_id
            logging.captureWarnings(True)  # those of libraries are lines, too
        for name, service in named(first, others).items():
            _tell_begun(service, name, port, tokens, lines)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.collect()
        gc.freeze()  # what was loaded so far lives for ever; the collector need not look at it again
        server = make_server(first, port, tokens, others)
        for service in (first, *others.values()):  # one that hangs ends all: they are one process
            service.give_up = lambda: setattr(server, "should_exit", True)
        try:
            server.run(sockets=[listener])  # a signal ends it in order, and is then raised again
        finally:
            opened.close()
            because = "; ".join(service.dead for service in (first, *others.values()) if service.dead)
            why = f" because {because}" if because else ""  # said here: what is said later may come too late to be read
            log.info("the service has ended%s", why, extra={"event": "ended", "fields": {"because": because}})
    for name, service in named(first, others).items():
        if service.dead:
            _end_soon()
            raise RigFault(f"array {name}: {service.dead}" if others else service.dead)


def _open(
    settings: Settings, bundles: Bundles, opened: contextlib.ExitStack, first: Service | None = None, name: str = ""
) -> Service:
    """The service of one array; `opened` closes what it opens. Raises as `serve`."""
    service, close = build(settings, bundles, bundles.open(settings.model), first, name)
    opened.callback(close)
    return service


def _tell_begun(service: Service, name: str, port: int, tokens: Tokens | None, lines: JsonLines | None) -> None:
    """On the terminal, or as a line for programs."""
    decoder, source = service.decoder, service.settings.source
    settings = service.settings
    where = f"{'https' if settings.tls_cert else 'http'}://{settings.host}:{port}"
    where += "" if name == FIRST else f"/arrays/{name}/"
    begun = f"{'Phosphene' if name == FIRST else f'array {name}'} on {where}, "
    begun += f"model {decoder.name} ({decoder.choice}), source {source}"
    begun += "" if tokens is None else f", tokens of {tokens.path}"
    if lines is None:
        print(begun, file=sys.stderr, flush=True)
        return
    fields = {"port": port, "model": decoder.name, "source": source, "process": os.getpid()}
    service.log.info(begun, extra={"event": "started", "fields": fields})


def make_server(service: Service, port: int, tokens: Tokens | None = None, others: Others = NOBODY) -> uvicorn.Server:
    """The HTTP server of a service that is bound to `port`, and of further arrays beside it; `tokens` as for
    `create_app`."""
    settings = service.settings
    return _Server(
        [service, *others.values()],
        uvicorn.Config(
            create_app(service, port, tokens, others),
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            proxy_headers=False,  # who asks is told by the connection, not by what a request says of itself
            loop="asyncio",  # with uvloop a frame leaves 0.1 ms later (docs/performance.md)
            ws=Wire,
            ws_per_message_deflate=False,
            ws_max_size=16 * 1024,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            log_config=None,
            access_log=False,
            server_header=False,
        ),
    )


class _Server(uvicorn.Server):
    """Told to end, it makes the services safe first, the one with the trigger before the others; only then are clients
    sent away. Who has not read what was sent before cannot be told why: that connection is cut."""

    def __init__(self, services: Sequence[Service], config: uvicorn.Config) -> None:
        super().__init__(config)
        self._services = services

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for service in self._services:
            await service.make_safe()
        await super().shutdown(sockets)
        for left in list(self.server_state.connections):
            if left.transport is not None:
                left.transport.abort()


def build(
    settings: Settings, bundles: Bundles, decoder: OnnxDecoder, first: Service | None = None, name: str = ""
) -> tuple[Service, Callable[[], None]]:
    """The service around a source, a bundle and the sinks, not started yet; and what to call after its end. A further
    array has a `name`, and stands beside the `first`, whose trigger is the only one."""
    placement = Placement(settings.decode_core, settings.decode_priority)
    placement.check()
    source = open_source(settings)
    loop = open_loop(
        settings,
        {"model": decoder.name, "bundle_sha256": decoder.manifest.manifest_sha256, "mode": settings.mode},
        deliver=source.deliver if isinstance(source, SimulatedSource) else lambda *_: True,
        happened=lambda kind, fields: service.trigger_happened(kind, fields),
    )
    trigger = first.gate if first else loop.gate
    outlet = PredictionOutlet(f"{NAME}-{name}" if name else NAME) if settings.outlet else None

    def tell(prediction: Prediction) -> None:
        shown = trigger.shown(prediction)
        service.hand_over(shown)  # first: while the outlet sends, the event loop already writes to its clients
        if outlet is not None:
            outlet.push(shown)

    def revoke(first_sample: int, last_sample: int) -> None:
        loop.gate.withdrawn()  # first: nothing may be decided on what is withdrawn
        service.marked_late(first_sample, last_sample)

    live = LiveDecoder(
        source,
        decoder,
        LiveSettings(settings.mode, settings.hop_s, settings.participant, placement, settings.keep_warm_s),
        [tell],
        revoke=revoke,
        marked=lambda seen: service.marked(seen),
        decide=loop.gate.predict,
        began=loop.gate.decoding,
        log=log_of(name),
    )
    looking_for = source.looking_for if isinstance(source, LslSource) else ""
    service = Service(live, decoder, settings, bundles, time.monotonic, looking_for, loop, first, log_of(name))

    def close() -> None:
        loop.close()
        if outlet is not None:
            outlet.close()

    return service, close


def open_source(settings: Settings) -> Source:
    """The source that the settings name, unopened where it must be waited for.

    Raises:
        OperatorFault: no such recording, no such stream in it, a scale that is not asked for, or a word that names no
            source.
        RigFault: a recording that cannot be read.
    """
    kind, _, predicate = settings.source.partition(":")
    if kind == "lsl" or settings.source == "simulate":
        if settings.scale_uv is not None:
            raise OperatorFault(f"source {settings.source!r}: found a scale_uv, expected none: it is for a .wav alone")
        if settings.stream is not None:
            raise OperatorFault(f"source {settings.source!r}: found a stream, expected none: it is of a recording")
    if kind == "lsl" and predicate:
        # a stream of another array is shown and named, not refused: its predictions are null, with the reason
        return LslSource(predicate, event_predicate=settings.events)
    if settings.source == "simulate":
        triggered = settings.stimulator.partition("?")[0] == "simulated"  # nobody else stimulates then
        return SimulatedSource(protocol="rest" if triggered else "threshold", clock=pylsl.local_clock)
    path = Path(settings.source)
    if not path.exists():
        raise OperatorFault(
            f"source {settings.source!r}: no such file; expected lsl:PREDICATE, a recording or simulate"
        )
    return open_recording(path, settings.stream, scale_uv=settings.scale_uv)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a port in use is one clear sentence and port 0 tells which one it became.

    Raises:
        OperatorFault: the port cannot be had.
    """
    # IPPROTO_TCP said aloud: asyncio turns Nagle's delay off only where it is, and frames then wait 40 ms for an answer
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        where = f"port {port}" if host in LOOPBACK else f"{host}, port {port},"
        raise OperatorFault(f"{where} cannot be had ({error.strerror}); choose another with --port") from None
    return listener


def _end_soon() -> None:
    """With the status of a failure, whoever else hangs with the thread that does and would be waited for."""
    last = threading.Timer(GIVEN_UP_S, os._exit, (1,))
    last.daemon = True
    last.start()


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
