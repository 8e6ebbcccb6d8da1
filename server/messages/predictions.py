"""What /v1/predictions says, over WebSocket and HTTP. Described here and built by `server.frames`, without a model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from streaming.chunk import SourceKind
from streaming.predictions import Mode

Flags = Annotated[
    list[str],
    Field(
        description="why a value is null, or what was missed before it; treat one that you do not know as bad",
        examples=[["gap"], ["blanking", "settling"]],
    ),
]
Probability = Annotated[
    float | None, Field(ge=0, le=1, description="that a stimulation now would be seen; null: not vouched for")
]


class LatencyMs(BaseModel):
    """Where the time went, in milliseconds; `total` from the newest sample's clock time to the hand-over."""

    signal: float
    queue: float
    inference: float
    total: float


class Lean(BaseModel):
    """What every prediction carries, whatever `fields` asks for."""

    type: Literal["prediction"]
    run_id: str = Field(description="changes when the service restarts; seq then begins anew")
    seq: int = Field(ge=0, description="rises by one")
    source: SourceKind
    sample_time: float = Field(description="seconds, LSL clock of the service; the time of last_sample")
    last_sample: int = Field(description="the newest sample of the window, counted from the first of its epoch")
    epoch: int = Field(description="one more after each reconnect of the source")
    mode: Mode
    trial: int | None
    model: str = Field(description="name@version")
    usable_channels: int = Field(ge=0)
    flags: Flags
    latency_ms: LatencyMs


class Prediction(Lean):
    """One prediction. `probability` and `embedding` are there where `fields` asks for them, both by default."""

    probability: Probability = None
    embedding: list[float] | None = None


class PackedPrediction(Lean):
    """The same in msgpack, where the embedding is a byte string."""

    probability: Probability = None
    embedding: Annotated[
        str | None, Field(json_schema_extra={"format": "binary"}, description="little-endian float32 bytes")
    ] = None


class Dropped(BaseModel):
    """You fell behind: `count` messages were skipped for you alone, and `resume_seq` comes next."""

    type: Literal["dropped"]
    count: int = Field(ge=1)
    resume_seq: int = Field(ge=0)


class Held(BaseModel):
    """Predictions that are held, oldest first."""

    run_id: str
    first_seq: int = Field(description="the oldest that is held")
    next_seq: int = Field(description="the one that comes next")
    predictions: list[Prediction]
