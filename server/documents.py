"""The two documents of the interface, generated from the messages' models: docs/openapi.json (HTTP) and
docs/asyncapi.yaml (the WebSockets). `python -m server.documents` writes them; a test holds what is committed.

Nothing here is on a message's way: frames are built by `server.frames`, and every message that the tests see is held
against these documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from server.messages.answers import ANSWERS, BODIES
from server.messages.events import EVENTS
from server.messages.predictions import Dropped, PackedPrediction, Prediction
from server.messages.status import Problem

DOCS = Path(__file__).resolve().parent.parent / "docs"
ALSO: tuple[type[BaseModel], ...] = (Dropped, *EVENTS)  # by the one value of their `type`
VERSION = "1"  # of the interface, the one in its paths
Document = dict[str, Any]


def schemas(models: Iterable[type[BaseModel]]) -> Document:
    """Name → JSON Schema (2020-12) of what the service says, each `$ref` into `#/components/schemas`."""
    said: Any = [(model, "serialization") for model in dict.fromkeys(models)]
    _, made = models_json_schema(said, ref_template="#/components/schemas/{model}", schema_generator=_Untitled)
    found: Document = made["$defs"]
    return found


def openapi(app: FastAPI) -> Document:
    """OpenAPI 3.1 of the application: FastAPI's, with what each path answers and how it says no."""
    document = FastAPI.openapi(app)
    document["info"]["version"] = VERSION
    components = document["components"]["schemas"]
    for not_ours in ("HTTPValidationError", "ValidationError"):
        components.pop(not_ours, None)
    components |= schemas([*(model for answer in ANSWERS.values() for model in answer.values()), Problem])
    document["components"]["schemas"] = dict(sorted(components.items()))
    refusal = {"description": "a problem", "content": {"application/problem+json": {"schema": _ref(Problem)}}}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            for status, model in ANSWERS.get((method, path), {}).items():
                content = {"application/json": {"schema": _ref(model)}}
                if path.endswith("/infer"):
                    content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
                operation["responses"][str(status)] = {"description": _sentence(model), "content": content}
            operation["responses"]["default"] = refusal
            if (method, path) in BODIES:
                operation["requestBody"] = {"required": True, "content": BODIES[method, path]}
    text = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    document["paths"]["/metrics"]["get"]["responses"]["200"] = text
    return document


def asyncapi() -> Document:
    """AsyncAPI 3.0 of the two WebSockets, from the service's side: it sends."""
    said: dict[str, type[BaseModel]] = {"prediction": Prediction, "packedPrediction": PackedPrediction}
    said |= {get_args(model.model_fields["type"].annotation)[0]: model for model in ALSO}
    messages = {name: _message(name, model) for name, model in said.items()}
    predictions = ("prediction", "packedPrediction", "dropped")
    events = (*(name for name in said if name not in predictions), "dropped")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Phosphene",
            "version": VERSION,
            "description": "What the service says over its WebSockets. It only speaks. docs/wire.md tells the rest.",
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8000", "protocol": "ws"}},
        "channels": {
            "predictions": _channel("/v1/predictions", predictions, QUERY),
            "events": _channel("/v1/events", events, {}),
        },
        "operations": {"sendPredictions": _sends("predictions"), "sendEvents": _sends("events")},
        "components": {"messages": messages, "schemas": schemas(said.values())},
    }


def texts(app: FastAPI) -> dict[str, str]:
    """File name → text of each document, as they are committed."""
    import yaml  # of the extra `dev`: serving does not need it

    return {
        "openapi.json": json.dumps(openapi(app), indent=1, ensure_ascii=False) + "\n",
        "asyncapi.yaml": yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120),
    }


class _Untitled(GenerateJsonSchema):
    """Without a title for each field, which would only say its name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


QUERY: Document = {
    "format": {"type": "string", "enum": ["json", "msgpack"], "default": "json"},
    "fields": {"type": "string", "description": "which of probability,embedding", "default": "probability,embedding"},
    "max_hz": {"type": "number", "minimum": 0.01, "maximum": 1000, "description": "of sample time"},
    "since_seq": {"type": "integer", "minimum": -1, "description": "the last seq that you have; -1: all that are held"},
}


def _channel(address: str, messages: Iterable[str], query: Document) -> Document:
    channel: Document = {
        "address": address,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }
    if query:
        asked = {"type": "object", "additionalProperties": False, "properties": query}
        channel["bindings"] = {"ws": {"method": "GET", "query": asked, "bindingVersion": "0.1.0"}}
    return channel


def _sends(channel: str) -> Document:
    return {"action": "send", "channel": {"$ref": f"#/channels/{channel}"}}


def _message(name: str, model: type[BaseModel]) -> Document:
    kind = "application/msgpack" if model is PackedPrediction else "application/json"
    return {"name": name, "summary": _sentence(model), "contentType": kind, "payload": _ref(model)}


def _ref(model: type[BaseModel]) -> Document:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or model.__name__).split())


def main() -> None:
    """Write both."""
    from server.app import create_app
    from server.bundles import Bundles
    from server.settings import load
    from server.wiring import build

    settings = load(source="simulate", outlet=False)
    bundles = Bundles(settings.bundles)
    service, close = build(settings, bundles, bundles.open(settings.model))
    for name, text in texts(create_app(service, settings.port)).items():
        (DOCS / name).write_text(text)
    close()


if __name__ == "__main__":
    main()
