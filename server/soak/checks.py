"""What must hold at the end of a soak: each with what was found, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.journal.lawful import violations
from server.journal.read import rows, verify
from server.journal.rows import JournalFault
from server.soak.listener import Listener
from server.soak.schedule import Side
from server.soak.supervised import Supervised
from server.soak.witness import Witness

INHIBITED_S = 0.25
TOLD_S = 1.0
DISK_TOLD_S = 1.5  # there is a row to write every second at least, and a quarter of one until it is missed
AGAIN_S = 5.0
ENDED_S = 3.0
STALE_MS = 250.0
TAIL_MS = 2.0
GROWTH_MIB = 5.0
LEAST_LIFE_S = 300.0  # of a process whose memory is judged: what it takes once (a bundle, a stream) is no leak
APART_S = 3.0  # what is nearer to a fault is not calm
LATE_PULSE_S = 0.5  # behind its trigger
SHUT = ("ready", False), ("ready", None)
STILL = tuple(("trigger", state) for state in ("DISARMED", "FAULT", None))
Verdict = dict[str, Any]
Rows = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was carried out, by the LSL clock."""

    kind: str
    side: Side
    began: float
    ended: float
    told: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was seen. `given`: the rig's log of trains; `floor`: (moment, ms) that the machine is late."""

    struck: list[Struck]
    listener: Listener
    witness: Witness
    service: Supervised
    journal: Path
    given: list[dict[str, Any]]
    given_file: Path
    limits: Path
    floor: NDArray[np.float64]


def verdicts(seen: Evidence) -> list[Verdict]:
    heard = seen.listener.rows()
    return [
        *_pulses(seen),
        *_journal(seen),
        *_process(seen, heard),
        *_input(seen, heard),
        *_truth(seen),
        *_memory(seen),
        *_tails(seen, heard),
    ]


def _verdict(what: str, found: str, holds: bool) -> Verdict:
    return {"what": what, "found": found, "holds": bool(holds)}


def _none_of(what: str, found: list[str], among: str) -> Verdict:
    return _verdict(what, "; ".join([f"{len(found)} {among}", *found[:5]]), not found)


def _all_within(what: str, seconds: list[float], most: float) -> list[Verdict]:
    """Nothing to say where it never happened."""
    if not seconds:
        return []
    worst = max(seconds)
    return [_verdict(f"{what} within {most:g} s", f"{len(seconds)} times, at most {worst:.3f} s", worst <= most)]


# Pulses and journal --------------------------------------------------------------------------------------------------


def _pulses(seen: Evidence) -> Iterator[Verdict]:
    unlawful = violations(seen.journal, seen.given_file, seen.limits)
    yield _none_of("unlawful pulses", unlawful, f"of {len(seen.given)}")
    late = [f"{one['trigger_id']}: {one['t_mono'] - one['left']:.2f} s" for one in seen.given if _late(one)]
    yield _none_of(f"pulses over {LATE_PULSE_S:g} s behind their trigger", late, f"of {len(seen.given)}")
    yield _verdict("pulses, without which nothing is shown", str(len(seen.given)), len(seen.given) > 0)


def _late(one: dict[str, Any]) -> bool:
    return not one["t_mono"] - one["left"] <= LATE_PULSE_S


def _journal(seen: Evidence) -> Iterator[Verdict]:
    try:
        head = verify(seen.journal)
    except JournalFault as fault:
        yield _verdict("the journal verifies", str(fault), False)
        return
    yield _verdict("the journal verifies", f"{head.rows} rows, seal {head.sha256[:12]}", True)
    begun: dict[str, str] = {}  # run -> how it ended
    known: set[str] = set()
    moved: set[str] = set()
    lost: list[str] = []
    for row in rows(seen.journal):
        fields = row.load()
        if row.kind == "run_started":
            begun[row.run_id] = "unclean"
        elif row.kind == "run_ended":
            begun[row.run_id] = "clean"
        elif row.kind == "transition" and row.run_id not in moved:
            moved.add(row.run_id)
            if fields["from"] != "DISARMED":
                lost.append(f"run {row.run_id} began {fields['from']}")
        elif row.kind in ("trigger", "outcome"):
            known.add(str(fields["trigger_id"]))
    lost += [f"run {run}: never begun" for run in seen.listener.runs if run not in begun]
    lost += [f"trigger {one}: announced, and not written" for _, one in seen.witness.fired if one and one not in known]
    yield _none_of("lost rows of the journal", lost, f"among {head.rows}, {len(begun)} runs")


# Processes -----------------------------------------------------------------------------------------------------------


def _process(seen: Evidence, heard: Rows) -> Iterator[Verdict]:
    deaths = seen.service.deaths
    silent = [
        f"status {one.status}, {one.asked or 'nobody asked'}: {one.said[:200]}" for one in deaths if not one.reason
    ]
    yield _none_of("deaths without a reason", silent, f"of {len(deaths)}")
    yield _none_of("defects in the log", seen.service.defects, "lines")
    complaints = seen.listener.complaints
    count = len(heard["arrived"])
    yield _none_of(
        "breaks in the sequence numbers", complaints, f"in {count} predictions, {seen.listener.missed} missed"
    )
    ends = [one for one in seen.struck if one.side == "service"]
    again = [found for one in ends if (found := _next(heard["arrived"], _death(seen, one))) is not None]
    yield from _all_within("a service that ended predicts again", again, AGAIN_S)
    took = [_death(seen, one) - one.began for one in ends if one.kind == "service told to end"]
    yield from _all_within("told to end, it ends", took, ENDED_S)
    refused = [one.told for one in seen.struck if one.kind == "second instance"]
    wrong = [str(one) for one in refused if one["status"] not in (1, 2) or "\n" in one["said"]]
    if refused:
        yield _none_of("second instances that were not refused in one line", wrong, f"of {len(refused)}")


def _death(seen: Evidence, struck: Struck) -> float:
    return next((death.at for death in seen.service.deaths if death.at >= struck.began), struck.began)


def _next(moments: NDArray[np.float64], after: float) -> float | None:
    """Seconds from `after` to the next of `moments`; None where there is none."""
    at = int(np.searchsorted(moments, after, side="right"))
    return float(moments[at] - after) if at < len(moments) else None


# What came in, and what was said of it -------------------------------------------------------------------------------


def _input(seen: Evidence, heard: Rows) -> Iterator[Verdict]:
    vouched = heard["arrived"][heard["vouched"] > 0]
    inhibited = []
    for one in seen.struck:
        if one.kind in ("source paused", "source killed"):
            during = vouched[(vouched >= one.began) & (vouched <= one.ended)]
            inhibited.append(float(during[-1] - one.began) if len(during) else 0.0)
    yield from _all_within("a source that is silent inhibits", inhibited, INHIBITED_S)
    ages = heard["total_ms"][heard["vouched"] > 0]
    stale = sum(
        ages[k] > STALE_MS + _machine_late_ms(seen, vouched[k], ages[k]) for k in np.flatnonzero(ages > STALE_MS)
    )
    oldest = float(ages.max()) if len(ages) else float("nan")
    yield _verdict("backlog decoded as now", f"{stale} of {len(ages)}, the oldest {oldest:.0f} ms old", stale == 0)


def _machine_late_ms(seen: Evidence, arrived: float, ms: float) -> float:
    """How late the machine itself was, at worst, in the `ms` before something arrived."""
    at, late_ms = seen.floor[:, 0], seen.floor[:, 1]
    return float(late_ms[(at >= arrived - ms / 1e3) & (at <= arrived)].max(initial=0.0))


def _truth(seen: Evidence) -> Iterator[Verdict]:
    quiet: list[float] = []
    shut: list[float] = []
    full: list[float] = []
    for one in seen.struck:
        if one.kind in ("source paused", "source killed") and one.ended - one.began > TOLD_S:
            quiet.append(_told(seen, one, SHUT))
        elif one.kind in ("limits edited", "disk full") and one.told["state"] in ("ARMED", "REFRACTORY"):
            (shut if one.kind == "limits edited" else full).append(_told(seen, one, STILL))
    yield from _all_within("a silent source is told", quiet, TOLD_S)
    yield from _all_within("edited limits disarm", shut, TOLD_S)
    yield from _all_within("a full disk disarms", full, DISK_TOLD_S)
    yield _none_of(
        "metrics that said otherwise than the status", seen.witness.contradictions, f"of {seen.witness.scrapes} scrapes"
    )


def _told(seen: Evidence, struck: Struck, as_: Iterable[tuple[str, Any]]) -> float:
    """Seconds until one of these was told; infinite where it never was."""
    wanted = tuple(as_)
    before = [(what, value) for at, what, value in seen.witness.told if at < struck.began and what == wanted[0][0]]
    if before and before[-1] in wanted:
        return 0.0
    later = (
        at - struck.began for at, what, value in seen.witness.told if at >= struck.began and (what, value) in wanted
    )
    return min(later, default=float("inf"))


# Memory and tails ----------------------------------------------------------------------------------------------------


def _memory(seen: Evidence) -> Iterator[Verdict]:
    """Of each long life the last quarter beside the one before. Nothing to say in a soak of minutes."""
    grown = []
    for began, pid in seen.service.starts:
        life = np.array([(at - began, mib) for at, of, mib in seen.witness.memory if of == pid])
        if not len(life) or life[-1, 0] < LEAST_LIFE_S:
            continue
        third, last = (life[:, 0] > life[-1, 0] * share for share in (0.5, 0.75))
        grown.append(float(np.median(life[last, 1]) - np.median(life[third & ~last, 1])))
    if grown:
        found = f"grew by {max(grown):.1f} MiB at most, in {len(grown)} lives of over {LEAST_LIFE_S / 60:g} minutes"
        what = f"memory grows by less than {GROWTH_MIB:g} MiB in the last quarter of a life"
        yield _verdict(what, found, max(grown) < GROWTH_MIB)


def _tails(seen: Evidence, heard: Rows) -> Iterator[Verdict]:
    """The decode path while clients misbehave beside its calm self, less what the machine itself was later."""
    good = heard["vouched"] > 0
    at, ms = heard["arrived"][good], heard["total_ms"][good]
    calm, troubled = _apart(at, seen), _during(at, seen.struck, "clients")
    if not (calm.any() and troubled.any()):
        return
    floor_at, floor_ms = seen.floor[:, 0], seen.floor[:, 1]
    rest, noise = floor_ms[_apart(floor_at, seen)], floor_ms[_during(floor_at, seen.struck, "clients")]
    p99, before = float(np.percentile(ms[troubled], 99)), float(np.percentile(ms[calm], 99))
    louder = max(0.0, float(np.percentile(noise, 99) - np.percentile(rest, 99)))
    found = f"{before:.2f} → {p99:.2f} ms, the machine itself {louder:.2f} ms later ({troubled.sum()} predictions)"
    yield _verdict(
        f"misbehaving clients move the decode path's p99 by at most {TAIL_MS:g} ms",
        found,
        p99 - before <= TAIL_MS + louder,
    )


def _during(at: NDArray[np.float64], struck: Iterable[Struck], side: str) -> NDArray[np.bool_]:
    found = np.zeros(len(at), bool)
    for one in struck:
        if one.side == side:
            found |= (at >= one.began) & (at <= one.ended)
    return found


def _apart(at: NDArray[np.float64], seen: Evidence) -> NDArray[np.bool_]:
    """Of every fault, and of every start of the service."""
    found = np.ones(len(at), bool)
    spans = [(one.began, one.ended) for one in seen.struck] + [
        (began, began + APART_S) for began, _ in seen.service.starts
    ]
    for began, ended in spans:
        found &= (at < began) | (at > ended + APART_S)
    return found
