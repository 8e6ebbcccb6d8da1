"""Data sets of the simulated participant: NWB files by the contract, one a session, a day between them.

A session is walked twice, since equal settings give equal samples: first without an instrument, to know its trials,
then while the file is written, a second of samples at a time, so that memory does not grow with the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.data_utils import DataChunkIterator
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, NWBFile
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject

from models.errors import OperatorFault
from streaming.events import Report, Stimulation
from streaming.participant.broadband import COUNT_UV, Broadband
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.session import Session
from streaming.participant.settings import BIN_RATE_HZ, N_ELECTRODES, ParticipantSettings
from streaming.participant.trials import Protocol

Level = Literal["A", "B"]
Progress = Callable[[str], None]

FIRST_DAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)  # of the simulated calendar
BEFORE_ONSET_S = 1.0  # a trial begins so long before its stimulus


@dataclass(frozen=True, slots=True)
class AnsweredTrial:
    """One row of the trials table; times in seconds from the session's start."""

    onset_s: float
    stop_s: float
    stimulation: Stimulation
    perceived: bool


def write_dataset(
    out: Path,
    protocol: Protocol,
    settings: ParticipantSettings | None = None,
    sessions: int = 1,
    minutes: float = 3.5,
    level: Level = "B",
    progress: Progress = lambda line: None,
) -> list[Path]:
    """Write `sessions` sessions of `minutes` each, from the day of `settings` on, one a day. Nothing is overwritten.

    Level B is the broadband as int16 counts (350 MB a minute before compression), level A the 1 kHz envelope (23 MB).

    Raises:
        OperatorFault: a file is already there.
    """
    settings = settings or ParticipantSettings()
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for day in range(settings.day, settings.day + sessions):
        today = replace(settings, day=day)
        path = out / f"simulated-{settings.seed}_day-{day:03d}_{protocol}.nwb"
        if path.exists():
            raise OperatorFault(f"{path}: already there; remove it or name another folder")
        draft = path.with_suffix(".part")
        answered = session_trials(today, protocol, 60 * minutes)
        try:
            _write(draft, today, protocol, 60 * minutes, level, answered)
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)
        paths.append(path)
        progress(f"{path.name}: {minutes:g} min, {len(answered)} trials")
    return paths


def session_trials(settings: ParticipantSettings, protocol: Protocol, seconds: float) -> list[AnsweredTrial]:
    """The trials that a session of this length will hold: percepts rest on the hidden state, not on an instrument."""
    session = Session(Participant(settings), protocol, seconds)
    stimulations: dict[int | None, tuple[int, Stimulation]] = {}
    answered = []
    for sample, event in session.advance(round(seconds * settings.rate_hz)):
        if isinstance(event, Report):
            onset, stimulation = stimulations[event.trial]
            rate = settings.rate_hz
            answered.append(AnsweredTrial(onset / rate, sample / rate, stimulation, event.perceived))
        else:
            stimulations[event.trial] = sample, event
    return answered


def recorded(
    settings: ParticipantSettings, protocol: Protocol, seconds: float, level: Level
) -> Iterator[NDArray[np.generic]]:
    """A session's signal, a second at a time: counts (30000, 96) int16, or the envelope (1000, 96) float32 in µV."""
    participant = Participant(settings)
    session = Session(participant, protocol, seconds)
    broadband, envelope = Broadband(participant), LevelA(participant)
    end = round(seconds * BIN_RATE_HZ) * settings.samples_per_bin
    while session.position < end:
        n = min(settings.rate_hz, end - session.position)
        session.advance(n)
        yield broadband.read_counts(n) if level == "B" else envelope.read(n // settings.samples_per_bin)


def _write(
    path: Path,
    settings: ParticipantSettings,
    protocol: Protocol,
    seconds: float,
    level: Level,
    answered: list[AnsweredTrial],
) -> None:
    nwb = NWBFile(
        session_description=f"simulated participant {settings}, protocol {protocol}, level {level}",
        identifier=f"simulated-{settings.seed}-{settings.day}-{settings.session}-{protocol}-{level}",
        session_start_time=FIRST_DAY + timedelta(days=settings.day, hours=settings.session),
        session_id=f"day-{settings.day}",
        subject=Subject(subject_id="simulated", species="Homo sapiens", description="does not exist"),
    )
    electrodes = _electrodes(nwb, settings)
    rows = recorded(settings, protocol, seconds, level)
    rate = settings.rate_hz if level == "B" else BIN_RATE_HZ
    data = DataChunkIterator(
        data=(row for second in rows for row in second),
        buffer_size=rate,
        maxshape=(None, N_ELECTRODES),
        dtype=np.dtype(np.int16 if level == "B" else np.float32),
    )
    series = ElectricalSeries(
        name="Broadband" if level == "B" else "MUA",
        data=H5DataIO(data, chunks=(rate, N_ELECTRODES)),
        electrodes=electrodes,
        rate=float(rate),
        starting_time=0.0,
        conversion=1e-6 * (COUNT_UV if level == "B" else 1.0),
        description="raw counts" if level == "B" else "multi-unit envelope before normalisation",
    )
    if level == "B":
        nwb.add_acquisition(series)
    else:
        nwb.create_processing_module("ecephys", "derived signals").add(series)
    _add_trials(nwb, answered)
    with h5py.File(path, "w") as file, NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwb)


def _electrodes(nwb: NWBFile, settings: ParticipantSettings) -> object:
    """Fill the electrodes table; the region of all of them."""
    array = nwb.create_electrode_group("array", "10 × 10, 0.4 mm", "V1", nwb.create_device("simulated Utah array"))
    nwb.add_electrode_column("label", "as printed on the array")
    places = Participant(settings).anatomy.map
    assert places.positions is not None
    for label, (x, y) in zip(places.labels, places.positions, strict=True):
        nwb.add_electrode(group=array, location="V1", label=label, rel_x=x, rel_y=y)
    return nwb.create_electrode_table_region(list(range(N_ELECTRODES)), "all electrodes")


def _add_trials(nwb: NWBFile, answered: list[AnsweredTrial]) -> None:
    if not answered:
        return
    columns = {
        "stim_onset": "first pulse, s",
        "stim_duration": "of the train, s",
        "stim_electrode": "1-based",
        "current_ua": "µA",
        "perceived": "what the participant reported",
        "pulses": "of the train",
        "phase_us": "of one phase, µs",
        "interphase_us": "between the two phases, µs",
        "frequency_hz": "of the pulses",
    }
    for name, description in columns.items():
        nwb.add_trial_column(name, description)
    for trial in answered:
        nwb.add_trial(
            start_time=trial.onset_s - BEFORE_ONSET_S,
            stop_time=trial.stop_s,
            stim_onset=trial.onset_s,
            stim_duration=trial.stimulation.duration_s,
            stim_electrode=trial.stimulation.electrode,
            current_ua=trial.stimulation.current_ua,
            perceived=trial.perceived,
            pulses=trial.stimulation.pulses,
            phase_us=trial.stimulation.phase_us,
            interphase_us=trial.stimulation.interphase_us,
            frequency_hz=trial.stimulation.frequency_hz,
        )
