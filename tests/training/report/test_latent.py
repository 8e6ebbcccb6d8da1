"""Numbers about embeddings whose truth is known: clusters, noise, a map of the array."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from training.report.latent import (
    current_by_electrode,
    evenly,
    explained,
    neighbours,
    purity,
    space,
    spatial,
    tsne,
)

RNG = np.random.default_rng(0)
N = 300
LABEL = np.arange(N) % 6
CLUSTERS = 50.0 * np.eye(6)[LABEL] @ RNG.standard_normal((6, 20)) + RNG.standard_normal((N, 20))
NOISE = RNG.standard_normal((N, 20))


def test_separated_clusters_are_pure_and_noise_is_at_chance():
    pure = purity(neighbours(CLUSTERS), LABEL)
    assert pure.value == 1.0
    assert pure.interval[0] < 1 / 6 < pure.interval[1]
    noise = purity(neighbours(NOISE), LABEL)
    assert noise.value == pytest.approx(1 / 6, abs=0.04)
    assert noise.shuffled == pytest.approx(1 / 6, abs=0.02)


def test_what_only_a_groups_make_up_gives_is_no_evidence():
    """Sessions lie apart and each has electrodes of its own; within a session there is nothing to tell them by."""
    session = np.arange(N) * 3 // N
    points = 50.0 * np.eye(3)[session] + RNG.standard_normal((N, 3))
    electrode = 2 * session + np.arange(N) % 2
    naive, honest = purity(neighbours(points), electrode), purity(neighbours(points), electrode, within=session)
    assert naive.value == honest.value == pytest.approx(1 / 2, abs=0.05)
    assert naive.interval[1] < 0.25
    assert honest.interval[0] < honest.value < honest.interval[1]


def test_neighbours_are_the_nearest_and_never_oneself_or_ones_own_group():
    points = np.arange(10.0)[:, None]
    assert np.sort(neighbours(points, 2)[4]).tolist() == [3, 5]
    group = np.arange(10) // 3
    apart = neighbours(points, 8, apart=group)
    assert (group[apart[4][apart[4] >= 0]] != group[4]).all()
    assert (apart[4] >= 0).sum() == 7
    assert apart[4][0] in (2, 6)


def test_a_map_of_the_array_is_found_and_noise_is_none():
    position = np.argwhere(np.ones((5, 4))).astype(float)
    electrode = 1 + np.arange(N) % 20
    carried = position[electrode - 1] @ RNG.standard_normal((2, 20))
    found = spatial(carried + 0.3 * NOISE, electrode, position)
    assert found["rho"]["value"] > 0.8
    assert found["p"] == 1 / 1000
    assert found["pairs"] == len(found["distances"]) == 190
    away, latent = np.array(found["distances"]).T
    assert found["rho"]["value"] == pytest.approx(spearmanr(away, latent).statistic)
    nothing = spatial(NOISE, electrode, position)
    low, high = nothing["rho"]["interval"]
    assert low < nothing["rho"]["value"] < high
    assert spatial(NOISE, electrode % 3 + 1, position) == {"electrodes": 3, "rho": None}


def test_explained_variance_is_that_of_a_linear_law():
    value = CLUSTERS @ RNG.standard_normal(20)
    assert explained(CLUSTERS, value) > 0.99
    noisy = value / value.std() + RNG.standard_normal(N)
    assert explained(CLUSTERS, noisy) == pytest.approx(0.5, abs=0.1)
    assert explained(NOISE, RNG.standard_normal(N)) < 0.05


def test_current_is_read_at_each_electrode_by_itself():
    """The directions differ, so that nothing could be read from all electrodes together."""
    electrode, current = 1 + np.arange(N) % 2, 81 ** (RNG.integers(6, size=N) / 5)
    direction = np.where(electrode == 1, 1.0, -1.0)[:, None] * RNG.standard_normal(20)
    found = current_by_electrode(NOISE + np.log(current)[:, None] * direction, electrode, current)
    assert set(found["by_electrode"]) == {1, 2}
    assert found["median"] > 0.9
    assert found["median_shuffled"] < 0.1
    alike = current_by_electrode(NOISE, electrode, np.full(N, 20.0))
    assert alike == {"by_electrode": {}, "median": None, "median_shuffled": None}


def test_pictures_are_reproducible_and_keep_clusters():
    points = space(CLUSTERS)
    assert points.shape == (N, 20)
    assert np.allclose(points.mean(axis=0), 0, atol=1e-9)
    some = points[:90]
    first = tsne(some)
    assert np.array_equal(first, tsne(some))
    assert purity(neighbours(first, 5), LABEL[:90]).value == 1.0
    assert tsne(points[:12]).shape == (12, 2)  # fewer than the usual perplexity
    assert space(NOISE[:30].repeat(4, axis=1)).shape == (30, 30)


def test_a_thousand_rows_are_taken_evenly():
    assert evenly(np.arange(10), 20).tolist() == list(range(10))
    taken = evenly(np.arange(5000), 1000)
    assert len(np.unique(taken)) == 1000
    assert set(np.diff(taken)) <= {4, 5, 6}
