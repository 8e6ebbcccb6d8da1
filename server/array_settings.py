"""What the service is told of one array: its stream, its bundle, and how it is decoded."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator

from streaming.predictions import Mode

FIRST = "first"  # what the array without a table is called where there are several
NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")


class ArraySettings(BaseModel):
    """The first array's stand at the top of the settings file, those of each further one in a table [arrays.NAME].
    What a table leaves out has its default, whatever the first array has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field("lsl:name='UtahArray'", description="lsl:PREDICATE, a recording, or simulate")
    stream: str | None = Field(None, description="which signal, where a recording holds several")
    scale_uv: float | None = Field(None, gt=0, description="microvolts per count of a .wav, which does not say")
    events: str = Field("name='StimEvents'", description="LSL predicate of the event stream")
    model: str = Field("default", description="NAME[@VERSION] of a bundle")
    participant: str | None = Field(None, description="whose cortex it is, where the stream does not say")
    session: str | None = Field(None, description="name of the session, where the stream does not say")
    mode: Mode = Field("continuous", description="a window every hop, or one after each stimulation (evoked)")
    hop_s: float = Field(0.01, ge=0.001, le=1.0, description="between windows in continuous mode")
    decode_core: int | None = Field(None, ge=0, description="the core of the decode thread (Linux)")
    decode_priority: int | None = Field(None, ge=1, le=99, description="its real-time priority (Linux)")

    @field_validator("hop_s")
    @classmethod
    def _whole_milliseconds(cls, hop_s: float) -> float:
        if abs(hop_s * 1000 - round(hop_s * 1000)) > 1e-6:
            raise ValueError(f"found {hop_s} s, expected a whole number of milliseconds")
        return hop_s


def check_arrays(arrays: dict[str, ArraySettings], first_source: str) -> None:
    """Raises ValueError: a name that is not fit for a URL, or a stream that is not the array's own."""
    sources = {first_source: "the first array"}
    for name, array in arrays.items():
        if not NAME.fullmatch(name) or name == FIRST:
            raise ValueError(
                f"found the name {name!r}, expected a small letter, then at most 15 small letters, digits or hyphens, "
                f"and not {FIRST!r}, which is the array at the top"
            )
        if "source" not in array.model_fields_set:
            raise ValueError(f"{name}: found no source, expected the array's own")
        if array.source in sources:
            raise ValueError(
                f"{name}: found the source {array.source!r} of {sources[array.source]}, expected another: each stream "
                "is decoded once"
            )
        sources[array.source] = name
