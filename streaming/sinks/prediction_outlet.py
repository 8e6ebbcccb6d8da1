"""Predictions on LSL beside the broadband: a recorder keeps both on one clock (CONTRACT, prediction stream)."""

from __future__ import annotations

import math
import socket

import pylsl

from streaming.predictions import Prediction

NAME = "PhosphenePredictions"
CHANNELS = ("probability", "valid", "usable_channels")


class PredictionOutlet:
    """A sink: `push` once per prediction, on the decode thread. It exists before the first prediction does."""

    def __init__(self, name: str = NAME) -> None:
        # The source_id stays when the service restarts, so that a recorder finds the stream again by itself.
        info = pylsl.StreamInfo(
            name,
            "Decoding",
            len(CHANNELS),
            pylsl.IRREGULAR_RATE,
            pylsl.cf_float32,
            f"phosphene-{socket.gethostname()}-{name}",
        )
        description = info.desc()
        channels = description.append_child("channels")
        for label, unit in zip(CHANNELS, ("probability", "boolean", "count"), strict=True):
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", unit)
            channel.append_child_value("type", "Decoding")
        description.append_child("synchronization").append_child_value("can_drop_samples", "true")
        self._outlet: pylsl.StreamOutlet | None = pylsl.StreamOutlet(info)

    def push(self, prediction: Prediction) -> None:
        """Send one prediction, stamped with its sample time; NaN and `valid` 0 where it is not vouched for."""
        if self._outlet is None:
            return
        probability = prediction.probability
        valid = probability is not None and math.isfinite(probability)
        sample = [probability if valid else math.nan, float(valid), float(prediction.usable_channels)]
        self._outlet.push_sample(sample, prediction.sample_time)

    def close(self) -> None:
        self._outlet = None
