"""The repository of bundles that the service may run, opened as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from models.bundle import find_bundle, read_manifest, versions
from models.errors import BundleFault, Fault
from models.manifest import Manifest, PrecisionName, ProviderName
from models.onnx_decoder import OnnxDecoder, open_bundle
from streaming.chunk import ArrayMap, StreamInfo
from streaming.expected import EXPECT_S
from streaming.matching import decoding_settings
from streaming.pipeline import Pipeline
from streaming.signal.settings import NormaliserKind


class Bundles:
    def __init__(
        self,
        repository: Path,
        provider: ProviderName = "cpu",
        precision: Literal["auto"] | PrecisionName = "auto",
    ) -> None:
        self.repository = repository
        self._provider = provider
        self._precision = precision

    def open(self, name: str) -> OnnxDecoder:
        """NAME@VERSION, or the highest version of NAME.

        Raises:
            OperatorFault: there is no such bundle.
            BundleFault: it is not what was exported, does not do here what it did there, or no stream can be decoded
                with it.
        """
        decoder = open_bundle(find_bundle(self.repository, name), self._provider, self._precision)
        check_servable(decoder.manifest)
        return decoder

    def names(self) -> list[str]:
        if not self.repository.is_dir():
            return []
        return sorted(entry.name for entry in self.repository.iterdir() if versions(self.repository, entry.name))

    def list(self) -> list[dict[str, Any]]:
        """What each bundle says of itself; one that cannot be read says why."""
        return [self._describe(name, version) for name in self.names() for version in versions(self.repository, name)]

    def _describe(self, name: str, version: int) -> dict[str, Any]:
        try:
            manifest = read_manifest(self.repository / name / str(version))
        except BundleFault as fault:
            return {"name": f"{name}@{version}", "problem": str(fault)}
        return {
            "name": manifest.full_name,
            "participant": manifest.participant,
            "array": manifest.array.name,
            "channels": manifest.input.channels,
            "bins": manifest.input.bins,
            "rate_hz": manifest.input.rate_hz,
            "embedding_size": manifest.embedding_size,
            "read": manifest.read,
            "probes": sorted(manifest.probes),
            "precisions": sorted(manifest.precisions),
        }


def check_servable(manifest: Manifest) -> None:
    """Build what the decode thread will build, for the very stream that the bundle was fitted to: what is refused here
    would take the running line down there.

    Raises:
        BundleFault: chain settings of another version, for offline only, without their frozen statistics, that no
            filter can be made of or that keep too little for the marker of a pulse of our own; a window of another bin
            width; a rate that the chain does not take.
    """
    array = ArrayMap(manifest.array.labels, manifest.array.positions)
    info = StreamInfo("replay", manifest.array.name, manifest.input.rate_hz, array, manifest.participant)
    try:
        kind, known = manifest.chain["normaliser"].get("kind", "rolling_z"), get_args(NormaliserKind)
        if kind not in known:
            raise BundleFault(f"found a normaliser {kind!r}, expected one of {', '.join(known)}; export it again")
        Pipeline(decoding_settings(manifest, info), info, lambda: 0)
        if (kept_s := manifest.chain["rewind_s"]) < EXPECT_S:
            raise BundleFault(f"found rewind_s = {kept_s:g}, expected at least {EXPECT_S:g}; export it again")
    except BundleFault as fault:
        raise _named(manifest, fault) from None
    except (Fault, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _named(manifest, error) from error


def _named(manifest: Manifest, error: Exception) -> BundleFault:
    said = str(error).removeprefix(f"bundle {manifest.full_name}: ")
    return BundleFault(f"bundle {manifest.full_name} cannot be served: {said}")
