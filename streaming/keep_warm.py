"""A GPU without work slows its clocks, and the window that comes next pays for it. So where none came for a while (a
blank, a gap, a trial's pause, a long hop) it computes one for nothing: a pulse.

A pulse is a step of the decode thread, which then can do nothing else. It is sent only where it would be over, at twice
what a step takes here, before the next window has its last sample, and one at a time: between two, the thread looks
for samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.decoder import Decoder

FORGETS = 0.95  # a step: what a slow one took counts for some tens of steps
SPARE = 2.0  # times what a step takes


class KeepWarm:
    """Of one decoder on a GPU, made and used on the decode thread; warms the decoder up.

    Args:
        idle_s: without work after which a pulse is due; 0: never.
        clock: any steady clock in seconds.
    """

    def __init__(self, decoder: Decoder, idle_s: float, clock: Callable[[], float]) -> None:
        self.decoder, self.pulses = decoder, 0
        self._idle_s, self._clock = idle_s, clock
        self._window = np.zeros((decoder.n_channels, decoder.n_bins), np.float32)
        self._usable = np.ones(decoder.n_channels, bool)
        self._takes_s = 0.0
        self._warm = decoder.warm_up()
        self._step()

    def worked(self, took_s: float) -> None:
        """A window has just been decoded."""
        self._takes_s = max(took_s, FORGETS * self._takes_s)
        self._since = self._clock()

    def look(self, free_s: float) -> None:
        """Nothing is to be decoded for `free_s`: a pulse, if one is due and has room; before that the warm-up, where
        the GPU was busy with another bundle until now."""
        if free_s < SPARE * self._takes_s:
            return
        if not self._warm and self.decoder.warm_up():
            self._warm = True
            return
        if self._idle_s == 0 or self._clock() - self._since < self._idle_s:
            return
        self._step()
        self.pulses += 1

    def _step(self) -> None:
        began = self._clock()
        self.decoder.step(self._window, self._usable)
        self.worked(self._clock() - began)
