"""Frames: what goes in comes out, in both formats, and nothing that is not finite ever leaves."""

from __future__ import annotations

import json

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import OperatorFault
from server.frames import PACKED, VALUES, Variant, as_fields, encode, revoke, unpack
from streaming.predictions import Prediction
from tests.server.fakes import prediction

embeddings = st.none() | hnp.arrays(np.float32, st.integers(1, 64), elements=st.floats(width=32))
predictions = st.builds(
    lambda **changes: prediction(3, **changes),
    probability=st.none() | st.floats(),
    embedding=embeddings,
    trial=st.none() | st.integers(0, 10_000),
    mode=st.sampled_from(["continuous", "evoked"]),
    flags=st.lists(st.sampled_from(["gap", "drift", "not_finite"]), unique=True).map(tuple),
)


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} left the service")

    return json.loads(text, parse_constant=refuse)


@given(predictions)
def test_round_trip(given_prediction: Prediction):
    fields = as_fields(given_prediction, "run")
    packed = encode(fields, PACKED)
    from_json = strict(encode(fields, Variant()))
    from_msgpack = msgpack.unpackb(packed)
    raw = from_msgpack.pop("embedding")
    listed = from_json.pop("embedding")
    assert from_json == from_msgpack
    assert (raw is None) == (listed is None)
    if raw is not None:
        assert np.array_equal(np.frombuffer(raw, "<f4"), given_prediction.embedding)
        assert np.array_equal(np.array(listed, np.float32), given_prediction.embedding)
    values = [v for v in (given_prediction.probability, given_prediction.embedding) if v is not None]
    if all(np.isfinite(v).all() for v in values):
        assert from_json["probability"] == given_prediction.probability
    else:
        assert from_json["probability"] is raw is None
        assert "not_finite" in from_json["flags"]
    for variant in (Variant("json", ("probability",)), Variant("msgpack", ("embedding",))):
        assert encode(unpack(packed), variant) == encode(fields, variant)


def test_the_message_of_the_contract():
    message = strict(encode(as_fields(prediction(7), "run"), Variant()))
    assert [key for key in message if key not in ("last_sample", "epoch")] == [
        "type", "run_id", "seq", "source", "sample_time", "mode", "trial", "model",
        "probability", "embedding", "usable_channels", "flags", "latency_ms",
    ]  # fmt: skip
    assert (message["last_sample"], message["epoch"]) == (2100, 0)
    assert list(message["latency_ms"]) == ["signal", "queue", "inference", "total"]


def test_revoked():
    fields = msgpack.unpackb(revoke(encode(as_fields(prediction(7, flags=("drift",)), "run"), PACKED), "late_marker"))
    assert fields["probability"] is fields["embedding"] is None
    assert fields["flags"] == ["drift", "late_marker"]
    assert fields["seq"] == 7


def test_variants():
    assert Variant.parse(None, None) == Variant("json", VALUES)
    assert Variant.parse("msgpack", "embedding,probability") == Variant("msgpack", VALUES)
    for format, fields in [("xml", None), (None, "raw"), (None, ""), (None, "probability,"), ("", None)]:
        with pytest.raises(OperatorFault, match="expected"):
            Variant.parse(format, fields)
