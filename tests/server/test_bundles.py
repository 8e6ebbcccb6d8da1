"""Which bundles may be served: those with which a stream can be decoded; that their files are whole is not enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

import server.wiring
from models.errors import BundleFault
from models.manifest import Frozen, InputSpec, chain_sha256
from server.app import create_app
from server.bundles import Bundles, check_servable
from server.cli import run
from server.service import Service
from server.settings import Settings
from streaming.signal.settings import ChainSettings, NormaliserSettings
from tests.models.bundles import CHANNELS, manifest, small_bundle
from tests.server.fakes import FakeDecoder, FakeLive
from tests.server.seen import watched

WHOLE = ChainSettings()
FROZEN = Frozen(median_uv=(10.0,) * CHANNELS, mad_uv=(2.0,) * CHANNELS)


def chained(settings, **changes):
    """Manifest fields of a bundle with this chain."""
    fields = settings if isinstance(settings, dict) else settings.to_dict()
    return {"chain": fields, "chain_sha256": chain_sha256(fields)} | changes


def normalised(kind, **changes):
    return chained(replace(WHOLE, normaliser=NormaliserSettings(kind=kind)), **changes)


UNSERVABLE = {
    "another version": (chained(WHOLE.to_dict() | {"notch_hz": 50.0}), "another version"),
    "incomplete": (chained({"band_hz": [500, 5000], "normaliser": {}}), "keys missing"),
    "whole session": (normalised("robust_session", frozen=FROZEN), "whole session"),
    "not frozen": (normalised("robust_frozen"), "no median and MAD"),
    "no such kind": (normalised("softmax"), "rolling_z"),
    "forgetful": (chained(replace(WHOLE, rewind_s=0.4)), "rewind_s = 0.4, expected at least 0.5"),
    "no filter": (chained(replace(WHOLE, band_hz=(500.0, 50_000.0))), "cannot be served"),
    "rate": (chained(WHOLE, input=InputSpec(channels=CHANNELS, bins=128, rate_hz=2000.0)), "2000"),
}


@pytest.mark.parametrize("kind", UNSERVABLE)
def test_what_no_stream_can_be_decoded_with_is_refused(kind):
    changes, word = UNSERVABLE[kind]
    with pytest.raises(BundleFault, match="bundle small@1 cannot be served") as fault:
        check_servable(manifest(**changes))
    assert word in str(fault.value)
    assert str(fault.value).count("small@1") == 1


@pytest.mark.parametrize("kind", ["rolling_z", "robust_trailing", "robust_frozen"])
def test_what_can_be_served(kind):
    check_servable(manifest(**normalised(kind, frozen=FROZEN if kind == "robust_frozen" else None)))


def test_a_bundle_that_cannot_be_served_is_not_activated(tmp_path):
    small_bundle(tmp_path, **normalised("robust_session", frozen=FROZEN))
    live = FakeLive()
    service = Service(live, FakeDecoder(), Settings(), Bundles(tmp_path))
    base = "http://127.0.0.1:8000"
    with TestClient(watched(create_app(service, 8000)), base_url=base, headers={"origin": base}) as client:
        answer = client.post("/v1/models/small/activate", json={})
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
        assert "small@1 cannot be served" in answer.json()["detail"]
        assert client.get("/v1/status").json()["model"] == "fake@1"
    assert live.activated == []


def test_nor_is_it_served_from_the_start(tmp_path, capsys, monkeypatch):
    small_bundle(tmp_path, **normalised("robust_session", frozen=FROZEN))
    monkeypatch.setenv("PHOSPHENE__BUNDLES", str(tmp_path))
    monkeypatch.setattr(server.wiring, "build", lambda *_: pytest.fail("it went on to build the service"))
    assert run(["serve", "--model", "small", "--port", "0"]) != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
    assert len(lines) == 1
    assert "small@1 cannot be served" in lines[0]


def test_a_bundle_that_can_be_served_opens(tmp_path):
    small_bundle(tmp_path, **chained(WHOLE))
    decoder = Bundles(tmp_path).open("small")
    assert decoder.step(np.zeros((CHANNELS, 128), np.float32), np.ones(CHANNELS, bool)).prestimulus is not None
