"""Was every pulse lawful? An independent answer: nothing of the engine is imported here.

    python -m server.journal.lawful JOURNAL DEVICE_LOG LIMITS.toml

DEVICE_LOG holds a JSON line for each pulse that left in any run of the journal, on one monotonic clock: {"trigger_id",
"electrode", "current_ua", "t_mono"}. Every limit is derived once more. Prints what was unlawful; exit status 1 if
anything was.
"""

import hashlib
import json
import math
import sqlite3
import sys
import tomllib
from collections import Counter
from os import PathLike
from typing import Any

Place = str | PathLike[str]
Fields = dict[str, Any]

DEFAULTS = {
    "current_ua": 10.0,
    "charge_per_phase_nc": 2.0,
    "charge_per_electrode_day_uc": 290.0,
    "duty": 0.10,
    "pulses_per_minute": 10,
    "pulses_per_session": 200,
    "refractory_s": 2.0,
}
CEILINGS = {**DEFAULTS, "current_ua": 128.0, "charge_per_phase_nc": 25.0, "charge_per_electrode_day_uc": 2880.0}
CEILINGS |= {"duty": 0.5, "pulses_per_minute": 120, "pulses_per_session": 10_000, "refractory_s": math.inf}
DAY_S, MINUTE_S, OLDEST_S, LEASE_S = 24 * 3600.0, 60.0, 0.050, 1.5
KEPT_BACK = ("refused", "not_fired")


def violations(journal: Place, device_log: Place, limits_file: Place) -> list[str]:
    """Sentences, one for each unlawful thing."""
    with open(limits_file, "rb") as file:
        content = file.read()
    with open(device_log, encoding="utf-8") as file:
        pulses = [json.loads(line) for line in file if line.strip()]
    rows, found = read(journal)
    return found + Judge(content, rows).judge(pulses)


def read(journal: Place) -> tuple[list[Fields], list[str]]:
    """The rows, and what is wrong with their chain."""
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    records = connection.execute("SELECT * FROM rows ORDER BY seq").fetchall()
    (head,) = connection.execute("SELECT count, sha256 FROM head").fetchall()
    connection.close()
    rows: list[Fields] = []
    found, before = [], "0" * 64
    for number, record in enumerate(records, 1):
        seq, run, wall, lsl, mono, kind, fields, previous, seal = record
        lines = (str(seq), run, wall.hex(), lsl.hex(), mono.hex(), kind, fields, previous)
        if (seq, previous, seal) != (number, before, hashlib.sha256("\n".join(lines).encode()).hexdigest()):
            found.append(f"row {number}: the chain is broken")
        before = seal
        rows.append({"run": run, "wall": wall, "kind": kind, "fields": json.loads(fields)})
    if head != (len(records), before):
        found.append("the head does not fit the rows")
    return rows, found


class Judge:
    """What the limits and the journal's rows say of each id, and then the pulses one by one."""

    def __init__(self, limits: bytes, rows: list[Fields]) -> None:
        file = tomllib.loads(limits.decode())
        self.sha256, self.pulse = hashlib.sha256(limits).hexdigest(), file["pulse"]
        self.electrodes, self.currents = file["electrodes"], file["currents_ua"]
        self.budget = {**DEFAULTS, **file.get("limits", {})}
        self.train_s = (self.pulse["pulses"] - 1) / self.pulse["frequency_hz"]
        self.train_s += (2 * self.pulse["phase_us"] + self.pulse["interphase_us"]) * 1e-6
        self.found = [f"limits: {k} is above its ceiling" for k in CEILINGS if self.budget[k] > CEILINGS[k]]
        self.asked: dict[str, Fields] = {}
        self.results: dict[str, tuple[float, str]] = {}
        self.unused: set[str] = set()
        self.of_run: dict[str, str] = {}
        self.charges: list[
            tuple[float, int | None, float]
        ] = []  # (wall, electrode or None, µC) of what only the journal knows of
        state, recorded = "DISARMED", False
        for row in rows:
            kind, fields = row["kind"], row["fields"]
            if kind == "run_started":
                state, recorded = "DISARMED", False
            elif kind == "transition":
                state = fields["to"]
            elif kind == "connection":
                recorded = bool(fields.get("recorded"))
            elif kind == "reserved":
                self._check(not self.of_run.keys() & set(fields["ids"]), f"{fields['ids'][0]}…: reserved twice")
                self.of_run.update(dict.fromkeys(fields["ids"], row["run"]))
            elif kind == "run_ended":
                self.unused |= set(fields["unused"])
            elif kind == "trigger" and fields["trigger_id"] in self.of_run:
                self._check(fields["trigger_id"] not in self.asked, f"{fields['trigger_id']}: two triggers")
                self.asked[fields["trigger_id"]] = {**row, "state": state, "recorded": recorded}
            elif kind in ("outcome", "would_fire") and fields["trigger_id"] in self.of_run:
                self._check(fields["trigger_id"] not in self.results, f"{fields['trigger_id']}: two outcomes")
                result = fields["result"] if kind == "outcome" else "not_fired"
                self.results[fields["trigger_id"]] = (row["wall"], result)

    def judge(self, pulses: list[Fields]) -> list[str]:
        left = Counter(pulse["trigger_id"] for pulse in pulses)
        for trigger_id, times in left.items():
            self._check(times == 1, f"{trigger_id}: {times} pulses")
        for trigger_id in self.of_run.keys() - self.results.keys() - self.unused:
            self._check(False, f"{trigger_id}: never accounted for")
        for trigger_id, (wall, result) in self.results.items():
            if result not in KEPT_BACK and trigger_id not in left:
                self._check(result == "unknown", f"{trigger_id}: {result}, and the device knows nothing of it")
                asked = self.asked.get(trigger_id, {"wall": wall, "fields": {}})
                electrode, current = (asked["fields"].get(key) for key in ("electrode", "current_ua"))
                self.charges.append((asked["wall"], electrode, self._train_uc(current or max(self.currents))))
        for index, pulse in enumerate(pulses):
            self._one(pulse)
            self._beside_others(pulses[: index + 1])
        return self.found

    def _one(self, pulse: Fields) -> None:
        one, budget, asked = pulse["trigger_id"], self.budget, self.asked.get(pulse["trigger_id"])
        phase_nc = pulse["current_ua"] * self.pulse["phase_us"] * 1e-3
        wall, result = self.results.get(one, (math.nan, "never told"))
        self._check(one in self.of_run, f"{one}: was never reserved")
        self._check(one not in self.unused, f"{one}: was given back unused")
        self._check(result not in KEPT_BACK, f"{one}: left, and its outcome is {result}")
        self._check(pulse["electrode"] in self.electrodes, f"{one}: electrode {pulse['electrode']} is not listed")
        self._check(pulse["current_ua"] in self.currents, f"{one}: {pulse['current_ua']} µA is not listed")
        self._check(pulse["current_ua"] <= budget["current_ua"], f"{one}: {pulse['current_ua']} µA is too much")
        self._check(phase_nc <= budget["charge_per_phase_nc"] + 1e-9, f"{one}: {phase_nc:g} nC in a phase")
        if asked is None:  # killed before its row was written: the next run counted it
            self._check(result == "unknown", f"{one}: no trigger row, and its outcome is {result}")
        else:
            wall, fields = asked["wall"], asked["fields"]
            same = all(fields[key] == pulse[key] for key in ("electrode", "current_ua"))
            probability, ages = fields["probability"], (fields["age_s"], fields["lease_age_s"])
            self._check(same, f"{one}: another pattern left than was asked for")
            self._check(asked["state"] in ("ARMED", "REFRACTORY"), f"{one}: the state was {asked['state']}")
            self._check(not fields["sham"] and not fields.get("refused"), f"{one}: was to be kept back")
            self._check(fields["limits_sha256"] == self.sha256, f"{one}: rests on other limits")
            self._check(_number(probability) and 0 <= probability <= 1, f"{one}: probability {probability}")
            fresh = asked["recorded"] or (_number(ages[0]) and abs(ages[0]) <= OLDEST_S)
            self._check(fresh, f"{one}: samples of age {ages[0]} s")
            self._check(_number(ages[1]) and 0 <= ages[1] <= LEASE_S, f"{one}: lease of age {ages[1]} s")
        self.charges.append((wall, pulse["electrode"], self._train_uc(pulse["current_ua"])))
        day = [c for w, e, c in self.charges if e in (None, pulse["electrode"]) and wall - DAY_S < w <= wall]
        self._check(sum(day) <= budget["charge_per_electrode_day_uc"] + 1e-9, f"{one}: {sum(day):g} µC in a day")

    def _beside_others(self, pulses: list[Fields]) -> None:
        """The newest beside those before it, on the device's own clock."""
        newest, now = pulses[-1], pulses[-1]["t_mono"]
        one, budget = newest["trigger_id"], self.budget
        if len(pulses) > 1:
            gap_s = now - pulses[-2]["t_mono"]
            self._check(gap_s >= budget["refractory_s"] - 1e-6, f"{one}: {gap_s:.3f} s after the pulse before")
        minute = [pulse for pulse in pulses if now - pulse["t_mono"] < MINUTE_S]
        trains_s = self.train_s * sum(pulse["electrode"] == newest["electrode"] for pulse in minute)
        session = sum(self.of_run.get(pulse["trigger_id"]) == self.of_run.get(one) for pulse in pulses)
        self._check(len(minute) <= budget["pulses_per_minute"], f"{one}: {len(minute)} pulses in a minute")
        self._check(trains_s <= budget["duty"] * MINUTE_S + 1e-9, f"{one}: {trains_s:.2f} s of trains in a minute")
        self._check(session <= budget["pulses_per_session"], f"{one}: {session} pulses in a session")

    def _train_uc(self, current_ua: float) -> float:
        return float(current_ua * self.pulse["phase_us"] * self.pulse["pulses"] * 1e-6)

    def _check(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.found.append(sentence)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


if __name__ == "__main__":
    unlawful = violations(*sys.argv[1:4])
    print("\n".join(unlawful) or "every pulse was lawful")
    sys.exit(bool(unlawful))
