"""The rows of the table: what a trial's answer is foretold from.

A row is an encoder and a pooling (`ENCODED`), features that need none (`PLAIN`), or what is known without the cortex.
`_slow` rows read two slow directions of the same features, learned from resting activity without labels; `_served` ones
those of an encoder by place and those of the window's statistics, as a bundle does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.evaluation import without_cortex
from training.evaluation.features import Features, blanked, raw
from training.evaluation.predictors import Linear, Predictor, by_prior, components, network
from training.evaluation.unlabelled import Unlabelled
from training.trials import Trials, stimulus

# short enough for a console; "slow": two slow directions of it, "MAE": the masked autoencoder's embedding, pooled
WORDS = {
    "raw_mua": "raw MUA",
    "pca": "PCA of the labelled trials",
    "pca_rest": "PCA of rest",
    "mae": "MAE, mean",
    "mae_mean_and_spread": "MAE, mean and spread",
    "mae_registers": "MAE, registers",
    "mae_attention": "MAE, attention",
    "mae_place": "MAE, by place",
    "mae_slow": "MAE, mean, slow",
    "mae_mean_and_spread_slow": "MAE, mean and spread, slow",
    "mae_place_slow": "MAE, by place, slow",
    "mae_served": "MAE and statistics, slow",
    "pca_rest_slow": "PCA of rest, slow",
    "log_variance": "ln variance",
    "log_variance_scales": "ln variance, three scales",
    "log_variance_scales_slow": "ln variance, scales, slow",
    "lagged_covariances": "lagged covariances",
    "lagged_covariances_slow": "lagged covariances, slow",
    "statistics_slow": "all these statistics, slow",
    "supervised": "small network, labels alone",
    "untrained": "untrained, mean",
    "untrained_place_slow": "untrained, by place, slow",
    "time_shuffled": "shuffled time, mean",
    "time_shuffled_place_slow": "shuffled time, place, slow",
    "no_cross_session": "no session loss, mean",
    "no_cross_session_place_slow": "no session loss, place, slow",
    "electrodes_permuted": "electrodes permuted, mean",
    "electrodes_permuted_place_slow": "permuted, by place, slow",
    "untrained_served": "untrained and statistics",
    "time_shuffled_served": "shuffled time and statistics",
    "no_cross_session_served": "no session loss and statistics",
    "electrodes_permuted_served": "permuted, and statistics",
    "electrodes_removed": "ten electrodes lost, mean",
    "electrodes_removed_place_slow": "ten lost, by place, slow",
    "electrodes_removed_served": "ten lost, MAE and statistics",
    "stimulus": "electrode and current",
    "prior": "session's, electrode's rate",
    "running_rate": "last ten reports",
    "time_of_trial": "time of trial",
    "without_cortex": "all but the cortex",
    "mae_and_stimulus": "MAE, mean + stimulus",
    "mae_place_slow_and_stimulus": "MAE, place, slow + stimulus",
    "mae_served_and_stimulus": "MAE, statistics + stimulus",
    "statistics_slow_and_stimulus": "statistics, slow + stimulus",
    "mae_served_and_without_cortex": "MAE, statistics + all else",
}
OBSERVERS = {
    "state_known": "O1, knows the state",
    "window": "O2, sees the same window",
    "two_seconds": "O3, sees 2 s more before",
    "stimulus": "O4, electrode and current",
    "rate": "O5, rate of the electrode",
}
WITHOUT_CORTEX = ("stimulus", "prior", "running_rate", "time_of_trial", "without_cortex")
RIVALS = (
    "log_variance", "log_variance_scales", "log_variance_scales_slow", "lagged_covariances", "lagged_covariances_slow",
    "statistics_slow", "pca_rest_slow",
)  # fmt: skip
ENCODERS = ("mae", "electrodes_removed", "electrodes_permuted", "untrained", "time_shuffled", "no_cross_session")
ALWAYS = ("mae", "electrodes_removed")  # the others are for participants with every control
FEW = (
    "raw_mua",
    "pca",
    "pca_rest",
    *RIVALS,
    "supervised",
    "stimulus",
)  # and each pooling: by how many labels they need
WITH_CONTROLS = ("mae_registers", "mae_attention")  # poolings that are only compared where every control is
PERMUTED = ("raw_mua", "pca_rest", "statistics_slow", "mae", "mae_place_slow", "mae_served")


@dataclass(frozen=True, eq=False)
class Row:
    """A row by its parts: an encoder's pooling (None: no encoder), and what is given beside it."""

    name: str
    encoder: str | None
    pooling: str
    beside: str | None  # stimulus, without_cortex

    @classmethod
    def of(cls, name: str) -> Row:
        features, _, beside = (
            name.partition("_and_") if name.endswith(("stimulus", "without_cortex")) else (name, "", "")
        )
        encoder = next((one for one in ENCODERS if features.startswith(one)), None)
        pooling = features.removeprefix(encoder or "").strip("_") or "mean"
        return cls(name, encoder, "mean_slow" if pooling == "slow" else pooling, beside or None)

    @property
    def from_rest(self) -> bool:
        return self.encoder is None and self.name.startswith(("pca_rest", "log_variance", "lagged", "statistics"))

    @property
    def columns(self) -> int:
        """About how many features it reads."""
        if self.name in ("raw_mua", "pca"):
            return 12_288
        if self.name in ("pca_rest", "supervised") or self.pooling in ("place", "registers", "attention"):
            return 768
        few = self.pooling == "served" or "slow" in self.name or self.name in WITHOUT_CORTEX
        return 2 if few else 384

    @property
    def by_each(self) -> bool:
        """Whether it is also fitted to each session alone, and to all but each: the paper's rows, and what is cheap."""
        if self.encoder == "electrodes_removed":
            return False
        return self.name in ("raw_mua", "pca", "pca_rest", "mae") or self.columns == 2

    @property
    def by_few(self) -> bool:
        """Whether its need of labels is measured."""
        return self.name in FEW or (self.encoder == "mae" and self.beside is None)


def predictor(
    row: Row, trials: Trials, embedded: dict[str, Features], unlabelled: Unlabelled | None, n_components: int
) -> Predictor:
    """`embedded`: pooling -> (n, …) of the row's encoder; `unlabelled` where the row is `from_rest`."""
    labels, known = trials.perceived, stimulus(trials, np.unique(trials.electrode))
    match row.name:
        case "raw_mua":
            return Linear(raw(blanked(trials)), labels)
        case "pca":
            return components(raw(blanked(trials)), labels, n_components)
        case "supervised":
            return network(blanked(trials), labels)
        case "stimulus":
            return Linear(known, labels)
        case "prior":
            return by_prior(trials)
        case "running_rate":
            return Linear(without_cortex.running_rate(trials), labels)
        case "time_of_trial":
            return Linear(without_cortex.time_of_trial(trials), labels)
        case "without_cortex":
            return Linear(without_cortex.everything(trials), labels)
    if row.encoder is not None:
        features = embedded[row.pooling]
    else:
        assert unlabelled is not None
        features = unlabelled.features(row.name.removesuffix(f"_and_{row.beside}"), blanked(trials), trials.usable)
    free = {"stimulus": known, "without_cortex": without_cortex.everything(trials)}
    return Linear(features, labels, free[row.beside] if row.beside else None)
