"""The simulated participant: a hidden state, an anatomy, and the stimulations received so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.events import Stimulation
from streaming.participant import draws
from streaming.participant.anatomy import Anatomy, anatomy
from streaming.participant.latent import BLOCK_BINS, Latent
from streaming.participant.settings import N_ELECTRODES, ParticipantSettings
from streaming.participant.stimulation import (
    IGNITION_ONSET_MS,
    RESPONSE_BINS,
    Delivered,
    percept_probability,
    response,
)

RESPONSES_HELD = 8


class Participant:
    """Who is recorded. `LevelA` and `Broadband` are two instruments that look at one participant.

    What was handed out never changes: a stimulation must lie at or after `horizon_sample`, the first sample that no
    instrument has handed out yet.
    """

    def __init__(self, settings: ParticipantSettings | None = None) -> None:
        self.settings = settings or ParticipantSettings()
        self.anatomy: Anatomy = anatomy(self.settings)
        self.latent = Latent(self.settings)
        self.delivered: list[Delivered] = []  # in order of onset
        self.horizon_sample = 0
        self._responses: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._drive_index, self._drive_block = -1, np.empty(0, dtype=np.float32)

    def stimulate(self, stimulation: Stimulation, onset_sample: int) -> Delivered:
        """Receive a train that begins at `onset_sample`; the answer holds the truth about the percept.

        Raises:
            ValueError: the onset lies in what was already handed out, before an earlier train, or the train is not
                fully described.
        """
        if onset_sample < self.horizon_sample or (self.delivered and onset_sample < self.delivered[-1].onset_sample):
            raise ValueError(f"stimulation at sample {onset_sample}: found samples handed out or a train after it")
        electrode, current = stimulation.electrode, stimulation.current_ua
        if electrode is None or not 1 <= electrode <= N_ELECTRODES or current is None:
            raise ValueError(f"stimulation needs a current and an electrode from 1 to {N_ELECTRODES}: {stimulation}")
        number = len(self.delivered)
        rng = draws.at(self.settings.seed, "percept", self.settings.day, self.settings.session, number)
        onset_bin = onset_sample // self.settings.samples_per_bin
        state = self.latent.prestimulus(onset_bin) + self.anatomy.truth.state_offset
        threshold = float(self.anatomy.threshold_ua[electrode - 1])
        probability = float(percept_probability(self.settings, current, threshold, state))
        perceived = bool(rng.random() < probability)
        delivered = Delivered(
            stimulation, number, onset_sample, onset_bin, state, probability, perceived, rng.uniform(*IGNITION_ONSET_MS)
        )
        self.delivered.append(delivered)
        return delivered

    def handed_out(self, end_sample: int) -> None:
        """An instrument has handed out all samples before `end_sample`."""
        self.horizon_sample = max(self.horizon_sample, end_sample)

    def within(self, first_bin: int, n: int) -> list[Delivered]:
        """Stimulations that can be felt in the bins [first_bin, first_bin + n)."""
        felt = []
        for delivered in reversed(self.delivered):
            if delivered.onset_bin + 2 * RESPONSE_BINS <= first_bin:
                break
            if delivered.onset_bin < first_bin + n:
                felt.append(delivered)
        return felt[::-1]

    def drive(self, first_bin: int, n: int) -> NDArray[np.float32]:
        """The latent rate that both levels share, as a fraction of the resting envelope, (n, 96): its mean is 0.

        C x + c s + a(s) P x, and the responses to stimulations. Rhythms come in whole blocks, so that their matrix
        products do not depend on how reading is cut.
        """
        out = np.empty((n, N_ELECTRODES), dtype=np.float32)
        done = 0
        while done < n:
            index, offset = divmod(first_bin + done, BLOCK_BINS)
            part = self._spontaneous(index)[offset : offset + n - done]
            out[done : done + len(part)] = part
            done += len(part)
        for delivered in self.within(first_bin, n):
            start = delivered.onset_bin - first_bin
            lo, hi = max(0, start), min(n, start + RESPONSE_BINS)
            if lo < hi:
                course, space = self._response(delivered)
                course = course[lo - start : hi - start]
                out[lo:hi] += course[:, :1] * space[0] + course[:, 1:] * space[1]
        return out

    def _response(self, delivered: Delivered) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The response to `delivered`; the newest few are held."""
        if delivered.number not in self._responses:
            while len(self._responses) >= RESPONSES_HELD:
                del self._responses[next(iter(self._responses))]
            self._responses[delivered.number] = response(self.settings, self.anatomy, delivered)
        return self._responses[delivered.number]

    def _spontaneous(self, index: int) -> NDArray[np.float32]:
        if index != self._drive_index:
            a = self.anatomy
            block = self.latent.block(index)
            s, x = block[:, :1] + a.truth.state_offset, block[:, 2:]
            drive = x @ a.rhythm.T + s * a.state + np.exp(a.state_on_wave * s) * (x @ a.wave.T)
            self._drive_index, self._drive_block = index, drive.astype(np.float32)
        return self._drive_block
