"""Random numbers by address: right in distribution, and a function of the address alone."""

import numpy as np
from scipy.stats import kstest

from streaming.participant import draws


def normals(key: int, n: int) -> np.ndarray:
    out = np.empty(n, np.float32)
    draws.fill_normal(np.uint64(key), out, draws.QUANTILES)
    return out


def test_the_fast_normals_are_normal():
    x = normals(7, 400_000).astype(np.float64)
    assert abs(x.mean()) < 0.01
    assert abs(x.var() - 1) < 0.01
    assert abs(np.mean(x**4) - 3) < 0.05
    assert kstest(x[:20_000], "norm").pvalue > 1e-3


def test_neighbours_and_neighbouring_keys_are_independent():
    x, y = normals(7, 400_000), normals(8, 400_000)
    for lag in (1, 2, 3, 4, 96, 97):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 0.01
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.01


def test_uniforms_fill_the_interval():
    u = np.array([draws.uniform(np.uint64(3), i) for i in range(5000)])
    assert kstest(u, "uniform").pvalue > 1e-3


def test_an_address_always_gives_the_same_numbers():
    assert draws.at(1, "a", 2).random() == draws.at(1, "a", 2).random()
    assert draws.at(1, "a", 2).random() != draws.at(1, "a", 3).random()
    assert draws.word(1, "a") == draws.word(1, "a") != draws.word(1, "b")
