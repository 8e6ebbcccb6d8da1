"""What the rivals learn from resting activity: principal and spontaneous components, and slow directions of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.networks.window_statistics import SCALES
from training.evaluation.features import (
    Features,
    PrincipalComponents,
    SpontaneousComponents,
    Windows,
    log_variance,
    raw,
)
from training.evaluation.rest import Rest
from training.evaluation.slow import SlowMap
from training.slow_pooling import PATTERNS_FROM, learn_window, see_window, steady

AT_ONCE = 500
SLOWED = ("pca_rest", "log_variance_scales", "lagged_covariances")


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """`slow` by name, of SLOWED; `window` of all statistics together, as they are served, with their `loading`."""

    components: PrincipalComponents
    spontaneous: SpontaneousComponents
    slow: dict[str, SlowMap]
    loading: NDArray[np.float32]
    window: SlowMap

    def features(self, name: str, windows: Windows, usable: NDArray[np.bool_]) -> Features:
        """A rival's features, `name` one of SLOWED or log_variance, with `_slow` their slow directions; (n, …)."""
        if name == "statistics_slow":
            return see_window(windows, usable, self.spontaneous.patterns, self.loading, self.window)
        plain = name.removesuffix("_slow")
        found = _features(plain, windows, self.components, self.spontaneous)
        return found if plain == name else self.slow[plain](found)


def _features(
    name: str, windows: Windows, components: PrincipalComponents, spontaneous: SpontaneousComponents
) -> Features:
    made: dict[str, Callable[[Windows], Features]] = {
        "log_variance": log_variance,
        "log_variance_scales": lambda some: log_variance(some, SCALES),
        "lagged_covariances": spontaneous.features,
        "pca_rest": lambda some: components.features(raw(some)),
    }
    return _in_batches(made[name], windows)


def _in_batches(see: Callable[[Windows], Features], windows: Windows) -> Features:
    batches = (np.asarray(windows[k : k + AT_ONCE], np.float32) for k in range(0, len(windows), AT_ONCE))
    return np.concatenate([see(some) for some in batches])


def learned(rest: Rest, n_components: int) -> Unlabelled:
    rows = np.linspace(0, len(rest.windows) - 1, min(PATTERNS_FROM, len(rest.windows))).astype(int)
    some = rest.windows[rows].astype(np.float32)
    components, spontaneous = PrincipalComponents.fitted(raw(some), n_components), SpontaneousComponents.fitted(some)
    slow = {name: steady(_features(name, rest.windows, components, spontaneous), rest) for name in SLOWED}
    patterns, loading, window = learn_window(rest)
    assert np.array_equal(patterns, spontaneous.patterns)  # of the same windows
    return Unlabelled(components, spontaneous, slow, loading, window)


def write(file: Path, found: Unlabelled) -> None:
    arrays = {"centre": found.components.centre, "directions": found.components.directions}
    arrays |= {"patterns": found.spontaneous.patterns, "loading": found.loading}
    for name, one in (found.slow | {"window": found.window}).items():
        arrays |= {f"{name}.centre": one.centre, f"{name}.directions": one.directions}
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def read(file: Path) -> Unlabelled:
    with np.load(file) as stored:
        slow = {name: SlowMap(stored[f"{name}.centre"], stored[f"{name}.directions"]) for name in (*SLOWED, "window")}
        window = slow.pop("window")
        components = PrincipalComponents(stored["centre"], stored["directions"])
        return Unlabelled(components, SpontaneousComponents(stored["patterns"]), slow, stored["loading"], window)
