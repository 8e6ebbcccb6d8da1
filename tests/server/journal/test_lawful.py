"""The independent checker finds nothing in a lawful day, and each unlawful thing by its name."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from server.journal import lawful
from server.journal.writer import Journal
from tests.server.journal.fakes import LIMITS_TOML, Disk, FakeClocks, limits, outcome, taken, trigger, until

SCRIPT = Path(lawful.__file__)


class Session:
    """A morning that a test spoils."""

    def __init__(self, folder):
        self.clock = FakeClocks()
        self.paths = [folder / name for name in ("p07.journal", "device.jsonl", "limits.toml")]
        self.paths[2].write_bytes(LIMITS_TOML)
        self.disk = Disk()
        self.begin()
        self.pulses = []

    def begin(self):
        clocks = self.clock.clocks()
        self.journal = Journal(self.paths[0], {"participant": "p07"}, limits(), clocks=clocks, store=self.disk.store)

    def die(self):
        self.disk.fill()
        assert not self.journal.close(timeout_s=0.1)
        self.disk.error = None

    def move(self, to, before="DISARMED"):
        self.journal.write("transition", {"from": before, "to": to, "event": "a test", "reason": ""})

    def arm(self):
        self.move("ARMING")
        self.move("ARMED", "ARMING")

    def fire(self, result="delivered", after_s=10.0, electrode=34, current_ua=10.0, log=None, **changes):
        self.clock.pass_(after_s)
        one = taken(self.journal)
        pulse = {"trigger_id": one, "electrode": electrode, "current_ua": current_ua, "t_mono": self.clock.mono}
        self.pulses.append(pulse | (log or {}))
        self.journal.write("trigger", trigger(one, electrode, current_ua=current_ua) | changes)
        if result:
            self.journal.write("outcome", outcome(one, result))
        return one

    def end(self):
        assert self.journal.close()
        return self.verdict()

    def verdict(self):
        self.paths[1].write_text("".join(json.dumps(pulse) + "\n" for pulse in self.pulses))
        return lawful.violations(*self.paths)


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


def test_it_shares_nothing_with_the_engine():
    names = set(re.findall(r"^(?:import|from) (\S+)", SCRIPT.read_text(), re.M))
    assert names <= {"hashlib", "json", "math", "sqlite3", "sys", "tomllib", "collections", "os", "typing"}


def test_a_lawful_day(session):
    session.arm()
    for n in range(20):
        session.fire(electrode=34 + n % 2, current_ua=5.0 * (1 + n % 2))
    session.fire(result="unknown")
    session.pulses.pop()  # nobody knows whether it left
    session.fire(result="refused")
    session.pulses.pop()
    session.journal.write("would_fire", trigger("shadow-0"))
    session.journal.write("trigger", trigger("shadow-1", sham=True))
    assert session.end() == []
    arguments = [sys.executable, str(SCRIPT), *map(str, session.paths)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "every pulse was lawful\n")
    session.paths[2].write_bytes(LIMITS_TOML + b"\n")
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.count("rests on other limits") == 20


def test_a_kill_before_the_row_was_written(session):
    session.arm()
    one = taken(session.journal)
    session.pulses.append({"trigger_id": one, "electrode": 35, "current_ua": 5.0, "t_mono": 90.0})
    session.die()
    assert f"{one}: never accounted for" in session.verdict()
    session.begin()
    assert session.end() == []


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"after_s": 0.4}, "0.400 s after the pulse before"),
        ({"electrode": 36}, "electrode 36 is not listed"),
        ({"current_ua": 7.0}, "7.0 µA is not listed"),
        ({"current_ua": 12.0}, "12.0 µA is too much"),
        ({"current_ua": 12.0}, "2.04 nC in a phase"),
        ({"log": {"current_ua": 5.0}}, "another pattern left"),
        ({"log": {"trigger_id": "made-up"}}, "made-up: was never reserved"),
        ({"probability": None}, "probability None"),
        ({"probability": 1.5}, "probability 1.5"),
        ({"age_s": 0.051}, "samples of age 0.051 s"),
        ({"age_s": None}, "samples of age None s"),
        ({"lease_age_s": 1.6}, "lease of age 1.6 s"),
        ({"lease_age_s": None}, "lease of age None s"),
        ({"sham": True}, "was to be kept back"),
        ({"refused": "late"}, "was to be kept back"),
        ({"limits_sha256": "0" * 64}, "rests on other limits"),
        ({"result": "refused"}, "left, and its outcome is refused"),
        ({"result": "not_fired"}, "left, and its outcome is not_fired"),
    ],
)
def test_one_unlawful_pulse(session, how, word):
    session.arm()
    session.fire()
    session.fire(**how)
    session.fire()
    assert any(word in line for line in session.end())


def test_pulses_out_of_state(session):
    first = session.fire()
    session.arm()
    session.fire()
    session.move("DISARMED", "ARMED")
    last = session.fire()
    assert session.end() == [f"{first}: the state was DISARMED", f"{last}: the state was DISARMED"]


def test_a_restart_is_disarmed(session):
    session.arm()
    session.fire()
    session.journal.close()
    session.begin()
    one = session.fire()
    assert session.end() == [f"{one}: the state was DISARMED"]


def test_ids_serve_once_and_come_back_unused(session):
    session.arm()
    one = session.fire()
    session.pulses.append(session.pulses[0] | {"t_mono": session.clock.mono + 5})
    session.journal.write("trigger", trigger(one))
    session.journal.write("outcome", outcome(one))
    session.journal.close()
    unused = f"{session.journal.run_id}-2"
    session.pulses.append(session.pulses[0] | {"trigger_id": unused, "t_mono": session.clock.mono + 10})
    found = session.verdict()
    assert {f"{one}: 2 pulses", f"{one}: two triggers", f"{one}: two outcomes"} < set(found)
    assert f"{unused}: was given back unused" in found


def test_delivered_and_unknown_to_the_device(session):
    session.arm()
    one = session.fire()
    session.pulses.clear()
    assert session.end() == [f"{one}: delivered, and the device knows nothing of it"]


def test_too_many_in_a_minute_a_session_or_a_day(session):
    session.arm()
    for _ in range(11):
        session.fire(after_s=1.0)
    assert [line.split(": ")[1] for line in session.end()] == ["11 pulses in a minute"]
    session.paths[2].write_bytes(LIMITS_TOML + b"pulses_per_minute = 20\npulses_per_session = 10\nduty = 0.02\n")
    found = {line.split(": ")[1] for line in session.verdict()} - {"rests on other limits"}
    assert found == {"11 pulses in a session", *(f"{0.16373 * n:.2f} s of trains in a minute" for n in (8, 9, 10, 11))}
    session.paths[2].write_bytes(LIMITS_TOML + b"pulses_per_minute = 20\ncharge_per_electrode_day_uc = 0.9\n")
    found = {line.split(": ")[1] for line in session.verdict()} - {"rests on other limits"}
    assert found == {"0.935 µC in a day"}


def test_doubts_count_against_every_electrode(session):
    session.arm()
    taken(session.journal)
    session.fire(electrode=35)
    session.clock.pass_(1.0)
    session.end()
    session.paths[2].write_bytes(LIMITS_TOML + b"charge_per_electrode_day_uc = 0.1\n")
    assert not [line for line in session.verdict() if "in a day" in line]  # it was told after that pulse
    session.begin()
    session.arm()
    one = session.fire(electrode=34)
    session.journal.close()
    assert f"{one}: 0.17 µC in a day" in session.verdict()


def test_limits_above_their_ceilings(session):
    session.journal.close()
    session.paths[2].write_bytes(LIMITS_TOML + b"charge_per_phase_nc = 26\n")
    assert session.verdict() == ["limits: charge_per_phase_nc is above its ceiling"]


def test_a_broken_chain(session):
    import sqlite3

    session.journal.write("fault", {}, durable=True)
    assert until(lambda: session.journal.statistics().rows == 4)
    assert session.end() == []
    connection = sqlite3.connect(session.paths[0])
    with connection:
        connection.execute("UPDATE rows SET t_wall = 1.5 WHERE seq = 3")
    with connection:
        connection.execute("DELETE FROM rows WHERE seq = 5")
    connection.close()
    assert session.verdict()[:2] == ["row 3: the chain is broken", "the head does not fit the rows"]
