"""A stimulator from one line of settings: none | lsl | serial:PORT | udp:HOST:PORT | simulated, and ?options.

lsl?acknowledges=false
serial:/dev/ttyUSB0?e34-20uA=65&e35-20uA=66&acknowledgement=6&disarm=0
serial:/dev/ttyUSB0?line=dtr&pulse_ms=2
udp:192.168.1.20:5005?current_step_ua=1&time_step_us=33.3
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import OperatorFault
from streaming.stimulators.lsl import LslSettings, LslStimulator, Outlet
from streaming.stimulators.none import NoStimulator
from streaming.stimulators.serial import SerialSettings, SerialStimulator
from streaming.stimulators.simulated import Deliver, SimulatedStimulator
from streaming.stimulators.stimulator import Steps, Stimulator
from streaming.stimulators.udp import UdpSettings, UdpStimulator

SHAPES = "none, lsl, serial:PORT, udp:HOST:PORT or simulated, with ?option=value&…"
PATTERN_NAME = re.compile(r"e\d+-[\d.]+uA")
_Settings = TypeVar("_Settings", bound=BaseModel)


def open_stimulator(
    spec: str,
    outlet: Outlet | None = None,
    deliver: Deliver = lambda pattern, trigger_id, t_mono: True,
    device_log: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stimulator:
    """The stimulator that `spec` names. `outlet` is for lsl, `deliver` and `device_log` for simulated.

    Raises:
        OperatorFault: a spec or an option that is not understood. RigFault: the device is not there.
    """
    where, _, query = spec.partition("?")
    kind, _, place = where.partition(":")
    options = _options(spec, query)
    match kind, bool(place):
        case "none", False:
            _settings(spec, _Nothing, options)
            return NoStimulator()
        case "lsl", False:
            return LslStimulator(_settings(spec, LslSettings, options), outlet, clock)
        case "simulated", False:
            return SimulatedStimulator(deliver, device_log, _settings(spec, Steps, options), clock)
        case "serial", True:
            commands = {name: options.pop(name) for name in list(options) if PATTERN_NAME.fullmatch(name)}
            facts = {**options, "port": place, "commands": commands}
            return SerialStimulator(_settings(spec, SerialSettings, facts), clock=clock)
        case "udp", True:
            host, _, port = place.rpartition(":")
            facts = {**options, "host": host.strip("[]"), "port": port}
            return UdpStimulator(_settings(spec, UdpSettings, facts), clock)
        case _:
            raise OperatorFault(f"stimulator: found {spec!r}, expected {SHAPES}")


class _Nothing(BaseModel):
    """Settings of a stimulator that has none."""

    model_config = ConfigDict(extra="forbid")


def _options(spec: str, query: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise OperatorFault(f"stimulator {spec!r}: {error}; expected {SHAPES}") from error
    if len(dict(pairs)) < len(pairs):
        raise OperatorFault(f"stimulator {spec!r}: found an option twice, expected it once")
    return dict(pairs)


def _settings(spec: str, kind: type[_Settings], options: dict[str, Any]) -> _Settings:
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        raise OperatorFault(f"stimulator {spec!r}: {where}: {first['msg']}; see docs/stimulators.md") from error
