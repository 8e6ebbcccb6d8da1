"""What a client receives: one prediction as bytes, in the format and with the fields that it asked for.

JSON has no NaN, and a number that is not finite has no meaning that a client could act on: a probability or embedding
that is not finite leaves as null with the flag `not_finite`, whatever came in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgpack
import numpy as np
import orjson

from models.errors import OperatorFault
from streaming.predictions import Prediction

Format = Literal["json", "msgpack"]
Fields = Mapping[str, Any]

VALUES = ("probability", "embedding")


@dataclass(frozen=True, slots=True)
class Variant:
    """A frame's format and which of the two values it carries; each variant is encoded once, however many read it."""

    format: Format = "json"
    values: tuple[str, ...] = VALUES

    @classmethod
    def parse(cls, format: str | None, fields: str | None) -> Variant:
        """From the query of a request.

        Raises:
            OperatorFault: an unknown format or field.
        """
        if format is not None and format not in get_args(Format):
            raise OperatorFault(f"found format={format!r}, expected json or msgpack")
        asked = VALUES if fields is None else tuple(fields.split(","))
        unknown = [name for name in asked if name not in VALUES]
        if unknown:
            raise OperatorFault(f"found fields={','.join(unknown)!r}, expected a selection of {','.join(VALUES)}")
        return cls("msgpack" if format == "msgpack" else "json", tuple(name for name in VALUES if name in asked))


PACKED = Variant("msgpack")


def as_fields(prediction: Prediction, run_id: str) -> dict[str, Any]:
    """The message of CONTRACT, WebSocket /v1/predictions; `embedding` is float32 (D,) or None."""
    probability, embedding, flags = prediction.probability, prediction.embedding, prediction.flags
    broken = (probability is not None and not math.isfinite(probability)) or (
        embedding is not None and not bool(np.isfinite(embedding).all())
    )
    if broken:
        probability = embedding = None
        flags = flags if "not_finite" in flags else (*flags, "not_finite")
    latency = prediction.latency_ms
    return {
        "type": "prediction",
        "run_id": run_id,
        "seq": prediction.seq,
        "source": prediction.source,
        "sample_time": prediction.sample_time,
        "last_sample": prediction.last_sample,
        "epoch": prediction.epoch,
        "mode": prediction.mode,
        "trial": prediction.trial,
        "model": prediction.model,
        "probability": probability,
        "embedding": None if embedding is None else np.ascontiguousarray(embedding, dtype="<f4"),
        "usable_channels": prediction.usable_channels,
        "flags": flags,
        "latency_ms": {
            "signal": latency.signal,
            "queue": latency.queue,
            "inference": latency.inference,
            "total": latency.total,
        },
    }


def encode(fields: Fields, variant: Variant) -> str | bytes:
    """One frame: text for JSON, bytes for msgpack, where the embedding is little-endian float32 bytes."""
    chosen = {key: value for key, value in fields.items() if key not in VALUES or key in variant.values}
    if variant.format == "json":
        return orjson.dumps(chosen, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    if chosen.get("embedding") is not None:
        chosen["embedding"] = chosen["embedding"].tobytes()
    packed: bytes = msgpack.packb(chosen)
    return packed


def unpack(packed: bytes) -> dict[str, Any]:
    """The fields of a frame of variant PACKED, for encoding them anew."""
    fields: dict[str, Any] = msgpack.unpackb(packed)
    if fields["embedding"] is not None:
        fields["embedding"] = np.frombuffer(fields["embedding"], dtype="<f4")
    return fields


def revoke(packed: bytes, flag: str) -> bytes:
    """The same PACKED frame with its values withdrawn and `flag` as the reason."""
    fields = unpack(packed)
    fields.update(probability=None, embedding=None)
    if flag not in fields["flags"]:
        fields["flags"] = [*fields["flags"], flag]
    revoked: bytes = msgpack.packb(fields)
    return revoked
