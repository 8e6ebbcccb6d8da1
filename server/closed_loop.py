"""What stands between predictions and stimulation, opened together and closed in order: limits, journal, device, gate.

Without a limits file there is no device and nothing can be armed; the gate is there all the same, and says so.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from models.errors import OperatorFault, RigFault
from server.journal.ledger import Ledger
from server.journal.lock import Lock
from server.journal.place import default_path
from server.journal.writer import Journal, JournalStatistics
from server.settings import Settings
from server.trigger_settings import planner
from streaming.gate import Gate
from streaming.limits import Limits, Pattern, read_limits
from streaming.lsl_calls import local_clock
from streaming.stimulators.lsl import SIMULATED_NAME, LslStimulator
from streaming.stimulators.none import NoStimulator
from streaming.stimulators.open import open_stimulator
from streaming.stimulators.outlet import NAME, TriggerOutlet
from streaming.stimulators.stimulator import Stimulator
from streaming.trigger import TriggerSettings

JOURNAL_CLOSES_S = 1.0
DEVICE_CLOSES_S = 1.5
Fields = Mapping[str, Any]
log = logging.getLogger("phosphene")


class AnyJournal(Protocol):
    """A Journal, or none."""

    run_id: str

    @property
    def healthy(self) -> bool: ...
    @property
    def next_id(self) -> str | None: ...
    def take_id(self) -> str | None: ...
    def write(self, kind: str, fields: Fields, durable: bool = False) -> bool: ...
    def use_limits(self, limits: Limits) -> bool: ...
    def statistics(self) -> JournalStatistics: ...
    def close(self, timeout_s: float = ...) -> bool: ...


class NoJournal:
    """Nothing is written down, so nothing can be armed."""

    healthy = False
    next_id = None
    ledger = Ledger(0.0, {}, 0.0, ())

    def __init__(self) -> None:
        self.run_id = uuid.uuid4().hex[:12]

    def take_id(self) -> None:
        return None

    def write(self, kind: str, fields: Fields, durable: bool = False) -> bool:
        return False

    def use_limits(self, limits: Limits) -> bool:
        return False

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(problem="there is none", healthy=False)

    def close(self, timeout_s: float = 0.0) -> bool:
        return True


class LimitsFile:
    """The limits as they stand on disk, asked for anew each time. The journal is told of each that is new."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._journal: AnyJournal | None = None
        self._participant: str | None = None
        self._by_name = False
        self._told = ""

    def bind(self, journal: AnyJournal, participant: str | None, by_name: bool, told: Limits | None) -> None:
        """`by_name`: the journal was chosen by the participant's name. Limits of another do not fit then; where nobody
        was known yet, none do, since what their participant had today stands in another journal."""
        self._journal, self._participant, self._by_name = journal, participant, by_name
        self._told = told.sha256 if told else ""

    def __call__(self) -> Limits:
        """Raises OperatorFault where there is no file, or it is not valid."""
        if self._path is None:
            raise OperatorFault("there is no limits file, so nothing may be asked for; start with --limits FILE")
        limits = read_limits(self._path)
        if self._by_name and limits.participant != self._participant:
            expected = f"{self._participant!r}, whose journal is open"
            if self._participant is None:
                expected = "none, since nobody was known at the start and so nobody's journal is open"
            raise OperatorFault(
                f"limits: found participant {limits.participant!r}, expected {expected}; start the service anew"
            )
        if self._journal is not None and limits.sha256 != self._told:
            self._told = limits.sha256
            self._journal.use_limits(limits)
        return limits


@dataclass
class ClosedLoop:
    gate: Gate
    journal: AnyJournal
    _close_outlet: Callable[[], None] = lambda: None
    _unlock_device: Callable[[], None] = lambda: None
    _closed: bool = False

    def close(self) -> None:
        """Disarm, let the device go, then put on the disk what is not there yet. In under 3 s, whatever hangs."""
        if self._closed:
            return
        self._closed = True
        letting_go = threading.Thread(target=self._let_go, name="let go", daemon=True)
        letting_go.start()
        letting_go.join(DEVICE_CLOSES_S)
        if letting_go.is_alive():
            log.error("the stimulator does not come back from what it was asked; it is left to itself")
        self._unlock_device()
        if not self.journal.close(JOURNAL_CLOSES_S):
            log.error("journal: its disk did not take the last rows; ids without an outcome count as delivered")

    def _let_go(self) -> None:
        try:
            self.gate.close()
            self._close_outlet()
        except Exception:
            log.exception("the trigger did not end in order")


def open_loop(
    settings: Settings,
    about: Fields | None = None,
    deliver: Callable[[Pattern, str, float], bool] = lambda pattern, trigger_id, t_mono: True,
    happened: Callable[[str, dict[str, Any]], None] = lambda kind, fields: None,
) -> ClosedLoop:
    """Everything that the settings name.

    Args:
        about: fields of the journal's run_started row beside those of the settings.
        deliver: who receives the pulses of the simulated device.
        happened: see Gate.

    Raises:
        OperatorFault: a stimulator that is not understood. RigFault: one that is not there, or a journal that cannot be
            had; another engine has it.
    """
    limits_file = LimitsFile(settings.limits)
    limits = _valid(limits_file) if settings.limits is not None else None
    with ExitStack() as opened:
        participant = limits.participant if limits is not None else settings.participant
        path = settings.journal or (default_path(participant) if settings.limits is not None else None)
        device: Stimulator = NoStimulator()
        unlock_device = _device_lock(settings.stimulator if settings.limits is not None else "none")
        opened.callback(unlock_device)
        if settings.limits is not None:
            assert path is not None
            log_path = path.with_name(f"{path.name}.device.jsonl")
            device = _device(settings.stimulator, deliver, log_path)
            opened.callback(device.close)
        journal: AnyJournal = NoJournal()
        ledger = NoJournal.ledger
        if path is not None:
            run = {"participant": participant, "session": settings.session, "source": settings.source, **(about or {})}
            steps = (device.capabilities.current_step_ua, device.capabilities.time_step_us)
            written = _journal(path, run, limits, steps)
            journal, ledger = written, written.ledger
            opened.callback(written.close, JOURNAL_CLOSES_S)
        limits_file.bind(journal, participant, settings.journal is None and path is not None, limits)
        announce, close_outlet = _announcer(device, settings.limits is not None)
        opened.callback(close_outlet)
        thresholds = settings.thresholds.over(TriggerSettings())
        gate = Gate(
            limits_file,
            device,
            journal,
            thresholds=thresholds,
            make_plan=planner(settings.plan),
            ledger_uc=lambda limits: ledger.day_uc(pattern.electrode for pattern in limits.patterns),
            pulses_ago=ledger.pulses_ago(),
            announce=announce,
            happened=happened,
            clock=local_clock,
        )
        journal.write("settings", {**settings.model_dump(mode="json"), "in_force": asdict(thresholds)})
        opened.pop_all()
        return ClosedLoop(gate, journal, close_outlet, unlock_device)


def _valid(limits_file: LimitsFile) -> Limits | None:
    try:
        return limits_file()
    except OperatorFault as fault:
        log.warning("cannot be armed: %s", fault)
        return None


def _device(spec: str, deliver: Callable[[Pattern, str, float], bool], log_path: Path) -> Stimulator:
    """The simulated device writes what it delivered beside the journal, for server/journal/lawful.py to compare."""
    if spec.partition("?")[0] == "simulated":
        try:
            log_path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RigFault(f"journal {log_path.parent}: {error.strerror}; name another --journal") from error
    return open_stimulator(spec, deliver=deliver, device_log=log_path)


def _device_lock(spec: str) -> Callable[[], None]:
    """Keeps a second engine of this user and machine from a device that cannot refuse it: whoever is at the far end of
    a UDP port takes datagrams of both. A serial port is locked by its driver, and a second LSL stream is heard
    (outlet.py). Returns what lets it go; the end of the process does, too."""
    where = spec.partition("?")[0]
    if not where.startswith("udp:"):
        return lambda: None
    path = default_path(f"udp:{_resolved(where.removeprefix('udp:'))}").with_suffix("")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Lock(path, f"stimulator {where}: another engine has it", "name another --stimulator").release
    except OSError as error:
        raise RigFault(f"stimulator {where}: {path.parent}: {error.strerror}; make it a folder to write in") from error
    except OperatorFault as fault:
        raise RigFault(str(fault)) from fault


def _resolved(where: str) -> str:
    """One spelling for one address; `localhost:5005` is where `127.0.0.1:5005` is, and whoever listens at `[::]` hears
    `[::1]:5005`, too. What cannot be resolved is refused by whoever opens it."""
    host, _, port = where.rpartition(":")
    try:
        address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0][4]
    except (OSError, ValueError):
        return where
    found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    return f"{'localhost' if found.is_loopback else found}:{int(port)}"


def _journal(path: Path, run: Fields, limits: Limits | None, steps: tuple[float, float]) -> Journal:
    try:
        return Journal(path, run, limits, steps)
    except OperatorFault as fault:
        raise RigFault(str(fault)) from fault


def _announcer(device: Stimulator, wanted: bool) -> tuple[Callable[[str], None], Callable[[], None]]:
    """The one trigger stream of this service: that of the device where it has one."""
    if not wanted:
        return (lambda marker: None), (lambda: None)
    if isinstance(device, LslStimulator):
        return device.announce, (lambda: None)
    outlet = TriggerOutlet(SIMULATED_NAME if device.capabilities.simulated else NAME)
    return outlet.announce, outlet.close
