"""The sessions of an experiment, each by itself: in a process of its own where there are cores."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.decoder import Decoder
from models.onnx_decoder import open_bundle
from streaming.limits import Limits
from streaming.participant.settings import ParticipantSettings
from streaming.plan import Plan
from streaming.trigger import TriggerSettings
from training.closed_loop import Rig, Walked, walk
from training.experiment_settings import SESSIONS_OF_A_SEED, ExperimentSettings
from training.ideal_gate import believed
from training.recalibration import BeforeTrial, Recalibrated, before_trials
from training.rigs import BroadbandRig, EnvelopeRig

EXCERPT_S = 75.0


@dataclass(frozen=True, slots=True)
class Job:
    bundle: Path
    settings: ExperimentSettings
    number: int
    plan: Plan | None = None
    limits: Limits | None = None
    thresholds: TriggerSettings | None = None
    slope: float = 1.0
    offset: float = 0.0
    seconds: float = 0.0

    @property
    def participant(self) -> ParticipantSettings:
        return replace(self.settings.participant, session=SESSIONS_OF_A_SEED * (self.settings.seed + 1) + self.number)


@functools.lru_cache(maxsize=1)
def decoder_of(bundle: Path) -> Decoder:
    return open_bundle(bundle)


def calibrate(job: Job) -> list[BeforeTrial]:
    rig_of = BroadbandRig if job.settings.broadband else EnvelopeRig
    rig = rig_of(job.participant, decoder_of(job.bundle), job.settings.hop_bins, "threshold")
    return before_trials(rig, job.settings.calibration_s, job.settings.smoothing_s)


def run(job: Job) -> Walked:
    plan, limits, thresholds = job.plan, job.limits, job.thresholds
    assert isinstance(plan, Plan)
    assert limits is not None
    assert thresholds is not None
    decoder = Recalibrated(decoder_of(job.bundle), job.slope, job.offset)
    rig_of = BroadbandRig if job.settings.broadband else EnvelopeRig
    rig: Rig = rig_of(job.participant, decoder, job.settings.hop_bins)
    excerpt_s = EXCERPT_S if job.number == 0 else 0.0
    least = decoder.manifest.min_usable_channels
    return walk(rig, job.number, limits, plan, thresholds, least, excerpt_s)


def believe(job: Job) -> NDArray[np.float64]:
    return believed(job.participant, job.seconds, job.settings.hop_bins)
