"""What can be chosen about an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.errors import OperatorFault
from streaming.participant.settings import ParticipantSettings
from streaming.plan import Arm
from training.rigs import HOP_BINS

MOST_MINUTES = 115  # of a live session: its limits let it be armed for two hours
SESSIONS_OF_A_SEED = 10_000  # numbers: clear of those that the bundle was fitted on, and of other seeds'


@dataclass(frozen=True, slots=True)
class ExperimentSettings:
    """`trials` are stimulations in each arm, shams not counted. A state counts as favourable for `share` of the time:
    the threshold is the quantile of the running mean over `smoothing_s` in the calibration sessions. A session holds
    `blocks` blocks, each with every arm once. With `minutes` it is one session over LSL in real time, armed for so
    long, or until its plan is done."""

    trials: int = 1000
    arms: tuple[Arm, ...] = ("favourable", "random")
    sham: float = 0.1
    seed: int = 0
    broadband: bool = False
    minutes: float | None = None
    share: float = 0.2
    smoothing_s: float = 0.5
    blocks: int = 56
    hop_bins: int = HOP_BINS
    calibration_sessions: int = 4  # the command takes two at level B, which takes longer to make
    calibration_s: float = 600.0
    ideal: bool = True
    cores: int = 1
    participant: ParticipantSettings = field(default_factory=ParticipantSettings)

    def __post_init__(self) -> None:
        if self.trials < 1 or not 0 <= self.sham < 1 or self.seed < 0 or not 0 < self.share <= 0.5:
            raise OperatorFault(
                f"experiment: found trials {self.trials}, sham {self.sham}, seed {self.seed}, share {self.share}; "
                "expected at least one trial, a sham fraction in [0, 1), a seed from 0 on and a share in (0, 0.5]"
            )
        if self.minutes is not None and not 0 < self.minutes <= MOST_MINUTES:
            raise OperatorFault(
                f"experiment: found {self.minutes:g} minutes, expected more than 0, up to {MOST_MINUTES}"
            )
        if self.participant.ignition:
            raise OperatorFault("experiment: a percept that shows in the envelope (ignition) is not provided for")
