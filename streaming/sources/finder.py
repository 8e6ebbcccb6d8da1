"""Looks for LSL streams for as long as it takes.

In a few live runs on a busy machine an event stream that other processes heard was never found; why, we do not know. So
a resolver that has found nothing for a while is replaced by a new one, which costs a millisecond.
"""

from __future__ import annotations

import pylsl

RENEW_S = 5.0


class Finder:
    """What matches an LSL predicate, now; a stream that went away is forgotten after `forget_after_s`."""

    def __init__(self, predicate: str, forget_after_s: float = 5.0) -> None:
        self.predicate = predicate
        self._forget_after_s = forget_after_s
        self._begin()

    def found(self) -> dict[str, pylsl.StreamInfo]:
        """The streams by uid. Never waits."""
        streams = {stream.uid(): stream for stream in self._resolver.results()}
        if streams:
            self._renew_at = pylsl.local_clock() + RENEW_S
        elif pylsl.local_clock() > self._renew_at:
            self._begin()
        return streams

    def _begin(self) -> None:
        self._resolver = pylsl.ContinuousResolver(pred=self.predicate, forget_after=self._forget_after_s)
        self._renew_at = pylsl.local_clock() + RENEW_S
