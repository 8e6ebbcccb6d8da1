"""The rows of the table: what a trial's answer is foretold from.

`seen` gives trials and observers, `embedded` the embeddings of their windows by each encoder, `rest` what resting
activity gives without labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.evaluation import without_cortex
from training.evaluation.features import (
    SCALES,
    Features,
    PrincipalComponents,
    SpontaneousComponents,
    blanked,
    log_variance,
    raw,
)
from training.evaluation.outcomes import Layout
from training.evaluation.predictors import Linear, Predictor, by_prior, components, network
from training.evaluation.rest import Rest
from training.trials import Trials, stimulus

WORDS = {
    "raw_mua": "raw MUA",
    "pca": "principal components, of the labelled trials",
    "pca_rest": "principal components, of resting activity",
    "mae": "masked autoencoder, mean of its tokens",
    "mae_mean_and_spread": "— mean and spread",
    "mae_registers": "— registers",
    "mae_attention": "— attention, learned without labels",
    "log_variance": "ln variance of each channel",
    "log_variance_scales": "ln variance at three time scales",
    "lagged_covariances": "lagged covariances of the spontaneous components",
    "supervised": "small network, labels alone",
    "untrained": "same encoder, untrained",
    "time_shuffled": "same encoder, trained on shuffled time",
    "no_cross_session": "same encoder, no cross-session loss",
    "electrodes_permuted": "masked autoencoder, electrodes permuted",
    "stimulus": "electrode and current alone",
    "prior": "rates of session and electrode",
    "running_rate": "last ten reports",
    "time_of_trial": "time of trial",
    "without_cortex": "all that is known without the cortex",
    "mae_and_stimulus": "masked autoencoder, electrode and current",
    "rival_and_stimulus": "lagged covariances, electrode and current",
    "mae_and_without_cortex": "masked autoencoder and all that is known without",
}
OBSERVERS = {
    "state_known": "O1, knows the state",
    "window": "O2, sees the window",
    "two_seconds": "O3, sees the window and 2 s before the stimulus",
    "stimulus": "O4, electrode and current",
    "rate": "O5, rate of session and electrode",
}
TABLE_1 = ("raw_mua", "pca", "mae")
RIVALS = ("log_variance", "log_variance_scales", "lagged_covariances")
POOLED = ("mae", "mae_mean_and_spread", "mae_registers", "mae_attention")
OWN_ENCODER = ("untrained", "time_shuffled", "no_cross_session", "electrodes_permuted")
REMOVED = "electrodes_removed"  # the row of mae once more, tested without some electrodes
FROM_REST = ("pca_rest", "lagged_covariances", "rival_and_stimulus")
PERMUTED = ("raw_mua", "pca_rest", "lagged_covariances", "mae")
COUNTED = (*TABLE_1, "pca_rest", *RIVALS, *POOLED, "supervised", "stimulus")  # by how many labels they need


@dataclass(frozen=True, eq=False)
class Given:
    """All that a row may be made of. `embedded`: encoder (or row of that name) -> pooling -> (n, …)."""

    trials: Trials
    layout: Layout
    rest: Rest | None
    embedded: dict[str, dict[str, Features]]
    n_components: int


def row(name: str, given: Given) -> Predictor:
    """The predictor of a row of `WORDS`."""
    trials, labels = given.trials, given.trials.perceived
    known = stimulus(trials, np.unique(trials.electrode))

    def of(features: Features, free: Features | None = None) -> Predictor:
        return Linear(features, labels, free)

    makers: dict[str, Callable[[], Predictor]] = {
        "raw_mua": lambda: of(raw(blanked(trials))),
        "pca": lambda: components(raw(blanked(trials)), labels, given.n_components),
        "pca_rest": lambda: of(_rest_components(given).features(raw(blanked(trials)))),
        "log_variance": lambda: of(log_variance(blanked(trials))),
        "log_variance_scales": lambda: of(log_variance(blanked(trials), SCALES)),
        "lagged_covariances": lambda: of(_lagged(given)),
        "supervised": lambda: network(blanked(trials), labels),
        "stimulus": lambda: of(known),
        "prior": lambda: by_prior(trials),
        "running_rate": lambda: of(without_cortex.running_rate(trials)),
        "time_of_trial": lambda: of(without_cortex.time_of_trial(trials)),
        "without_cortex": lambda: of(without_cortex.everything(trials)),
        "mae": lambda: of(given.embedded["mae"]["mean"]),
        "mae_and_stimulus": lambda: of(given.embedded["mae"]["mean"], known),
        "rival_and_stimulus": lambda: of(_lagged(given), known),
        "mae_and_without_cortex": lambda: of(given.embedded["mae"]["mean"], without_cortex.everything(trials)),
    }
    makers |= {
        f"mae_{pooling}": lambda pooling=pooling: of(given.embedded["mae"][pooling])
        for pooling in ("mean_and_spread", "registers", "attention")
    }
    makers |= {name: lambda name=name: of(given.embedded[name]["mean"]) for name in (*OWN_ENCODER, REMOVED)}
    return makers[name]()


def _lagged(given: Given) -> Features:
    assert given.rest is not None
    return SpontaneousComponents.fitted(given.rest.first.astype(np.float32)).features(blanked(given.trials))


def _rest_components(given: Given) -> PrincipalComponents:
    assert given.rest is not None
    both = np.concatenate([given.rest.first, given.rest.second]).astype(np.float32)
    return PrincipalComponents.fitted(raw(both), given.n_components)
