"""Settings of the signal chain: Table 3 of the MAE paper, made causal.

They travel in the bundle and are never overridden.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from models.errors import BundleFault

BIN_RATE_HZ = 1000

NormaliserKind = Literal["rolling_z", "robust_trailing", "robust_frozen", "robust_session"]


@dataclass(frozen=True, slots=True)
class NormaliserSettings:
    """How an envelope bin becomes a z value.

    `rolling_z`: mean and standard deviation of the trailing `window_s`, the current bin included.
    `robust_trailing`: median and 1.4826 MAD of the same window, exact at every bin.
    `robust_frozen`: median and MAD of a calibration block, stored in the bundle. `robust_session`: of the training
    part of a whole session; offline only. `min_history_s` of valid bins must be there before a z value is vouched for.
    `floor_uv` bounds the divisor from below, so that a still channel does not explode.
    """

    kind: NormaliserKind = "rolling_z"
    window_s: float = 10.0
    min_history_s: float = 1.0
    floor_uv: float = 0.05


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """The chain from raw microvolts to normalised MUA. Orders are as SciPy's `butter(order, …)` takes them."""

    clip_uv: float = 5000.0
    band_hz: tuple[float, float] = (500.0, 5000.0)
    band_order: int = 4
    lowpass_hz: float = 200.0
    lowpass_order: int = 4
    blank_before_s: float = 0.0005  # a blanked stretch starts this long before the train's onset
    blank_after_s: float = 0.0015  # and ends this long after its last pulse
    blank_settle_s: float = 0.004  # bins up to this long after a blanked stretch are not vouched for
    start_settle_s: float = 0.05  # nor are bins this soon after the filters (re)started
    rewind_s: float = 1.0  # raw samples and filter snapshots kept, so that late markers can be honoured
    longest_gap_s: float = 2.0  # a longer loss of samples starts everything anew
    dead_after_s: float = 1.0  # flat or non-finite for this long: the channel is dead
    normaliser: NormaliserSettings = field(default_factory=NormaliserSettings)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, for the manifest."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ChainSettings:
        """Back from `to_dict`.

        Raises:
            BundleFault: a key that this version does not know, or one missing.
        """
        try:
            normaliser = NormaliserSettings(**fields["normaliser"])
            rest = {key: value for key, value in fields.items() if key != "normaliser"}
            settings = cls(**rest | {"band_hz": tuple(fields["band_hz"])}, normaliser=normaliser)
        except (KeyError, TypeError) as error:
            raise BundleFault(f"chain settings of another version: {error}; export the bundle again") from error
        if normaliser.kind not in get_args(NormaliserKind):
            kinds = ", ".join(get_args(NormaliserKind))
            raise BundleFault(f"normaliser: found {normaliser.kind!r}, expected one of {kinds}; export it again")
        if settings.to_dict() != fields:
            raise BundleFault("chain settings are incomplete: found some keys missing; export the bundle again")
        return settings

    def sha256(self) -> str:
        """Hash by which caches and bundles know that they were made by the same chain."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
