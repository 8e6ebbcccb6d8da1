"""Every message that the service says in a test is held against the committed documents, docs/openapi.json and
docs/asyncapi.yaml: `watched(app)` looks at what leaves, and conftest.py fails the test in which something wrong left.

A reader ignores keys that it does not know, so the documents allow them; here they are refused, or the documents would
fall behind.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgpack
import yaml

from server.wire import EXTENSION

DOCS = Path(__file__).resolve().parents[2] / "docs"
OPENAPI = json.loads((DOCS / "openapi.json").read_text())
ASYNCAPI = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
PATHS = [(re.compile(re.sub(r"{\w+}", "[^/]+", path) + "$"), path) for path in OPENAPI["paths"]]
MEND = "amend server/messages/, then `python -m server.documents`"

faults: list[str] = []  # of the test that runs


def strict(schema: Any) -> Any:
    """The schema, of which unknown keys are refused."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {} if "properties" not in schema else {"additionalProperties": False}
    return closed | {key: strict(part) for key, part in schema.items()}


class Validator:
    """What `check` is told, against the schema that `reference` names in a document."""

    def __init__(self, document: dict[str, Any], reference: str) -> None:
        components = {"schemas": strict(document["components"]["schemas"])}
        self._valid = jsonschema_rs.validator_for({"$ref": reference, "components": components})

    def check(self, value: Any, what: str) -> None:
        for error in self._valid.iter_errors(value):
            where = "/".join(str(part) for part in error.instance_path)
            faults.append(f"{what}: {where or 'the whole'}: {error.message[:300]}; {MEND}")


def references(document: Any) -> set[str]:
    if isinstance(document, dict):
        return {document["$ref"]} if "$ref" in document else set().union(*map(references, document.values()))
    return set().union(*map(references, document)) if isinstance(document, list) else set()


HTTP = {ref: Validator(OPENAPI, ref) for ref in references(OPENAPI["paths"])}
SAID = {name: Validator(ASYNCAPI, one["payload"]["$ref"]) for name, one in ASYNCAPI["components"]["messages"].items()}
CHANNELS = {one["address"]: set(one["messages"]) for one in ASYNCAPI["channels"].values()}
_seen: set[tuple[str, str | bytes]] = set()  # the same frame goes to many


def check_message(address: str, data: str | bytes) -> None:
    """One message of a WebSocket, text or msgpack."""
    if (address, data) in _seen:
        return
    if len(_seen) > 10_000:
        _seen.clear()
    _seen.add((address, data))
    message = json.loads(data) if isinstance(data, str) else msgpack.unpackb(data)
    name = message.get("type")
    if isinstance(data, bytes) and name == "prediction":
        name = "packedPrediction"
        if message.get("embedding") is not None:
            message["embedding"] = message["embedding"].decode("latin-1")  # JSON Schema knows no bytes
    if name not in CHANNELS[address]:
        faults.append(f"{address}: found a message {name!r}, expected one of {sorted(CHANNELS[address])}; {MEND}")
        return
    SAID[name].check(message, f"{address} {name}")


def check_answer(method: str, path: str, status: int, media_type: str, body: bytes) -> None:
    """One answer of HTTP; pages are no part of the interface."""
    if media_type == "application/problem+json":
        HTTP["#/components/schemas/Problem"].check(json.loads(body), f"{method} {path} {status}")
        return
    for pattern, documented in PATHS:
        operation = OPENAPI["paths"][documented].get(method.lower())
        if operation is None or not pattern.match(path):
            continue
        answer = operation["responses"].get(str(status))
        if answer is None or media_type not in answer["content"]:
            faults.append(f"{method} {path}: found {status} {media_type}, which is not documented; {MEND}")
        elif media_type == "application/json":
            HTTP[answer["content"][media_type]["schema"]["$ref"]].check(json.loads(body), f"{method} {path} {status}")
        return


class WatchedWire:
    """A `server.wire.Wire`, of which everything that is written is looked at."""

    def __init__(self, wire: Any, address: str) -> None:
        self.wire, self.address = wire, address

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wire, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("wire", "address"):
            super().__setattr__(name, value)
        else:
            setattr(self.wire, name, value)

    def write(self, framed: bytes) -> None:
        payload = framed[{126: 4, 127: 10}.get(framed[1], 2) :]
        check_message(self.address, payload.decode() if framed[0] & 15 == 1 else payload)
        self.wire.write(framed)


def watched(app: Any) -> Any:
    """`app`, of which everything that leaves is looked at."""

    async def looking(scope: Any, receive: Any, send: Any) -> None:
        status, media_type, body = 0, "", b""
        if EXTENSION in scope.get("extensions", {}):
            scope["extensions"][EXTENSION] = WatchedWire(scope["extensions"][EXTENSION], scope["path"])

        async def look(message: Any) -> None:
            nonlocal status, media_type, body
            kind = message["type"].removeprefix("websocket.")
            if kind == "send":
                check_message(scope["path"], message.get("text") or message["bytes"])
            elif kind == "http.response.start":
                status = message["status"]
                media_type = dict(message["headers"]).get(b"content-type", b"").decode().split(";")[0]
            elif kind == "http.response.body":
                body += message.get("body", b"")
                if not message.get("more_body"):
                    check_answer(scope.get("method", "WebSocket"), scope["path"], status, media_type, body)
            await send(message)

        await app(scope, receive, look)

    return looking
