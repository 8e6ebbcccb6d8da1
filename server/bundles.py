"""The repository of bundles that the service may run, opened as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from models.bundle import find_bundle, read_manifest, versions
from models.errors import BundleFault
from models.onnx_decoder import OnnxDecoder, open_bundle


class Bundles:
    def __init__(
        self,
        repository: Path,
        provider: Literal["cpu", "cuda"] = "cpu",
        precision: Literal["auto", "float32", "int8"] = "auto",
    ) -> None:
        self.repository = repository
        self._provider = provider
        self._precision = precision

    def open(self, name: str) -> OnnxDecoder:
        """NAME@VERSION, or the highest version of NAME.

        Raises:
            OperatorFault: there is no such bundle.
            BundleFault: it is not what was exported, or does not do here what it did there.
        """
        return open_bundle(find_bundle(self.repository, name), self._provider, self._precision)

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
            "probes": sorted(manifest.probes),
            "precisions": sorted(manifest.precisions),
        }
