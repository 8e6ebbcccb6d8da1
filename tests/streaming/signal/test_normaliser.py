"""The normaliser by itself gives what the chain gives, to the bit; frozen statistics are those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import OperatorFault
from streaming.signal.chain import SignalChain
from streaming.signal.normaliser import Normaliser, fit_statistics
from streaming.signal.settings import ChainSettings, NormaliserSettings
from tests.streaming.signal.test_chain import RATE, broadband


@pytest.mark.parametrize("kind", ["rolling_z", "robust_trailing", "robust_frozen", "robust_session"])
@pytest.mark.parametrize("block", [1, 333, 5000])
def test_a_cache_gives_what_the_chain_gives(kind: str, block: int) -> None:
    settings = ChainSettings(normaliser=NormaliserSettings(kind, window_s=0.7, min_history_s=0.2))
    x = broadband(2.5, 5)
    x[20000:20100, 2] = np.nan
    frozen = (np.linspace(6, 9, 5), np.linspace(1, 2, 5))
    chain = SignalChain(settings, RATE, 5, frozen=frozen)
    chain.stimulation(40000, 0.1637)
    bins = chain.push(x, 0)
    normaliser = Normaliser(settings.normaliser, 5, frozen)
    envelope, valid, usable = bins.envelope_uv, bins.valid, bins.usable
    broken = np.where(usable, envelope, np.float32(np.nan))  # as a cache marks what is not vouched for
    parts = [slice(b, b + block) for b in range(0, len(envelope), block)]
    found = np.concatenate([normaliser.push(broken[p], valid[p], usable[p]) for p in parts])
    assert np.array_equal(found, bins.z)


def test_statistics_of_a_calibration_block() -> None:
    envelope = np.random.default_rng(0).gamma(4, 2, (501, 3)).astype(np.float32)
    usable = np.ones(envelope.shape, bool)
    usable[:100, 1] = usable[:, 2] = False
    found = fit_statistics(envelope, usable)
    values = envelope[100:, 1].astype(np.float64)
    assert found.median_uv[1] == np.median(values)
    assert found.mad_uv[1] == np.median(np.abs(values - np.median(values)))
    assert np.isnan(found.median_uv[2])


def test_frozen_without_statistics_is_refused() -> None:
    with pytest.raises(OperatorFault, match="no median and MAD for 4 channels"):
        Normaliser(NormaliserSettings("robust_frozen"), 4)
