"""Is this bundle fitted to this stream? Probabilities are vouched for only where the answer is yes (CONTRACT)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.decoder import Decoder
from models.errors import BundleFault, OperatorFault
from models.manifest import Manifest
from streaming.chunk import Chunk, SourceKind, StreamInfo, row_sha256
from streaming.live_status import LiveSettings
from streaming.pipeline import DecodingSettings
from streaming.predictions import Mode
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings

RATE_TOLERANCE = 0.005


@dataclass(frozen=True, slots=True)
class Decoding:
    """What is being decoded, for the gate: a change of any of it is a reason to disarm."""

    source: SourceKind
    participant: str | None
    rate_hz: float
    model: str
    bundle_sha256: str
    min_usable_channels: int
    fitted_to: str  # the bundle's participant, or "simulated"
    not_calibrated: str = ""
    mode: str = "continuous"
    recorded: bool = False  # its times have no age
    # how it is decoded and where it began, for a replay: no reason to disarm
    hop_s: float = field(default=0.01, compare=False)
    provider: str = field(default="cpu", compare=False)
    precision: str = field(default="float32", compare=False)
    epoch: int = field(default=0, compare=False)
    first_sample: int = field(default=0, compare=False)
    first_time: float = field(default=0.0, compare=False)  # of that sample, as `sample_time`
    first_row_sha256: str = field(default="", compare=False)  # its values, by which a recording of it is recognised
    continues: bool = field(default=False, compare=False)  # another bundle reads the windows of the same chain

    @classmethod
    def of(cls, decoder: Decoder, info: StreamInfo, settings: LiveSettings, chunk: Chunk, continues: bool) -> Decoding:
        """What is decoded from this chunk on."""
        manifest = decoder.manifest
        return cls(
            source=info.kind,
            participant=info.participant or settings.participant,
            rate_hz=info.rate_hz,
            model=decoder.name,
            bundle_sha256=manifest.manifest_sha256,
            min_usable_channels=manifest.min_usable_channels,
            fitted_to=manifest.participant,
            not_calibrated=why_not_calibrated(manifest, info, settings.participant) or "",
            mode=settings.mode,
            recorded=info.recorded,
            hop_s=settings.hop_s,
            provider=decoder.provider,
            precision=decoder.precision,
            epoch=chunk.epoch,
            first_sample=chunk.first_sample,
            first_time=chunk.time_of(chunk.first_sample, info.rate_hz),
            first_row_sha256=row_sha256(chunk.samples_uv[0]),
            continues=continues,
        )


def why_not_calibrated(manifest: Manifest, info: StreamInfo, participant: str | None = None) -> str | None:
    """One sentence why the bundle's probabilities do not hold on this stream; None where they do.

    `participant` is the operator's word for a stream that does not say whose cortex it is; it never overrules one that
    does.
    """
    who = info.participant or participant
    if info.participant and participant and info.participant != participant:
        return f"the stream is of participant {info.participant!r}, the operator says {participant!r}"
    if who is None:
        return f"the stream names no participant and the bundle is of {manifest.participant!r}; say --participant"
    if who != manifest.participant:
        return f"the bundle is of participant {manifest.participant!r}, the stream of {who!r}"
    if info.array.labels != manifest.array.labels:
        return f"the bundle has {len(manifest.array.labels)} channels of its array, the stream has others"
    if info.array.positions is not None and info.array.sha256() != manifest.array.sha256:
        return f"the channel map of the stream is not that of {manifest.array.name!r}, to which the bundle was fitted"
    if abs(info.rate_hz / manifest.input.rate_hz - 1) > RATE_TOLERANCE:
        return f"the bundle was fitted at {manifest.input.rate_hz:g} Hz, the stream has {info.rate_hz:g} Hz"
    return None


def decoding_settings(
    manifest: Manifest, info: StreamInfo, mode: Mode = "continuous", hop_s: float = 0.01, participant: str | None = None
) -> DecodingSettings:
    """What the pipeline needs to run this bundle on this stream.

    Raises:
        BundleFault: chain settings of another version or for offline only, or a window of another bin width.
        OperatorFault: a hop that is not a whole number of milliseconds from 1 to 1000.
    """
    if manifest.input.bin_rate_hz != BIN_RATE_HZ:
        raise BundleFault(
            f"bundle {manifest.full_name}: found {manifest.input.bin_rate_hz} bins a second, expected {BIN_RATE_HZ}"
        )
    hop_bins = round(hop_s * BIN_RATE_HZ)
    if not 1 <= hop_bins <= 1000 or abs(hop_bins - hop_s * BIN_RATE_HZ) > 1e-6:
        raise OperatorFault(f"hop: found {hop_s} s, expected a whole number of milliseconds from 0.001 to 1")
    chain = ChainSettings.from_dict(manifest.chain)
    if chain.normaliser.kind == "robust_session":
        raise BundleFault(
            f"bundle {manifest.full_name}: its normaliser needs the whole session (robust_session), which no stream "
            "has; export it with rolling_z, robust_trailing or robust_frozen"
        )
    frozen = manifest.frozen
    mask = np.ones(manifest.input.channels, bool)
    mask[[channel - 1 for channel in manifest.array.masked]] = False
    return DecodingSettings(
        chain=chain,
        n_channels=manifest.input.channels,
        n_bins=manifest.input.bins,
        min_usable_channels=manifest.min_usable_channels,
        calibrated=why_not_calibrated(manifest, info, participant) is None,
        mode=mode,
        hop_bins=hop_bins,
        mask=mask,
        frozen=None if frozen is None else (np.array(frozen.median_uv), np.array(frozen.mad_uv)),
        drift=manifest.drift,
    )
