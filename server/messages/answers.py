"""What each path of the HTTP interface answers with 2xx; everything else is a `Problem`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from server.decoding import ProbeName
from server.messages.events import ShadowSeen
from server.messages.predictions import Held
from server.messages.status import Status
from server.messages.trigger import Beaten, ConfirmToken, Lease, Preview, TriggerStatus
from server.tokens import Role


class Alive(BaseModel):
    alive: Literal[True]


class Ready(BaseModel):
    ready: Literal[True]


class BundleTold(BaseModel):
    """What a bundle says of itself."""

    name: str = Field(description="name@version")
    participant: str
    array: str
    channels: int
    bins: int
    rate_hz: float
    embedding_size: int
    read: int | None = Field(description="so many first numbers of the embedding the probes read; null: all")
    probes: list[str]
    precisions: list[str]


class BundleBroken(BaseModel):
    """A bundle that cannot be read, and why."""

    name: str
    problem: str


class CandidateTold(ShadowSeen):
    """The bundle in shadow."""

    name: str
    s_left: float


class Change(BaseModel):
    """What became of the last change, as in the event `bundle`."""

    what: Literal["candidate", "active", "dropped"]
    name: str
    bundle_sha256: str
    why: str
    shadow: ShadowSeen | None


class Swapping(BaseModel):
    """202: it shadows first, and takes over by itself."""

    active: str
    candidate: CandidateTold | None
    before: str | None = Field(description="to which a rollback goes")
    probation_s_left: float
    last: Change | None


class Models(Swapping):
    """Every bundle, which one runs, and which one is on its way."""

    models: list[BundleTold | BundleBroken]


class Active(BaseModel):
    """The bundle that decodes the next window."""

    active: str


class Masked(BaseModel):
    """The mask, and from which sample of which epoch it holds; epoch and time null where no prediction tells them."""

    masked: list[int]
    from_sample: int
    epoch: int | None
    sample_time: float | None
    usable_channels: int


class Decoded(BaseModel):
    """One entry a window; null where the bundle has no such probe, or what it gave is not finite."""

    model: str
    probe: ProbeName
    probabilities: list[float | None]
    embeddings: list[list[float] | None]


class LoggedIn(BaseModel):
    """Whose token it was; the cookie comes with it."""

    name: str
    role: Role


class Nothing(BaseModel):
    """There is nothing to say."""


class ServerTold(BaseModel):
    """Open Inference Protocol: who this is."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    live: Literal[True]


class ModelReady(BaseModel):
    """Open Inference Protocol: this is the bundle that runs."""

    name: str
    ready: Literal[True]


class TensorTold(BaseModel):
    """`shape`: −1 where any number may stand."""

    name: str
    datatype: Literal["FP32", "BOOL"]
    shape: list[int]


class ModelTold(BaseModel):
    """Open Inference Protocol: inputs and outputs of the bundle that runs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorTold]
    outputs: list[TensorTold]


class BinarySize(BaseModel):
    binary_data_size: int


class Tensor(TensorTold):
    """An output: `data` row by row, or `binary_data_size` bytes behind the JSON."""

    data: list[float] = []
    parameters: BinarySize | None = None


class Inferred(BaseModel):
    """Open Inference Protocol: one entry a window in each output."""

    model_name: str
    model_version: str
    id: str = ""
    outputs: list[Tensor]


ANSWERS: dict[tuple[str, str], dict[int, Any]] = {
    ("get", "/healthz"): {200: Alive},
    ("get", "/readyz"): {200: Ready},
    ("get", "/v1/status"): {200: Status},
    ("get", "/v1/models"): {200: Models},
    ("post", "/v1/models/{name}/activate"): {200: Active, 202: Swapping},
    ("post", "/v1/models/rollback"): {200: Active},
    ("post", "/v1/models/drop"): {200: Active},
    ("get", "/v1/predictions"): {200: Held},
    ("post", "/v1/decode"): {200: Decoded},
    ("put", "/v1/channels"): {200: Masked},
    ("get", "/v1/trigger"): {200: TriggerStatus},
    ("put", "/v1/trigger"): {200: TriggerStatus},
    ("post", "/v1/trigger/preview"): {200: Preview},
    ("post", "/v1/trigger/arm"): {200: ConfirmToken},
    ("post", "/v1/trigger/confirm"): {200: Lease},
    ("post", "/v1/trigger/heartbeat"): {200: Beaten},
    ("post", "/v1/trigger/disarm"): {200: TriggerStatus},
    ("post", "/v1/trigger/shadow"): {200: TriggerStatus},
    ("post", "/v1/trigger/clear"): {200: TriggerStatus},
    ("post", "/v1/login"): {200: LoggedIn},
    ("post", "/v1/logout"): {200: Nothing},
    ("get", "/v2"): {200: ServerTold},
    ("get", "/v2/health/live"): {200: Live},
    ("get", "/v2/health/ready"): {200: Ready},
}
ANSWERS |= {
    (method, f"/v2/models/{{name}}{version}{what}"): {200: answer}
    for version in ("", "/versions/{version}")
    for method, what, answer in (("get", "", ModelTold), ("get", "/ready", ModelReady), ("post", "/infer", Inferred))
}

_MATRIX = {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}}
_MASKS = {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}}}
BODIES: dict[tuple[str, str], dict[str, Any]] = {  # those that no model reads
    ("post", "/v1/decode"): {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["windows"],
                "additionalProperties": False,
                "properties": {
                    "windows": {**_MATRIX, "description": "(n, channels, bins) of normalised MUA"},
                    "usable": {**_MASKS, "description": "(n, channels)"},
                },
            }
        },
        "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
    },
}
INFER_BODY = {
    "application/json": {"schema": {"type": "object", "required": ["inputs"]}},
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
}
BODIES |= {("post", f"/v2/models/{{name}}{version}/infer"): INFER_BODY for version in ("", "/versions/{version}")}
