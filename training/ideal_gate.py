"""The yardstick: the same gate driven by the ideal observer O2, who sees the window and knows the participant by heart.

What a train evokes is known to him exactly, so he subtracts it, and what is left is the envelope as it would have been
without any train: his belief at each hop can be computed ahead for a whole session, and does not hang on when the gate
fires. Windows that a train blanks are null for him too. He gates on the probability of a percept at a current that is
exactly at threshold: the electrode and current of a trial are given, and only the state is to be waited for.
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from streaming.limits import Limits, Pattern
from streaming.participant.latent import PRESTIMULUS_BINS, prestimulus_sd, state_autocovariance
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.session import Session
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import Delivered, percept_probability
from streaming.participant.window_observer import PRIOR, STATES, WINDOW_BINS, WindowObserver
from streaming.plan import Plan
from streaming.predictions import Flag, Prediction
from streaming.signal.settings import ChainSettings
from streaming.trigger import TriggerSettings
from training.closed_loop import Walked, walk
from training.rigs import CHAIN_S, HOP_BINS, INFERENCE_S, Blanked, give, prediction_of

WINDOWS_AT_ONCE = 500
BISECTIONS = 12
HIGHEST = 0.97  # of a threshold


def believed(settings: ParticipantSettings, seconds: float, hop_bins: int = HOP_BINS) -> NDArray[np.float64]:
    """P(percept at the threshold current | window) for each hop of a session, NaN until a window is full."""
    participant = Participant(settings)
    observer, envelope = WindowObserver(settings, participant.anatomy), LevelA(participant)
    percept = _percept_given_state(settings, participant.anatomy.truth.state_offset)
    n_hops = round(seconds * 1000) // hop_bins
    found = np.full(n_hops, np.nan)
    held = np.empty((0, len(participant.anatomy.state)), np.float32)
    for first in range(0, n_hops, WINDOWS_AT_ONCE):
        hops = np.arange(first, min(first + WINDOWS_AT_ONCE, n_hops))
        held = np.concatenate([held[-WINDOW_BINS:], envelope.read(len(hops) * hop_bins)])
        ends = (hops + 1) * hop_bins - (hops[-1] + 1) * hop_bins + len(held)  # rows of `held`
        whole = (hops + 1) * hop_bins >= WINDOW_BINS
        windows = np.stack([held[end - WINDOW_BINS : end] for end in ends[whole]])
        log = observer.log_likelihood(windows)
        posterior = PRIOR * np.exp(log - log.max(axis=1, keepdims=True))
        found[hops[whole]] = posterior @ percept / posterior.sum(axis=1)
    return found


def _percept_given_state(settings: ParticipantSettings, state_offset: float) -> NDArray[np.float64]:
    """P(percept | s in the window), (41,), at the threshold current: the mean of s over the 300 ms before the pulse is
    normal given s in the 128 ms before it."""
    before, window = np.arange(-PRESTIMULUS_BINS, 0), np.arange(-WINDOW_BINS, 0)
    covariance = state_autocovariance(np.abs(before[:, None] - window[None])).mean() / prestimulus_sd()
    points, weight = np.polynomial.hermite_e.hermegauss(15)
    state = covariance * STATES[:, None] + np.sqrt(1 - covariance**2) * points + state_offset
    return np.asarray(percept_probability(settings, 1.0, 1.0, state) @ weight / weight.sum())


class IdealRig:
    """Beliefs computed ahead, at the hops of a session; see Rig."""

    def __init__(
        self,
        settings: ParticipantSettings,
        beliefs: NDArray[np.float64],
        chain: ChainSettings,
        hop_bins: int = HOP_BINS,
    ) -> None:
        self.session = Session(Participant(settings), "rest")
        self._beliefs, self._hop = beliefs, hop_bins
        self._history = round(chain.normaliser.window_s * 1000)
        self._blanked = Blanked(chain, settings.rate_hz)
        self._seq = count()

    @property
    def seconds(self) -> float:
        return len(self._beliefs) * self._hop / 1000

    def look(self) -> Prediction:
        settings, seq = self.session.participant.settings, next(self._seq)
        self.session.advance(self._hop * settings.samples_per_bin)
        end = (seq + 1) * self._hop
        belief = float(self._beliefs[seq])
        flags: tuple[Flag, ...] = ()
        if self._blanked.bins(end - WINDOW_BINS, WINDOW_BINS).any():
            flags = ("blanking",)
        elif np.isnan(belief):
            flags = ("settling",)
        probability = None if flags else belief
        n = len(self.session.participant.anatomy.state)
        return prediction_of(seq, end, settings, "ideal", probability, flags, n, end >= self._history)

    def stimulate(self, pattern: Pattern, trigger_id: str) -> Delivered:
        delivered = give(self.session, pattern, trigger_id, CHAIN_S + INFERENCE_S)
        self._blanked.add(delivered)
        return delivered


def gate_alike(
    sessions: list[tuple[ParticipantSettings, NDArray[np.float64], Plan]],
    limits: Limits,
    chain: ChainSettings,
    wait_s: float,
    like: TriggerSettings,
    smoothing_s: float,
    hop_bins: int = HOP_BINS,
) -> tuple[TriggerSettings, list[Walked]]:
    """The ideal observer's trials at the threshold by which they wait `wait_s` in the mean, as ours did, all else being
    equal: refractory, dwell, plan. The search sees waits and never a percept."""

    def at(p_on: float) -> tuple[TriggerSettings, list[Walked]]:
        thresholds = TriggerSettings(
            p_on=p_on, p_off=max(0.5, p_on - (like.p_on - like.p_off)), dwell_hops=like.dwell_hops,
            smoothing_s=smoothing_s,
        )  # fmt: skip
        walked = []
        for number, (settings, beliefs, plan) in enumerate(sessions):
            rig = IdealRig(settings, beliefs, chain, hop_bins)
            walked.append(walk(rig, number, limits, plan, thresholds, 1, longest_s=rig.seconds))
        return thresholds, walked

    low, high = 0.501, HIGHEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _mean_wait_s(at(middle)[1]) < wait_s:
            low = middle
        else:
            high = middle
    return at((low + high) / 2)


def _mean_wait_s(walked: list[Walked]) -> float:
    waits = [row.waited_s for one in walked for row in one.rows]
    return float(np.mean(waits)) if waits else float("inf")
