"""The committed documents are those of the code, hang together, and what they say is what is checked."""

from __future__ import annotations

import jsonschema_rs
import pytest
from starlette.testclient import TestClient

from server.app import create_app
from server.documents import DOCS, QUERY, texts
from server.frames import Variant, as_fields, encode
from server.messages.answers import ANSWERS
from server.service import Service
from server.settings import Settings
from server.sockets import PREDICTION_QUERY
from tests.server import seen
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive, prediction


@pytest.fixture(scope="module")
def app():
    return create_app(Service(FakeLive(), FakeDecoder(), Settings(), FakeBundles()), 8000)


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.yaml"])
def test_what_is_committed_is_what_the_code_says(app, name):
    assert (DOCS / name).read_text() == texts(app)[name], "run `python -m server.documents` and commit what it writes"


def test_the_service_shows_the_committed_document(app):
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        assert client.get("/openapi.json").json() == seen.OPENAPI


def test_every_path_says_what_it_answers(app):
    documented = {(method, path) for path, methods in seen.OPENAPI["paths"].items() for method in methods}
    assert documented == set(ANSWERS) | {("get", "/metrics")}


def test_every_reference_leads_somewhere():
    for document in (seen.OPENAPI, seen.ASYNCAPI):
        for reference in seen.references(document):
            at = document
            for key in reference.removeprefix("#/").split("/"):
                at = at[key]
        for schema in document["components"]["schemas"].values():
            assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_asyncapi_has_the_parts_that_version_3_asks_for():
    document = seen.ASYNCAPI
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(document["info"])
    assert all({"host", "protocol"} <= set(server) for server in document["servers"].values())
    for operation in document["operations"].values():
        assert operation["action"] == "send"
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    assert set(QUERY) == PREDICTION_QUERY


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"probability": "high"}, "high"),
        ({"probability": 1.5}, "1.5"),
        ({"seq": None}, "null"),
        ({"colour": "blue"}, "colour"),
        ({"type": "rumour"}, "rumour"),
    ],
)
def test_the_check_bites(change, word):
    fields = as_fields(prediction(3), "run") | change
    seen.check_message("/v1/predictions", str(encode(fields, Variant())))
    (fault,) = seen.faults
    assert word in fault
    seen.faults.clear()


def test_the_check_of_answers_bites():
    seen.check_answer("GET", "/healthz", 200, "application/json", b'{"alive": false}')
    seen.check_answer("PUT", "/v1/channels", 200, "text/html", b"")
    seen.check_answer("GET", "/nowhere", 404, "application/problem+json", b'{"status": 404}')
    found = "\n".join(seen.faults)
    seen.faults.clear()
    assert all(path in found for path in ("/healthz", "/v1/channels", "/nowhere"))
