"""The windows of one connection once more, from a recording, with every marker told when it was told then.

Samples are cut so that each piece ends with a window, or where a marker or mask was told. How they were cut then does
not matter, but which window was decoded before which marker does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.decoder import Decoder
from models.errors import OperatorFault
from server.journal.session import Connection, Mask, Train
from streaming.chunk import Chunk
from streaming.expected import EXPECT_S
from streaming.matching import decoding_settings
from streaming.pipeline import TRAINS_KEPT, Due, Pipeline
from streaming.predictions import Prediction
from streaming.sources.alignment import SampleReader, find_row
from streaming.sources.recorded import Recording


class Windows:
    """One after the other, as they became due.

    Args:
        connection: what began, and what was told while it lasted.
        recording: of the same samples.
        first: the connection's first sample, as the recording counts.
        decoder: its bundle.
        next_seq: numbers the predictions.
        withdrawn: told where a late marker changed what earlier windows rested on.
    """

    def __init__(
        self,
        connection: Connection,
        recording: Recording,
        first: int,
        decoder: Decoder,
        next_seq: Callable[[], int],
        withdrawn: Callable[[], None],
    ) -> None:
        about = self._about = connection.about
        info = replace(recording.info, rate_hz=about["rate_hz"])
        settings = decoding_settings(decoder.manifest, info, hop_s=about["hop_s"])
        settings = replace(settings, calibrated=not about["not_calibrated"], drift=None)  # the journal tells
        mask = None if connection.mask is None else _usable(connection.mask, info.n_channels)
        self._withdrawn = withdrawn
        self._decoder, self._hop_bins, self._rate_hz = decoder, settings.hop_bins, info.rate_hz
        self._pipeline = Pipeline(settings, info, next_seq, mask)
        inherited = [(train.sample, train.stimulation) for train in connection.inherited[-TRAINS_KEPT:]]
        self._pipeline.inherit(inherited, about["first_sample"])
        self._told = deque(_told(connection))
        self.ahead = first - about["first_sample"]  # by so much the recording counts further than the service did
        self._reader = SampleReader(recording, first)
        self._due: deque[Due] = deque()

    def next(self) -> Due:
        """The next window that became due.

        Raises:
            EndOfRecording: there is none.
        """
        grid, epoch = self._pipeline.chain.grid, self._about["epoch"]
        while not self._due:
            first = self._reader.next_sample() - self.ahead
            while self._told and self._told[0][0] <= first:
                self._tell(self._told.popleft()[1])
            hops = grid.bin_of(first) // self._hop_bins + 1
            stop = grid.first_sample(hops * self._hop_bins)
            if self._told:
                stop = min(stop, self._told[0][0])
            samples_uv = self._reader.read(stop + self.ahead)
            newest = first + len(samples_uv) - 1
            time = self._about["first_time"] + (newest - self._about["first_sample"]) / self._rate_hz
            self._due += self._pipeline.push(Chunk(samples_uv, first, time, time, epoch))
        return self._due.popleft()

    def go_on(self, connection: Connection, decoder: Decoder) -> None:
        """Another bundle reads the windows of the same chain."""
        pipeline = self._pipeline
        settings = decoding_settings(decoder.manifest, pipeline.info, hop_s=connection.about["hop_s"])
        if not settings.same_windows(pipeline.settings):
            raise OperatorFault(f"bundle {decoder.name} is not the one that ran: it reads other windows")
        pipeline.read_by(replace(settings, calibrated=not connection.about["not_calibrated"], drift=None))
        self._decoder = decoder
        self._told.extend(_told(connection))

    def _tell(self, one: Train | Mask) -> None:
        if isinstance(one, Train):
            if self._pipeline.stimulation(one.sample, one.stimulation) is not None:
                self._withdrawn()
        else:
            self._pipeline.set_mask(_usable(one, self._pipeline.info.n_channels), one.from_sample)

    def decode(self, due: Due, flags: tuple[str, ...]) -> Prediction:
        """`flags`: those that tell how its samples came, and whether the input had drifted."""
        due = replace(due, backlog="backlog" in flags, drifts="drift" in flags)
        return self._pipeline.decode(due, self._decoder, 0.0, 0.0, lambda: 0.0, skipped=int("overload" in flags))

    def fired(self, last_sample: int, trigger_id: str) -> None:
        """A pulse left behind the window that ends with this sample."""
        self._pipeline.expect_stimulation(last_sample + 1, EXPECT_S, trigger_id)


def find(connection: Connection, recording: Recording, before: Windows | None) -> int | None:
    """The connection's first sample as the recording counts, by that row's values; None where it does not hold it.
    `before`: the connection before on the same stream, which counts alike."""
    about, near_s = connection.about, None
    if before is not None:
        near_s = recording.start_s + (before.ahead + about["first_sample"]) / about["rate_hz"]
    elif about["recorded"]:
        near_s = about["first_time"]
    elif recording.began is not None:
        near_s = connection.wall_s - recording.began.timestamp()
    return find_row(recording, about["first_row_sha256"], near_s)


def _told(connection: Connection) -> list[tuple[int, Train | Mask]]:
    """What was told while it lasted, by the sample before which it was."""
    told: list[tuple[int, Train | Mask]] = [(train.before_sample, train) for train in connection.trains]
    told += [(mask.from_sample, mask) for mask in connection.masks]
    return sorted(told, key=lambda one: one[0])


def _usable(mask: Mask, n_channels: int) -> NDArray[np.bool_]:
    usable = np.ones(n_channels, bool)
    usable[[channel - 1 for channel in mask.masked]] = False
    return usable
