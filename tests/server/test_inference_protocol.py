"""The Open Inference Protocol: what it gives is what POST /v1/decode gives, and a real client of it understands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from server.app import create_app
from server.inference_request import HEADER
from server.service import Service
from server.settings import Settings
from tests.server.fakes import BINS, CHANNELS, SIZE, FakeBundles, FakeDecoder, FakeLive
from tests.server.seen import watched
from tests.server.test_real_server import Running

WINDOWS = np.random.default_rng(2).normal(size=(3, CHANNELS, BINS)).astype(np.float32)
USABLE = np.ones((3, CHANNELS), bool)
USABLE[1, :48] = False
INFER = "/v2/models/fake/infer"


@pytest.fixture(scope="module")
def client():
    app = watched(create_app(Service(FakeLive(), FakeDecoder(), Settings(), FakeBundles()), 8000))
    with TestClient(app, base_url="http://127.0.0.1:8000") as one:
        yield one


def tensor(name, values, datatype):
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist()}


def asked(**changes):
    inputs = [tensor("window", WINDOWS, "FP32"), tensor("usable", USABLE, "BOOL")]
    return {"id": "seven", "inputs": inputs} | changes


def outputs(answer):
    return {one["name"]: np.reshape(one["data"], one["shape"]) for one in answer.json()["outputs"]}


def test_health_and_metadata(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    told = client.get("/v2/models/fake").json()
    assert told == client.get("/v2/models/fake/versions/1").json()
    assert told["inputs"][0] == {"name": "window", "datatype": "FP32", "shape": [-1, CHANNELS, BINS]}
    assert [one["name"] for one in told["outputs"]] == ["embedding", "prestimulus"]
    assert client.get("/v2/models/fake/versions/1/ready").json() == {"name": "fake", "ready": True}


@pytest.mark.parametrize("path", ["/other", "/other/ready", "/fake/versions/2", "/fake/versions/2/ready"])
def test_another_bundle_than_the_one_that_runs(client, path):
    answer = client.get(f"/v2/models{path}")
    assert answer.status_code == 404
    assert "expected fake 1" in answer.json()["error"]
    assert answer.json()["error"] == answer.json()["detail"]


def test_it_gives_what_decode_gives(client):
    answer = client.post(INFER, json=asked())
    body = {"windows": WINDOWS.tolist(), "usable": USABLE.tolist()}
    plain = client.post("/v1/decode", json=body).json()
    found = outputs(answer)
    assert found["prestimulus"].tolist() == plain["probabilities"] == [1.0, 0.5, 1.0]
    assert np.array_equal(found["embedding"].astype(np.float32), np.array(plain["embeddings"], np.float32))
    assert (answer.json()["model_name"], answer.json()["model_version"], answer.json()["id"]) == ("fake", "1", "seven")
    alone = client.post("/v2/models/fake/versions/1/infer", json=asked(outputs=[{"name": "prestimulus"}]))
    assert list(outputs(alone)) == ["prestimulus"]


def test_raw_tensors_both_ways(client):
    inputs = [
        {"name": name, "shape": list(values.shape), "datatype": kind, "parameters": {"binary_data_size": values.nbytes}}
        for name, values, kind in (("window", WINDOWS, "FP32"), ("usable", USABLE, "BOOL"))
    ]
    text = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    answer = client.post(INFER, content=text + WINDOWS.tobytes() + USABLE.tobytes(), headers={HEADER: str(len(text))})
    size = int(answer.headers[HEADER])
    told, raw = json.loads(answer.content[:size]), answer.content[size:]
    assert [one["parameters"]["binary_data_size"] for one in told["outputs"]] == [3 * SIZE * 4, 3 * 4]
    embeddings = np.frombuffer(raw[: 3 * SIZE * 4], "<f4").reshape(3, SIZE)
    assert np.allclose(embeddings, WINDOWS[:, :SIZE].mean(axis=2), atol=1e-6)
    assert np.frombuffer(raw[3 * SIZE * 4 :], "<f4").tolist() == [1.0, 0.5, 1.0]


RAW = {"name": "window", "shape": [1, CHANNELS, BINS], "datatype": "FP32", "parameters": {"binary_data_size": 49152}}
NAN = WINDOWS.copy()
NAN[0, 0, 0] = np.nan


def brought(windows=WINDOWS, kind="FP32", **changes):
    """A body with these windows alone."""
    body = json.dumps({"inputs": [tensor("window", windows, kind) | changes]})
    return body.replace("NaN", "1e99").encode()


BAD = {
    "no JSON": (b"{", None, "no infer request"),
    "no inputs": (b"{}", None, "no infer request"),
    "a list": (b"[]", None, "no infer request"),
    "no window": (json.dumps({"inputs": []}).encode(), None, "no input `window`"),
    "another input": (brought(name="image"), None, "image"),
    "another output": (json.dumps(asked(outputs=[{"name": "evoked"}])).encode(), None, "evoked"),
    "another type": (brought(kind="FP64"), None, "expected FP32"),
    "another shape": (brought(WINDOWS[:, :5]), None, "(3, 5, 128)"),
    "values missing": (brought(shape=[4, CHANNELS, BINS]), None, "found 36864 values"),
    "below zero": (brought(shape=[-3]), None, "[-3]"),
    "not finite": (brought(NAN), None, "finite"),
    "words": (brought(shape=[1], data=["a"]), None, "another kind"),
    "header": (b"{}", "9", HEADER),
    "header of words": (b"{}", "-1", HEADER),
    "raw too short": (json.dumps({"inputs": [RAW]}).encode() + b"1234", len(json.dumps({"inputs": [RAW]})), "49152"),
    "raw behind": (json.dumps(asked()).encode() + b"1234", len(json.dumps(asked())), "found 4 bytes behind"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_request_is_refused_in_one_sentence(client, kind):
    body, size, word = BAD[kind]
    headers = {"content-type": "application/json"} | ({} if size is None else {HEADER: str(size)})
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 422
    assert word in answer.json()["error"]


def test_what_is_not_finite_is_refused():
    class Broken(FakeDecoder):
        def step(self, window, usable):
            decoded = super().step(window, usable)
            return type(decoded)(decoded.embedding, float("nan"), None)

    bundles = FakeBundles()
    bundles.open = lambda name: Broken()
    app = watched(create_app(Service(FakeLive(), FakeDecoder(), Settings(), bundles), 8000))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        answer = client.post(INFER, json=asked())
        assert answer.status_code == 503
        assert "prestimulus that is not finite" in answer.json()["error"]


def test_the_same_guard_and_bounds(client):
    foreign = {"origin": "http://evil.example"}
    assert client.post(INFER, json=asked(), headers=foreign).status_code == 403
    assert client.post(INFER, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    packed = client.post(INFER, content=b"xx", headers={"content-encoding": "gzip"})
    assert (packed.status_code, "compressed" in packed.json()["error"]) == (422, True)
    much = {"content-length": str(9 * 2**20), "content-type": "application/octet-stream"}
    assert client.post(INFER, content=b"", headers=much).status_code == 413


def test_a_real_client_of_the_protocol():
    http = pytest.importorskip("tritonclient.http", reason="pip install 'tritonclient[http]'")
    running = Running()
    try:
        with http.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready("fake", "1")
            assert not client.is_model_ready("other")
            assert client.get_server_metadata()["name"] == "phosphene"
            assert client.get_model_metadata("fake")["inputs"][0]["shape"] == [-1, CHANNELS, BINS]
            for binary in (True, False):
                inputs = [
                    http.InferInput("window", WINDOWS.shape, "FP32"),
                    http.InferInput("usable", USABLE.shape, "BOOL"),
                ]
                inputs[0].set_data_from_numpy(WINDOWS, binary_data=binary)
                inputs[1].set_data_from_numpy(USABLE, binary_data=binary)
                wanted = [http.InferRequestedOutput(name, binary) for name in ("embedding", "prestimulus")]
                for outputs in (None, wanted):
                    result = client.infer("fake", inputs, model_version="1", outputs=outputs, request_id="x")
                    assert result.as_numpy("prestimulus").tolist() == [1.0, 0.5, 1.0]
                    means = WINDOWS[:, :SIZE].mean(axis=2)
                    assert np.allclose(result.as_numpy("embedding"), means, atol=1e-6)
            with pytest.raises(Exception, match="expected fake 1"):
                client.infer("other", inputs)
    finally:
        running.stop()
