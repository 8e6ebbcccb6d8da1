"""What a current does: how far it spreads, what it evokes, whether it is perceived.

Spread and response follow the sizes of the microstimulation literature (1300 µA/mm²; order of magnitude). A percept is
a coin whose odds are linear in ln(current / threshold) and in the mean of s over the 300 ms BEFORE the stimulus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.events import Stimulation
from streaming.participant.anatomy import EVOKED, Anatomy
from streaming.participant.settings import ParticipantSettings

SPREAD_UA_MM2 = 1300.0
HALF_RESPONSE_UA = 40.0
RESPONSE_BINS = 1000  # how long after the onset a response is followed
IGNITION_BINS = 150
IGNITION_ONSET_MS = (120.0, 180.0)


def train(electrode: int, current_ua: float, trial: int | None = None, trigger_id: str | None = None) -> Stimulation:
    """The standard train: 50 biphasic pulses of 170 + 60 + 170 µs at 300 Hz, which ends 163.73 ms after its onset."""
    return Stimulation(
        trial=trial, electrode=electrode, current_ua=current_ua, duration_s=0.167,
        pulses=50, phase_us=170.0, interphase_us=60.0, frequency_hz=300.0, trigger_id=trigger_id,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delivered:
    """A stimulation that the participant received, with the truth about what came of it."""

    stimulation: Stimulation
    number: int  # counts the stimulations of the session
    onset_sample: int
    onset_bin: int
    prestimulus_state: float  # mean of s over the 300 ms before, in standard deviations
    probability: float
    perceived: bool
    ignition_onset_ms: float  # after the stimulus, if there is an ignition


def percept_probability(
    settings: ParticipantSettings,
    current_ua: float | NDArray[np.float64],
    threshold_ua: float | NDArray[np.float64],
    state: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """P(perceived) = γ + (1 - γ - λ) σ(β_I ln(I/T) + β_s s), with γ = λ = `settings.lapse`."""
    current = np.maximum(current_ua, 1e-9)
    odds = settings.beta_current * np.log(current / np.asarray(threshold_ua)) + settings.beta_state * np.asarray(state)
    return np.asarray(settings.lapse + (1 - 2 * settings.lapse) / (1 + np.exp(-odds)))


def spread(anatomy: Anatomy, electrode: int, current_ua: float) -> NDArray[np.float64]:
    """How strongly a current through `electrode` reaches each electrode's place, (96,), 1 at its own."""
    width_mm = 0.3 + np.sqrt(current_ua / SPREAD_UA_MM2)
    return np.asarray(np.exp(-(anatomy.distance_mm(electrode) ** 2) / (2 * width_mm**2)))


def evoked_course(end_ms: float) -> NDArray[np.float64]:
    """Excitation of 20 ms and the suppression of 80 ms that follows it, from the train's end on, (1000,)."""
    after = np.arange(RESPONSE_BINS) - end_ms
    shape = np.exp(-np.maximum(after, 0) / 20) - 0.6 * np.exp(-np.maximum(after, 0) / 80)
    return np.where(after >= 0, shape, 0.0)


def ignition_course(onset_ms: float) -> NDArray[np.float64]:
    """The late wave of a percept, a raised cosine of 150 ms that begins `onset_ms` after the stimulus, (1000,)."""
    phase = np.clip((np.arange(RESPONSE_BINS) - onset_ms) / IGNITION_BINS, 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * phase))


def response(
    settings: ParticipantSettings, anatomy: Anatomy, delivered: Delivered
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Time course (1000, 2), from the onset's bin on, and pattern (2, 96) of the neural response, in units of drive.

    The response is the product of the two, summed over its parts: evoked, and ignition.
    """
    course = np.zeros((RESPONSE_BINS, 2), dtype=np.float32)
    space = np.zeros((2, len(anatomy.state)), dtype=np.float32)
    stimulation = delivered.stimulation
    current, electrode = stimulation.current_ua or 0.0, stimulation.electrode or 1
    if settings.evoked:
        size = EVOKED * current**2 / (current**2 + HALF_RESPONSE_UA**2)
        course[:, 0] = evoked_course(1000 * stimulation.last_pulse_end_s)
        space[0] = size * spread(anatomy, electrode, current)
    if delivered.perceived and settings.ignition:
        course[:, 1] = ignition_course(delivered.ignition_onset_ms)
        space[1] = settings.ignition * anatomy.ignition
    return course, space
