"""Where every channel is vouched for the normaliser takes a shorter way, and gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.signal import kernel as kn
from streaming.signal.chain import SignalChain
from streaming.signal.normaliser import Normaliser
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings, NormaliserSettings
from tests.streaming.signal.test_chain import broadband

QUICK = ChainSettings(normaliser=NormaliserSettings(window_s=0.5, min_history_s=0.2))
RATE = 30_000


def bins_of(chain: SignalChain, x: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Envelope, z and ok of all bins, and how many took the shorter way."""
    planes, shorter = [], 0
    window = round(QUICK.normaliser.window_s * BIN_RATE_HZ)
    for at in range(0, len(x), chunk):
        bins = chain.push(x[at : at + chunk], at)
        planes.append([chain.rings.plane(plane, bins.first_bin, bins.end_bin) for plane in (kn.ENVELOPE, kn.Z, kn.OK)])
        shorter += (bins.end_bin - bins.first_bin) * int(chain._state.i64[kn.WHOLE_RUN] > window)
    return *(np.concatenate([part[k] for part in planes]) for k in range(3)), shorter  # type: ignore[return-value]


@pytest.mark.parametrize("channels", [16, 96, 144])
@pytest.mark.parametrize("dies", [False, True])
def test_both_ways_give_the_same_bits(channels: int, dies: bool) -> None:
    """The offline normaliser never takes the shorter way; a channel that dies makes the chain leave it."""
    x = broadband(2.4, channels)
    if dies:
        x[45_000:57_000, 3] = 7.0
    envelope, z, ok, shorter = bins_of(SignalChain(QUICK, RATE, channels), x, 30)
    assert (shorter > 1500) if not dies else (0 < shorter < 1500)
    usable = ok > 0
    found = Normaliser(QUICK.normaliser, channels).push(envelope, usable.any(axis=1), usable)
    known = np.isfinite(z)
    assert known[700:].mean() > 0.95
    assert np.array_equal(found[known], z[known])


def test_the_way_does_not_depend_on_the_cutting() -> None:
    x = broadband(2.0, 16)
    x[30_000:40_000, 5] = 7.0
    one, other = (bins_of(SignalChain(QUICK, RATE, 16), x, chunk) for chunk in (30, 700))
    n = min(len(one[1]), len(other[1]))
    assert np.array_equal(one[1][:n], other[1][:n], equal_nan=True)
    assert one[3] > 0
