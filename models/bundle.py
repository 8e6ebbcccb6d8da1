"""The bundle: one exported decoder as a directory that says what it is, whose it is, and how to tell if it still works.

    NAME/VERSION/manifest.json      what it is (manifest.py), the sha256 of every other file, and its own
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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import BundleFault, OperatorFault
from models.manifest import FORMAT, Manifest, json_sha256

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
LARGEST_MANIFEST = 4 * 2**20  # bytes; that of 96 channels has 60 000
LARGEST_GOLDEN = 256 * 2**20  # unpacked
LARGEST_FILE = 4 * 2**30

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


def _manifest_sha256(fields: dict[str, Any]) -> str:
    """Hash of everything that a manifest file says but this hash, unknown keys too."""
    return json_sha256({key: value for key, value in fields.items() if key != "manifest_sha256"})


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
