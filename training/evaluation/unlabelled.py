"""What the rivals learn from resting activity: principal and spontaneous components, and slow directions of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from training.evaluation.features import (
    SCALES,
    Features,
    PrincipalComponents,
    SpontaneousComponents,
    Windows,
    log_variance,
    raw,
)
from training.evaluation.rest import Rest
from training.evaluation.slow import SlowMap
from training.slow_pooling import steady

FITTED_TO = 3000  # windows, for principal components: as many directions can be told apart
AT_ONCE = 500
SLOWED = ("pca_rest", "log_variance_scales", "lagged_covariances", "statistics")


@dataclass(frozen=True, eq=False)
class Unlabelled:
    components: PrincipalComponents
    spontaneous: SpontaneousComponents
    slow: dict[str, SlowMap]

    def features(self, name: str, windows: Windows) -> Features:
        """A rival's features, `name` one of SLOWED or log_variance, with `_slow` their slow directions; (n, …)."""
        if name.endswith("_slow"):
            plain = name.removesuffix("_slow")
            return self.slow[plain](self.features(plain, windows))
        return _features(name, windows, self.components, self.spontaneous)


def _features(
    name: str, windows: Windows, components: PrincipalComponents, spontaneous: SpontaneousComponents
) -> Features:
    made: dict[str, Callable[[Windows], Features]] = {
        "log_variance": log_variance,
        "log_variance_scales": lambda some: log_variance(some, SCALES),
        "lagged_covariances": spontaneous.features,
        "statistics": partial(_statistics, spontaneous=spontaneous),
        "pca_rest": lambda some: components.features(raw(some)),
    }
    return _in_batches(made[name], windows)


def statistics(windows: Windows, spontaneous: SpontaneousComponents) -> Features:
    """Means, log-variances at three scales and lagged covariances, (n, …)."""
    return _in_batches(partial(_statistics, spontaneous=spontaneous), windows)


def _statistics(windows: Windows, spontaneous: SpontaneousComponents) -> Features:
    return np.hstack([windows.mean(axis=2), log_variance(windows, SCALES), spontaneous.features(windows)])


def _in_batches(see: Callable[[Windows], Features], windows: Windows) -> Features:
    batches = (np.asarray(windows[k : k + AT_ONCE], np.float32) for k in range(0, len(windows), AT_ONCE))
    return np.concatenate([see(some) for some in batches])


def learned(rest: Rest, n_components: int) -> Unlabelled:
    rows = np.linspace(0, len(rest.windows) - 1, min(FITTED_TO, len(rest.windows))).astype(int)
    some = rest.windows[rows].astype(np.float32)
    components, spontaneous = PrincipalComponents.fitted(raw(some), n_components), SpontaneousComponents.fitted(some)
    slow = {}
    for name in SLOWED:
        slow[name] = steady(_features(name, rest.windows, components, spontaneous), rest)
    return Unlabelled(components, spontaneous, slow)


def write(file: Path, found: Unlabelled) -> None:
    arrays = {"centre": found.components.centre, "directions": found.components.directions}
    arrays["patterns"] = found.spontaneous.patterns
    for name, one in found.slow.items():
        arrays |= {f"{name}.centre": one.centre, f"{name}.directions": one.directions}
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def read(file: Path) -> Unlabelled:
    with np.load(file) as stored:
        return Unlabelled(
            PrincipalComponents(stored["centre"], stored["directions"]),
            SpontaneousComponents(stored["patterns"]),
            {name: SlowMap(stored[f"{name}.centre"], stored[f"{name}.directions"]) for name in SLOWED},
        )
