"""A session that the service ran in real time, told as the loop without a clock tells its own. Pure.

What was decided stands in the service's journal, what was given in the participant's own log, and what was answered in
the report markers, which the journal holds too. The truth of the log is for the report alone: it was on no wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import RigFault
from streaming.participant.participant import Participant
from training.closed_loop import Row, Walked
from training.experiment_sessions import EXCERPT_S, Job

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a session left behind.

    Args:
        journal: (kind, fields) of every row, in their order.
        given: a line for each train, see SimulatedRig.
        predictions: (sample time on the LSL clock, the bundle's probability or None) of each window.
        began, ended: when it was armed and disarmed, on the LSL clock.
        told: what the report says of it beside its trials: latency, interruptions.
    """

    journal: list[tuple[str, Fields]]
    given: list[Fields]
    predictions: list[tuple[float, float | None]]
    began: float
    ended: float
    told: Fields


Live = Callable[[Job, Path, Callable[[str], None]], Seen]  # runs the session of a job, its files in that folder


def walked(job: Job, seen: Seen, after: Callable[[float], float]) -> Walked:
    """The session's trials, in samples of the participant. `after` recalibrates a probability of the bundle's.

    Raises:
        RigFault: not one train was given.
    """
    if not seen.given:
        raise RigFault(f"the session gave no train, and ended because {seen.told['ended']}")
    settings = job.participant
    participant = Participant(settings)
    first = seen.given[0]
    t0 = first["t_mono"] - first["onset_sample"] / settings.rate_hz  # the LSL time of sample 0
    onsets, answers = {one["trigger_id"]: one for one in seen.given}, _answers(seen.journal)

    def sample_at(lsl_time: float) -> int:
        return round((lsl_time - t0) * settings.rate_hz)

    def state_at(sample: int) -> float:
        return participant.latent.prestimulus(sample // settings.samples_per_bin)

    rows = []
    for kind, fields in seen.journal:
        given = onsets.get(fields.get("trigger_id"))
        if kind != "trigger" or fields["refused"] or (given is None and not fields["sham"]):
            continue
        newest = sample_at(fields["sample_time"])
        onset = newest + 1 if given is None else given["onset_sample"]
        rows.append(
            Row(
                session=job.number,
                trial=fields["trial"],
                arm=fields["arm"],
                sham=fields["sham"],
                electrode=fields["electrode"],
                current_ua=fields["current_ua"],
                charge_uc=0.0 if given is None else fields["train_charge_uc"],
                sample=newest,
                onset_sample=onset,
                probability=after(fields["probability"]),
                waited_s=fields["waited_s"],
                perceived=answers.get(fields["trigger_id"]),
                truth=settings.lapse if given is None else given["probability"],
                state=state_at(onset) if given is None else given["state"],
            )
        )
    until = seen.began + EXCERPT_S
    excerpt = [
        (time - t0, None if p is None else after(p), state_at(sample_at(time)))
        for time, p in seen.predictions
        if t0 < time <= until
    ]
    complete = job.plan is not None and len(rows) == len(job.plan.trials)
    return Walked(tuple(rows), seen.ended - t0, complete, len(seen.predictions), tuple(excerpt), ())


def _answers(journal: Iterable[tuple[str, Fields]]) -> dict[str, bool]:
    """By trigger id. The rig's `stim` marker names the trigger and gives it a trial's number; the report names that."""
    numbers: dict[int, str] = {}
    answers: dict[str, bool] = {}
    for kind, fields in journal:
        if kind == "stimulation" and fields["trigger_id"] is not None:
            numbers[fields["trial"]] = fields["trigger_id"]
        elif kind == "report" and fields["trial"] in numbers:
            answers[numbers[fields["trial"]]] = fields["perceived"]
    return answers
