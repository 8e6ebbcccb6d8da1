"""What a bundle says of itself: whose it is, what it is shown, how its probes were fitted, which model files it has.

Every number that something is made from has a bound here, and what two parts say of the same thing must agree. Files,
and the hashes that hold them to the manifest, are bundle.py's.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

FORMAT = 1
MOST = 65_536  # channels, bins, numbers of an embedding: room is made for them before a model says no
PROBES = ("prestimulus", "evoked")

ProviderName = Literal["cpu", "cuda", "tensorrt"]
PrecisionName = Literal["float32", "float16", "bfloat16", "int8"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ArrayIdentity(_Part):
    """The array and channel map it was fitted to; `sha256` is `ArrayMap.sha256()` of labels and positions."""

    name: str
    labels: tuple[str, ...]
    positions: tuple[tuple[float, float], ...] | None = None
    sha256: str
    masked: tuple[int, ...] = ()  # 1-based channels that the bundle was fitted without


class InputSpec(_Part):
    """What `window` must be: (channels, bins) of MUA normalised as the chain settings say."""

    channels: int = Field(gt=0, le=MOST)
    bins: int = Field(gt=0, le=MOST)
    bin_rate_hz: int = Field(default=1000, gt=0)
    rate_hz: float = Field(gt=0)  # of the broadband stream it was fitted to
    unit: str = "z"


class Frozen(_Part):
    """Median and MAD per channel of a calibration block, for the `robust_frozen` normaliser."""

    median_uv: tuple[FiniteFloat, ...]  # a channel without a value is masked: not even NaN times 0 is 0
    mad_uv: tuple[FiniteFloat, ...]


class Calibration(_Part):
    """Platt scaling, already folded into the graph: probability = sigmoid(slope * score + offset)."""

    slope: float
    offset: float
    trials: int
    folds: int


class Probe(_Part):
    """A calibrated readout of the embedding. `window` is in bins from onset; `metrics` are on trials it never saw."""

    window: tuple[int, int]
    calibration: Calibration
    prevalence: float = Field(ge=0, le=1)  # of perceived trials in the fitting part
    metrics: dict[str, Any] = Field(default_factory=dict)


class Profile(_Part):
    """What a vector's running mean was in recordings, number by number, and the distance from it at which it counts as
    drifted (`streaming/drift.py` says which distance)."""

    mean: tuple[FiniteFloat, ...]
    spread: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    limit: FiniteFloat = Field(gt=0)

    @model_validator(mode="after")
    def _coherent(self) -> Profile:
        if len(self.mean) != len(self.spread):
            raise ValueError(f"{len(self.spread)} spreads for {len(self.mean)} means")
        return self


class DriftReference(_Part):
    """What the input is held against while it is decoded. `over_s`: of the running mean; `mua` by channel; `found` says
    on what it was found, and how often it was wrong there."""

    over_s: FiniteFloat = Field(gt=0)
    mua: Profile
    embedding: Profile
    found: dict[str, Any] = Field(default_factory=dict)


class Precision(_Part):
    """One model file, and one of its weights where they are too large to lie in it; how far from the golden vectors it
    may land on this machine, and what it was measured to decode when it was exported, by probe; older bundles do not
    say. `emulated`: measured on a CPU that rounds as a GPU would, since none runs it."""

    file: str
    weights: str | None = None
    probability_tolerance: float = Field(gt=0)
    embedding_tolerance: float = Field(gt=0)  # of the largest |golden embedding|
    metrics: dict[str, dict[str, Any]] = Field(default_factory=dict)
    emulated: bool = False


class Manifest(_Part):
    format: int = FORMAT
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: int = Field(gt=0)
    participant: str
    array: ArrayIdentity
    input: InputSpec
    chain: dict[str, Any]
    chain_sha256: str
    frozen: Frozen | None = None
    min_usable_channels: int = Field(gt=0)
    embedding_size: int = Field(gt=0, le=MOST)
    read: int | None = Field(default=None, gt=0)  # the probes read so many of the embedding's first numbers; None: all
    probes: dict[Literal["prestimulus", "evoked"], Probe] = Field(default_factory=dict)
    drift: DriftReference | None = None  # None: nothing is known of how its input usually is
    precisions: dict[PrecisionName, Precision]
    provenance: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)  # name -> sha256
    manifest_sha256: str = ""  # of everything else in the file, as `seal` writes it

    @model_validator(mode="after")
    def _coherent(self) -> Manifest:
        channels = self.input.channels
        if len(self.array.labels) != channels:
            raise ValueError(f"array has {len(self.array.labels)} labels for {channels} channels")
        if self.array.positions is not None and len(self.array.positions) != channels:
            raise ValueError(f"array has {len(self.array.positions)} positions for {channels} channels")
        if self.array.sha256 != array_sha256(self.array.labels, self.array.positions):
            raise ValueError("array labels and positions do not have the hash stated for them")
        if self.frozen and not len(self.frozen.median_uv) == len(self.frozen.mad_uv) == channels:
            raise ValueError(f"frozen normalisation is not of {channels} channels")
        if any(not 1 <= channel <= channels for channel in self.array.masked):
            raise ValueError(f"masked channels {self.array.masked}, of {channels}")
        if self.min_usable_channels > channels:
            raise ValueError(f"min_usable_channels {self.min_usable_channels} of {channels} channels")
        if self.read is not None and self.read > self.embedding_size:
            raise ValueError(f"probes read {self.read} of {self.embedding_size} numbers of the embedding")
        if self.drift and (len(self.drift.mua.mean), len(self.drift.embedding.mean)) != (channels, self.embedding_size):
            raise ValueError(f"drift reference is not of {channels} channels and {self.embedding_size} numbers")
        if "float32" not in self.precisions:
            raise ValueError("no float32 model")
        if self.chain_sha256 != chain_sha256(self.chain):
            raise ValueError("chain settings do not have the hash stated for them")
        return self

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"


def chain_sha256(chain: dict[str, Any]) -> str:
    """Hash of chain settings as `ChainSettings.sha256()` makes it."""
    return json_sha256(chain)


def array_sha256(labels: tuple[str, ...], positions: tuple[tuple[float, float], ...] | None) -> str:
    """Hash of labels and positions as `ArrayMap.sha256()` makes it."""
    return json_sha256([list(labels), None if positions is None else [list(place) for place in positions]])


def json_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
