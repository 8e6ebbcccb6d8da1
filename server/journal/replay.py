"""A recorded session through the bundle and the trigger once more, as its journal says it went.

What is not in the samples stands in the journal: where each stream began and what it was decoded with, when which
marker was told, masks, windows that were skipped, conditions, transitions, what each engine started from. With the
samples that is all that a decision rests on, so each must come out the same, to the bit: which windows fired, with
which probability, dwell and wait, and for which reasons the others did not.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from models.decoder import Decoder
from models.errors import OperatorFault
from server.journal.session import Connection, Fields, Session
from server.journal.windows import Windows, find
from server.trigger_settings import PlanSettings, planner
from streaming.budgets import Progress
from streaming.chunk import EndOfRecording
from streaming.limits import Limits
from streaming.pipeline import Due
from streaming.plan import Plan
from streaming.sources.recorded import Recording
from streaming.states import Event, State
from streaming.trigger import INERT, Conditions, Decision, Inhibited, TriggerEngine, TriggerSettings

JUMPED = (State.DISARMED, State.FAULT)  # nothing is decided in them, and the engine behind them is a new one
UNKNOWN = ""  # the reason, where the recording does not hold the samples


class Different(Exception):
    """The first thing that did not come out as the journal has it."""


@dataclass
class Replayed:
    """What came out as the journal has it: `predictions` were decided again, so many of which fired, were shams, would
    have fired; the others by reason. `difference`: the first that did not, in a sentence. `notes`: what could not be
    compared, and why."""

    run_id: str
    predictions: int = 0
    triggers: int = 0
    shams: int = 0
    would_fire: int = 0
    inhibited: Counter[str] = field(default_factory=Counter)
    difference: str = ""
    notes: list[str] = field(default_factory=list)


class Replay:
    """One run.

    Args:
        session: what the journal says.
        recording: of the same samples.
        open_decoder: the bundle of a connection's facts, as it ran then.
        limits: those that the run may have rested on; known by their hash.
    """

    def __init__(
        self,
        session: Session,
        recording: Recording,
        open_decoder: Callable[[Fields], Decoder],
        limits: Sequence[Limits],
    ) -> None:
        self._session, self._recording, self._open = session, recording, open_decoder
        self._limits = {one.sha256: one for one in limits}
        self._about: Fields | None = None  # of the connection
        self._windows: Windows | None = None  # None: the recording does not hold them
        self._engine: TriggerEngine | None = None
        self._needed: str | None = None  # limits, by their hash
        self._follows = False  # whether the engine is where it was then
        self._placed = False  # whether it is known which window the next prediction was of
        self._state = State.DISARMED
        self._conditions = Conditions()
        self._drifts = False
        self._seq = -1  # the last prediction that was decided
        self._reasons: deque[str] = deque()  # of predictions that were not held against the journal's counts yet
        self._counted_to = -1
        self._unheld = 0
        self._found = Replayed(session.run_id)

    def run(self) -> Replayed:
        """Raises OperatorFault: a recording of something else, or limits, a bundle or a plan that are not at hand."""
        session, found = self._session, self._found
        try:
            for kind, what in session.steps:
                if isinstance(what, Connection):
                    self._connect(what)
                elif kind == "engine":
                    self._rebuild(what)
                elif kind == "transition":
                    self._move(what)
                else:
                    self._count(Counter(what))
            self._advance(session.last_seq)
        except Different as difference:
            found.difference = str(difference)
        except EndOfRecording:
            found.notes.append(f"the recording ends behind prediction {self._seq}: nothing after it was compared")
        else:
            if session.ended:
                found.notes.append(f"{session.ended}: nothing after prediction {self._seq} was compared")
        if self._unheld:
            found.notes.append(f"{self._unheld} predictions rest on samples from before the recording: not compared")
        if not found.predictions and not found.difference and session.last_seq >= 0:
            raise OperatorFault(
                f"the recording holds no sample with which a stream of run {session.run_id} began: it began later than "
                "the service's stream, is of another session, or holds other numbers (of a float32 stream `record` "
                "keeps counts of 0.25 µV); nothing was compared"
            )
        return found

    # What happened, in order -----------------------------------------------------------------------------------------

    def _connect(self, connection: Connection) -> None:
        about = connection.about
        self._advance(about["after_seq"])
        if about["mode"] != "continuous":
            raise OperatorFault(f"run {self._session.run_id} decoded in {about['mode']} mode: nothing fires there")
        if about.get("continues"):  # the same chain, and so the same windows
            self._about = about
            if self._windows is not None:
                self._windows.go_on(connection, self._open(about))
            return
        same = self._about is not None and self._about["epoch"] == about["epoch"]
        first = find(connection, self._recording, self._windows if same else None)
        self._about, self._windows = about, None
        if first is None:
            self._follows = False
            return
        decoder = self._open(about)
        self._windows = Windows(connection, self._recording, first, decoder, lambda: self._seq + 1, self._withdrawn)

    def _withdrawn(self) -> None:
        if self._engine is not None:
            self._engine.forget()

    def _rebuild(self, made_of: Fields) -> None:
        """A new engine, as the gate makes it."""
        self._advance(made_of["after_seq"])
        if self._about is None:  # no stream yet: another follows with the first
            return
        limits = self._limits.get(made_of["limits_sha256"])
        plan = None if limits is None else self._plan(limits, made_of["plan_sha256"])
        engine = TriggerEngine(
            TriggerSettings(**made_of["thresholds"]),
            limits,
            plan,
            self._about["rate_hz"],
            self._about["min_usable_channels"],
            (made_of["device_steps"][0], made_of["device_steps"][1]),
        )
        day_uc = {int(electrode): uc for electrode, uc in made_of["day_uc"].items()}
        real = self._engine.real if self._engine is not None else Progress()
        waits_s = real.waits_s[: made_of["waits"]]
        real = replace(real, day_uc=day_uc, next_trial=made_of["next_trial"], waits_s=waits_s)
        engine.resume(real, made_of["now"], self._state)
        self._engine, self._follows = engine, self._windows is not None
        self._needed = made_of["limits_sha256"]

    def _move(self, told: Fields) -> None:
        self._advance(told["after_seq"])
        engine, event = self._engine, Event(told["event"])
        if self._follows and engine is not None:
            if engine.state is not State(told["from"]):
                raise Different(
                    f"behind prediction {self._seq}: {told['event']} found the trigger {told['from']} in the journal, "
                    f"{engine.state} in the replay"
                )
            if engine.limits is None and event in (Event.SHADOW, Event.REQUEST):
                raise OperatorFault(f"limits: found none of sha256 {self._needed}, on which the run rested; name them")
            engine.handle(event)
        self._state, self._placed = State(told["to"]), False

    def _count(self, counts: Counter[str]) -> None:
        """The journal's counts of reasons: of as many predictions that did not fire as they name, in order."""
        first, left = self._counted_to + 1, counts.total()
        while left:
            self._counted_to += 1
            left -= self._counted_to not in self._session.decided
        self._advance(self._counted_to)
        again = Counter(self._reasons.popleft() for _ in range(counts.total()))
        if UNKNOWN not in again and again != counts:
            raise Different(
                f"predictions {first} to {self._counted_to}: inhibited by {listed(counts)} in the journal, "
                f"by {listed(again)} in the replay"
            )

    # Predictions -----------------------------------------------------------------------------------------------------

    def _advance(self, seq: int) -> None:
        """Until this prediction is decided."""
        while self._seq < seq:
            if self._state in JUMPED:
                self._jump(seq, INERT[self._state].name)
            elif not self._follows or self._windows is None or self._engine is None:
                self._jump(seq, UNKNOWN)
            else:
                self._decide(self._windows, self._engine, self._windows.next())

    def _jump(self, seq: int, reason: str) -> None:
        for one in range(self._seq + 1, seq + 1):
            decided = self._session.decided.get(one)
            if decided is None:
                self._reasons.append(reason)
            elif reason != UNKNOWN:
                raise _differs(one, decided["kind"], f"inhibited by {reason}")
            elif decided["kind"] == "trigger":
                raise OperatorFault(
                    f"the recording begins after prediction {one}, which took from the budgets; nothing later can be "
                    "replayed without it: start `phosphene record --broadband` before `phosphene serve`, so that it "
                    "holds the first sample that the service heard"
                )
        self._unheld += seq - self._seq if reason == UNKNOWN else 0
        self._seq, self._placed = seq, False

    def _decide(self, windows: Windows, engine: TriggerEngine, due: Due) -> None:
        seq = self._seq + 1
        told = self._session.windows.get(seq)
        if told is None and not self._placed:
            raise Different(f"prediction {seq}: the journal does not say which window it was of")
        if told is not None:
            if due.epoch == told.epoch and due.last_sample < told.last_sample:
                return  # was skipped
            if (due.epoch, due.last_sample) != (told.epoch, told.last_sample):
                raise Different(
                    f"prediction {seq}: of the window that ends with sample {told.last_sample} in the journal, with "
                    f"{due.last_sample} in the recording, which counts another way"
                )
            self._conditions, self._placed = told.conditions, True
            self._drifts = "drift" in told.flags
        lasting = ("drift",) if self._drifts else ()  # told when it changes
        prediction = windows.decode(due, told.flags if told is not None else lasting)
        decision = engine.push(prediction, self._conditions)
        self._seq = seq
        self._compare(windows, decision)

    def _compare(self, windows: Windows, decision: Decision) -> None:
        found, seq = self._found, self._seq
        row = self._session.decided.get(seq)
        found.predictions += 1
        if isinstance(decision, Inhibited):
            if row is not None:
                raise _differs(seq, row["kind"], f"inhibited by {decision.reason.name}")
            found.inhibited[decision.reason.name] += 1
            self._reasons.append(decision.reason.name)
            return
        kind, trial = "would_fire" if decision.shadow else "trigger", decision.trial
        if row is None:
            raise _differs(seq, "nothing", f"{kind} of trial {decision.trial_index}")
        again = {
            "kind": kind,
            "epoch": decision.epoch,
            "last_sample": decision.last_sample,
            "probability": decision.probability,
            "trial": decision.trial_index,
            "arm": trial.arm,
            "sham": trial.sham,
            "electrode": trial.pattern.electrode,
            "current_ua": trial.pattern.current_ua,
            "draw": trial.draw,
            "dwell": decision.dwell,
            "waited_s": decision.waited_s,
        }
        for name, value in again.items():
            if row[name] != value:
                raise _differs(seq, f"{name} {row[name]!r}", repr(value))
        found.would_fire += decision.shadow
        found.shams += trial.sham and not decision.shadow
        found.triggers += decision.pulse
        if decision.pulse and not row["refused"]:
            windows.fired(decision.last_sample, row["trigger_id"])

    def _plan(self, limits: Limits, sha256: str) -> Plan:
        """The plan of this hash: one of those that settings in the journal ask for."""
        for asked in (*reversed(self._session.plans), None):
            try:
                plan = planner(None if asked is None else PlanSettings.model_validate(asked))(limits)
            except OperatorFault:
                continue
            if plan.sha256 == sha256:
                return plan
        raise OperatorFault(f"plan: none that the journal's settings ask for has the sha256 {sha256} that it names")


def _differs(seq: int, journal: str, replay: str) -> Different:
    return Different(f"prediction {seq}: {journal} in the journal, {replay} in the replay")


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items())) or "none"
