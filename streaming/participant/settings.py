"""What can be chosen about the simulated participant; everything else is measured physiology, said where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.errors import OperatorFault

StateCode = Literal["mixed", "linear", "power"]

N_ELECTRODES = 96
BIN_RATE_HZ = 1000


@dataclass(frozen=True, slots=True)
class ParticipantSettings:
    """One participant (`seed`) on one day, in one session. Equal settings give equal samples. Drift is counted from
    day 0; days before it are as good as those after.

    `state_code` says how the excitability s shows in the MUA: `linear` in its mean, `power` only in the amplitude of a
    25 Hz travelling wave (every linear readout is at chance), `mixed` half of each. In a linear Gaussian world PCA is
    near-optimal, so a result that a network beats PCA here must say which code it was won on.
    `ignition` is κ of the late pattern that follows a percept; 0 means that the window after a stimulus tells of the
    report only through s, the current and the electrode.
    """

    seed: int = 0
    day: int = 0
    session: int = 0
    rate_hz: int = 30_000
    state_code: StateCode = "mixed"
    beta_state: float = 1.25  # log odds of a percept per standard deviation of the pre-stimulus state
    beta_current: float = 3.0  # log odds per unit of ln(current)
    ignition: float = 0.0
    lapse: float = 0.02  # both γ (false alarms) and λ (misses)
    median_threshold_ua: float = 30.0
    threshold_spread: float = 0.45  # standard deviation of ln(threshold) over electrodes
    evoked: bool = True  # neural response to a stimulus
    artifacts: bool = True  # electrical response to a stimulus
    fast_settle: bool = True  # the amplifier is short-circuited after pulses on the stimulated electrode
    faults: bool = False  # dead and shorted electrodes, lost packets

    def __post_init__(self) -> None:
        if min(self.seed, self.session) < 0:
            raise OperatorFault(f"found seed, session {self.seed}, {self.session}; expected no negative")
        if self.rate_hz % BIN_RATE_HZ or not 15_000 <= self.rate_hz <= 40_000:
            raise OperatorFault(f"found rate_hz {self.rate_hz}, expected a multiple of 1000 from 15000 to 40000")

    @property
    def samples_per_bin(self) -> int:
        return self.rate_hz // BIN_RATE_HZ
