"""The bundle: one exported decoder as a directory that says what it is, whose it is, and how to tell if it still works.

    NAME/VERSION/manifest.json      everything below, the sha256 of every other file, and its own
                 model.onnx         float32; self-contained, or with its weights in model.weights where they are large
                 model.int8.onnx    the same with int8 weights, and model.float16.onnx and model.bfloat16.onnx with
                                    those (each optional)
                 golden.npz         windows with the embeddings and probabilities that they must give
                 card.md            how it was made and what it was measured to do

The layout is Triton's model repository. Reading needs neither torch nor onnx. Files are read once, hashed, and used
from memory, so what was checked is what runs. The hashes tell damage and slips of the hand, not forgery: whoever can
write the directory can `seal` it again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from models.errors import BundleFault, OperatorFault

FORMAT = 1
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
LARGEST_MANIFEST = 4 * 2**20  # bytes; that of 96 channels has 60 000
LARGEST_GOLDEN = 256 * 2**20  # unpacked
LARGEST_FILE = 4 * 2**30
MOST = 65_536  # channels, bins, numbers of an embedding: room is made for them before a model says no
PROBES = ("prestimulus", "evoked")

ProviderName = Literal["cpu", "cuda", "tensorrt"]
PrecisionName = Literal["float32", "float16", "bfloat16", "int8"]


# what zipfile, zlib and NumPy raise for bytes that are no such file
_UNREADABLE: tuple[type[Exception], ...] = (
    KeyError,
    ValueError,
    OSError,
    TypeError,
    EOFError,
    MemoryError,
    RuntimeError,
)
_UNREADABLE += (SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error)


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


@dataclass(frozen=True, slots=True)
class Golden:
    """`windows` (n, channels, bins), `usable` (n, channels), `embedding` (n, D), `probabilities` name -> (n,)."""

    windows: NDArray[np.float32]
    usable: NDArray[np.bool_]
    embedding: NDArray[np.float32]
    probabilities: dict[str, NDArray[np.float32]]

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"windows": self.windows, "usable": self.usable, "embedding": self.embedding}
        np.savez_compressed(buffer, **arrays | self.probabilities)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files all have the hashes of its manifest, held in memory."""

    path: Path
    manifest: Manifest
    files: dict[str, bytes]

    def golden(self) -> Golden:
        """
        Raises:
            BundleFault: the golden vectors are not of the shapes that the manifest states.
        """
        manifest, probes = self.manifest, sorted(self.manifest.probes)
        try:
            with zipfile.ZipFile(io.BytesIO(self.files[GOLDEN])) as packed:  # judged before NumPy unpacks it
                unpacked = sum(entry.file_size for entry in packed.infolist())
            if unpacked > LARGEST_GOLDEN:
                raise ValueError(f"it unpacks to {unpacked} bytes, expected at most {LARGEST_GOLDEN}")
            with np.load(io.BytesIO(self.files[GOLDEN]), allow_pickle=False) as stored:
                golden = Golden(
                    windows=stored["windows"].astype(np.float32, casting="same_kind"),
                    usable=stored["usable"].astype(bool, casting="no"),
                    embedding=stored["embedding"].astype(np.float32, casting="same_kind"),
                    probabilities={name: stored[name].astype(np.float32, casting="same_kind") for name in probes},
                )
        except _UNREADABLE as error:
            raise BundleFault(f"{self.path / GOLDEN} cannot be read: {error}; export the bundle again") from error
        n, channels, bins = len(golden.windows), manifest.input.channels, manifest.input.bins
        found = [golden.windows.shape, golden.usable.shape, golden.embedding.shape]
        expected: list[tuple[int, ...]] = [(n, channels, bins), (n, channels), (n, manifest.embedding_size)]
        found += [values.shape for values in golden.probabilities.values()]
        expected += [(n,)] * len(probes)
        if n == 0 or found != expected:
            raise BundleFault(f"{self.path / GOLDEN} has shapes {found}, expected {expected}; export the bundle again")
        return golden


def chain_sha256(chain: dict[str, Any]) -> str:
    """Hash of chain settings as `ChainSettings.sha256()` makes it."""
    return _json_sha256(chain)


def array_sha256(labels: tuple[str, ...], positions: tuple[tuple[float, float], ...] | None) -> str:
    """Hash of labels and positions as `ArrayMap.sha256()` makes it."""
    return _json_sha256([list(labels), None if positions is None else [list(place) for place in positions]])


def _json_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _manifest_sha256(fields: dict[str, Any]) -> str:
    """Hash of everything that a manifest file says but this hash, unknown keys too."""
    return _json_sha256({key: value for key, value in fields.items() if key != "manifest_sha256"})


def read_manifest(path: Path) -> Manifest:
    """The manifest of a bundle directory, its own hash and coherence checked, its files not yet.

    Raises:
        BundleFault: no manifest, one that says nothing usable, or one that was changed since it was sealed.
    """
    file = path / MANIFEST
    try:
        content = _read(file, LARGEST_MANIFEST)
        manifest = Manifest.model_validate_json(content)
    except OSError as error:
        raise BundleFault(f"{file} cannot be read: {error.strerror}; name a bundle directory NAME/VERSION") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "manifest"
        raise BundleFault(f"{file}: {place}: {first['msg']}; export the bundle again") from error
    if manifest.format != FORMAT:
        raise BundleFault(f"{file} has format {manifest.format}, expected {FORMAT}; export the bundle again")
    found, stated = _manifest_sha256(json.loads(content)), manifest.manifest_sha256
    if found != stated:
        raise BundleFault(
            f"{file} has manifest_sha256 {stated[:9] or 'none'}…, expected {found[:9]}… of what it says; "
            "copy the bundle again, or export it again"
        )
    return manifest


def _read(file: Path, most: int) -> bytes:
    """A plain file: a pipe would be waited for, and a device has no end."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BundleFault(f"{file} is no plain file; copy the bundle again")
    if found.st_size > most:
        raise BundleFault(f"{file} has {found.st_size} bytes, expected at most {most}; export the bundle again")
    return file.read_bytes()


def verify(path: Path) -> Bundle:
    """Reads every file of the bundle and holds it against the manifest.

    Raises:
        BundleFault: a file is missing, is not what was exported, or was not named by the manifest.
    """
    manifest = read_manifest(path)
    needed = [GOLDEN] + [precision.file for precision in manifest.precisions.values()]
    needed += [precision.weights for precision in manifest.precisions.values() if precision.weights]
    if missing := [name for name in needed if name not in manifest.files]:
        raise BundleFault(f"{path / MANIFEST} states no sha256 for {', '.join(missing)}; export the bundle again")
    if unnamed := sorted({entry.name for entry in path.iterdir()} - manifest.files.keys() - {MANIFEST}):
        raise BundleFault(f"{path} holds {', '.join(unnamed)}, which its manifest does not name; take them out")
    files: dict[str, bytes] = {}
    for name, expected in manifest.files.items():
        if Path(name).name != name or name in ("", ".", ".."):
            raise BundleFault(f"{path / MANIFEST} names {name!r}, expected a plain file name; export the bundle again")
        try:
            files[name] = _read(path / name, LARGEST_FILE)
        except OSError as error:
            raise BundleFault(f"{path / name} cannot be read: {error.strerror}; copy the bundle again") from error
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            raise BundleFault(f"{path / name} has sha256 {found[:9]}…, expected {expected[:9]}…; copy the bundle again")
    return Bundle(path, manifest, files)


def seal(path: Path) -> None:
    """Writes the manifest of a bundle directory again, in one move, with the hash of what it says.

    Raises:
        BundleFault: no manifest, or one that is not a JSON object.
    """
    file = path / MANIFEST
    try:
        fields = dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise BundleFault(f"{file} is not a manifest to be sealed: {error}; name a directory NAME/VERSION") from error
    draft = path.parent / f".{path.name}-{MANIFEST}"  # beside the bundle: inside, it would be a file without a name
    draft.write_text(json.dumps(fields | {"manifest_sha256": _manifest_sha256(fields)}, indent=1) + "\n")
    os.replace(draft, file)


def write_bundle(repository: Path, manifest: Manifest, files: dict[str, bytes]) -> Path:
    """Writes `repository/NAME/VERSION` in one move and returns it; `files` are hashed into the manifest here.

    Raises:
        OperatorFault: that version stands already; versions are never rewritten.
    """
    target = repository / manifest.name / str(manifest.version)
    if target.exists():
        raise OperatorFault(f"{target} exists already; versions are never rewritten, choose the next one")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = Manifest.model_validate(manifest.model_dump() | {"files": hashes})
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
    try:
        for name, content in files.items():
            (draft / name).write_bytes(content)
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        seal(draft)
        draft.chmod(0o755)
        os.replace(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def versions(repository: Path, name: str) -> list[int]:
    """Versions of a bundle in a repository, ascending; empty where there is none."""
    if not (repository / name).is_dir():
        return []
    return sorted(int(entry.name) for entry in (repository / name).iterdir() if re.fullmatch(r"[1-9]\d*", entry.name))


def find_bundle(repository: Path, name: str) -> Path:
    """Directory of `NAME` (its highest version) or `NAME@VERSION`.

    Raises:
        OperatorFault: there is no such bundle.
    """
    wanted, _, version = name.partition("@")
    found = versions(repository, wanted) if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", wanted) else []
    if not found:
        known = sorted(entry.name for entry in repository.iterdir() if entry.is_dir()) if repository.is_dir() else []
        raise OperatorFault(f"no bundle {wanted!r} in {repository}; there are: {', '.join(known) or 'none'}")
    chosen = version or str(found[-1])
    if chosen not in map(str, found):
        raise OperatorFault(f"no version {chosen} of bundle {wanted!r} in {repository}; there are: {found}")
    return repository / wanted / chosen
