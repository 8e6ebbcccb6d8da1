"""Phosphene's predictions in a rig's own program: `PredictionStream`. Needs websockets, numpy and msgpack, no more."""

from phosphene_client.stream import CHANNELS, PredictionStream

__all__ = ["CHANNELS", "PredictionStream"]
