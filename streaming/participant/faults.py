"""What goes wrong between the amplifier and us when `faults` is on: lost packets, and a clock that once jumps.

Dead and shorted electrodes are faults of the array and live in `broadband`.
"""

from __future__ import annotations

from streaming.participant import draws
from streaming.participant.settings import ParticipantSettings

LOSS = 1e-5  # of the packets, 1 ms each
CLOCK_JUMP_S = 2e-3
CLOCK_JUMP_AFTER_S = (60.0, 600.0)


class Transport:
    """Which packets arrive and how their stamps err; perfect without `faults`."""

    def __init__(self, settings: ParticipantSettings) -> None:
        path = (settings.seed, settings.day, settings.session)
        self._key = draws.word(*path, "loss")
        self._faults = settings.faults
        self._per_bin = settings.samples_per_bin
        self._jump_sample = settings.rate_hz * draws.at(*path, "clock jump").uniform(*CLOCK_JUMP_AFTER_S)

    def arrives(self, first_sample: int, n_samples: int) -> int:
        """How many of the next samples arrive before the first lost packet."""
        if self._faults:
            for packet in range(first_sample // self._per_bin, (first_sample + n_samples - 1) // self._per_bin + 1):
                if draws.uniform(self._key, packet) < LOSS:
                    return max(0, packet * self._per_bin - first_sample)
        return n_samples

    def lost(self, sample: int) -> int:
        """How many samples from `sample` on lie in a lost packet."""
        return 0 if self.arrives(sample, 1) else self._per_bin - sample % self._per_bin

    def stamp_error_s(self, sample: int) -> float:
        """What the sender's clock adds to the stamp of `sample`."""
        return CLOCK_JUMP_S if self._faults and sample >= self._jump_sample else 0.0
