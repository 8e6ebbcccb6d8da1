"""What the loop is closed around: a simulated participant, an instrument, and the code that serves.

    EnvelopeRig     level A: the 1 kHz envelope through the normaliser and the decoder that serve
    BroadbandRig    level B: broadband through the signal chain and the pipeline that serve

The pulse begins a fixed delay behind the newest sample, as live; at level A the 3.5 ms that the signal chain would have
taken are part of it.
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from models.decoder import Decoder
from models.errors import OperatorFault
from streaming.chunk import Chunk
from streaming.events import Stimulation
from streaming.expected import EXPECT_S
from streaming.limits import Pattern
from streaming.matching import decoding_settings, why_not_calibrated
from streaming.participant.broadband import Broadband
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.session import Session
from streaming.participant.settings import BIN_RATE_HZ, ParticipantSettings
from streaming.participant.source import stream_info
from streaming.participant.stimulation import Delivered
from streaming.participant.trials import Protocol as Schedule
from streaming.pipeline import Pipeline
from streaming.predictions import Flag, Latency, Prediction
from streaming.signal.normaliser import Normaliser
from streaming.signal.settings import ChainSettings

HOP_BINS = 40  # windows of 128 bins then overlap by two thirds; each costs a millisecond of inference
INFERENCE_S = 0.0015  # newest bin to pulse: hand-over and int8 inference, docs/performance.md
CHAIN_S = 0.0035  # group delay of the signal chain, which level A does not have
NO_LATENCY = Latency(0.0, 0.0, 0.0, 0.0)  # there is no clock here


class Blanked:
    """Which bins a train makes unusable: as the signal chain blanks them, and settles behind."""

    def __init__(self, chain: ChainSettings, rate_hz: int) -> None:
        self._chain, self._rate = chain, rate_hz
        self._stretches: list[tuple[int, int]] = []

    def add(self, delivered: Delivered) -> None:
        chain, onset_s = self._chain, delivered.onset_sample / self._rate
        end_s = onset_s + delivered.stimulation.last_pulse_end_s + chain.blank_after_s + chain.blank_settle_s
        first = int((onset_s - chain.blank_before_s) * BIN_RATE_HZ)
        self._stretches = [*self._stretches[-8:], (first, int(np.ceil(end_s * BIN_RATE_HZ)))]

    def bins(self, first: int, n: int) -> NDArray[np.bool_]:
        """bool (n,) of the bins from `first` on."""
        bad = np.zeros(n, bool)
        for start, end in self._stretches:
            bad[max(0, start - first) : max(0, end - first)] = True
        return bad


class EnvelopeRig:
    """Level A. The stimulated participant's envelope, hop by hop, through normaliser, window and decoder.

    Raises:
        OperatorFault: the bundle was not fitted to this participant.
    """

    def __init__(
        self,
        settings: ParticipantSettings,
        decoder: Decoder,
        hop_bins: int = HOP_BINS,
        schedule: Schedule = "rest",
    ) -> None:
        participant = Participant(settings)
        self.session = Session(participant, schedule)
        self._decoder, self._hop = decoder, hop_bins
        info = stream_info(participant, "level A")
        refuse_stranger(decoder, participant)
        served = decoding_settings(decoder.manifest, info, hop_s=hop_bins / BIN_RATE_HZ)
        self._envelope = LevelA(participant)
        self._normaliser = Normaliser(served.chain.normaliser, served.n_channels, served.frozen)
        self._mask = np.ones(served.n_channels, bool) if served.mask is None else served.mask
        self._history = 0 if served.frozen is not None else round(served.chain.normaliser.window_s * BIN_RATE_HZ)
        self._settled = round(served.chain.normaliser.min_history_s * BIN_RATE_HZ)
        self._z = np.zeros((served.n_bins, served.n_channels), np.float32)
        self._blanked = Blanked(served.chain, settings.rate_hz)
        self._heard = 0  # of the session's stimulations
        self._seq = count()

    def look(self) -> Prediction:
        settings, hop, n_bins = self.session.participant.settings, self._hop, len(self._z)
        first = self.session.position // settings.samples_per_bin
        self.session.advance(hop * settings.samples_per_bin)
        self._hear()
        bad = self._blanked.bins(first, hop)
        usable = np.broadcast_to(self._mask, (hop, len(self._mask)))
        z = self._normaliser.push(self._envelope.read(hop), ~bad, usable)
        self._z = np.concatenate([self._z[hop:], z[-n_bins:]])
        end = first + hop
        flags: tuple[Flag, ...] = ()
        if self._blanked.bins(end - n_bins, n_bins).any():
            flags = ("blanking",)
        elif end - n_bins < self._settled:
            flags = ("settling",)
        probability = None
        if not flags:
            probability = self._decoder.step(np.ascontiguousarray(self._z.T), self._mask).prestimulus
        return prediction_of(
            next(self._seq), end, settings, self._decoder.name, probability, flags, int(self._mask.sum()),
            end >= self._history,
        )  # fmt: skip

    def stimulate(self, pattern: Pattern, trigger_id: str) -> Delivered:
        return give(self.session, pattern, trigger_id, CHAIN_S + INFERENCE_S)

    def _hear(self) -> None:
        delivered = self.session.participant.delivered
        for one in delivered[self._heard :]:
            self._blanked.add(one)
        self._heard = len(delivered)


class BroadbandRig:
    """Level B: broadband, signal chain and pipeline as the service runs them; the marker comes with its samples."""

    def __init__(
        self,
        settings: ParticipantSettings,
        decoder: Decoder,
        hop_bins: int = HOP_BINS,
        schedule: Schedule = "rest",
    ) -> None:
        participant = Participant(settings)
        self.session = Session(participant, schedule)
        self._decoder, self._broadband = decoder, Broadband(participant)
        info = stream_info(participant, "level B")
        refuse_stranger(decoder, participant)
        seq = count()
        served = decoding_settings(decoder.manifest, info, hop_s=hop_bins / BIN_RATE_HZ)
        self._pipeline = Pipeline(served, info, lambda: next(seq))
        self._samples = hop_bins * settings.samples_per_bin

    def look(self) -> Prediction:
        rate = self.session.participant.settings.rate_hz
        while True:
            first = self.session.position
            events = self.session.advance(self._samples)
            for sample, event in events:
                if isinstance(event, Stimulation):
                    self._pipeline.stimulation(sample, event)
            newest_s = (first + self._samples) / rate
            due = self._pipeline.push(Chunk(self._broadband.read(self._samples), first, newest_s, newest_s))
            if due:
                return self._pipeline.decode(due[-1], self._decoder, 0.0, 0.0, lambda: 0.0)

    def stimulate(self, pattern: Pattern, trigger_id: str) -> Delivered:
        self._pipeline.expect_stimulation(self._pipeline.chain.next_sample, EXPECT_S)
        return give(self.session, pattern, trigger_id, INFERENCE_S)


def give(session: Session, pattern: Pattern, trigger_id: str, delay_s: float) -> Delivered:
    """The train begins `delay_s` behind the newest sample; the session must not be busy, which refractory ensures."""
    onset = session.position + round(delay_s * session.participant.settings.rate_hz)
    delivered = session.stimulate(pattern.electrode, pattern.current_ua, trigger_id, onset)
    if delivered is None:
        raise AssertionError(f"{trigger_id}: a train while another one runs")
    return delivered


def prediction_of(
    seq: int,
    end_bin: int,
    settings: ParticipantSettings,
    model: str,
    probability: float | None,
    flags: tuple[Flag, ...],
    usable: int,
    full_history: bool,
) -> Prediction:
    """As the pipeline gives it, of a window that ends before `end_bin`."""
    end = end_bin * settings.samples_per_bin
    return Prediction(
        seq=seq,
        source="simulated",
        sample_time=end / settings.rate_hz,
        last_sample=end - 1,
        epoch=0,
        mode="continuous",
        trial=None,
        model=model,
        probability=probability,
        embedding=None,
        usable_channels=usable,
        flags=flags,
        latency_ms=NO_LATENCY,
        full_history=full_history,
    )


def refuse_stranger(decoder: Decoder, participant: Participant) -> None:
    """Raises OperatorFault where the bundle's probabilities do not hold for this participant."""
    reason = why_not_calibrated(decoder.manifest, stream_info(participant, "simulated"))
    if reason:
        raise OperatorFault(f"{decoder.name}: {reason}; name a bundle that was fitted to this simulated participant")
