"""The laws of the signal chain: right, causal, the same for any cutting, and faults stay where they are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import OperatorFault, RigFault
from streaming.signal.bins import ENVELOPE_REASONS, REASON_BLANK
from streaming.signal.chain import LateMarker, SignalChain
from streaming.signal.settings import ChainSettings, NormaliserSettings
from tests.streaming.signal import oracle

RATE = 30000
SHORT = ChainSettings(normaliser=NormaliserSettings(window_s=1.0, min_history_s=0.2))
TRAIN_END_S = 49 / 300 + 400e-6


def broadband(seconds: float, channels: int = 5, rate: float = RATE, seed: int = 0) -> np.ndarray:
    """Noise whose loudness wanders, slow waves, offsets, common hum: float32 µV."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    time = np.arange(n)[:, None] / rate
    loud = 12 + 5 * np.sin(2 * np.pi * (1 + np.arange(channels)) * time)
    x = (
        loud * rng.standard_normal((n, channels))
        + 80 * np.sin(2 * np.pi * 7 * time)
        + 300 * rng.standard_normal(channels)
    )
    return (x + 40 * np.sin(2 * np.pi * 50 * time)).astype(np.float32)


def run(
    x: np.ndarray, cuts: list[int] | None = None, chain: SignalChain | None = None, rate: float = RATE
) -> SignalChain:
    chain = chain or SignalChain(SHORT, rate, x.shape[1])
    edges = [0, *sorted(set(cuts or [])), len(x)]
    for start, end in itertools.pairwise(edges):
        chain.push(x[start:end], start)
    return chain


def everything(chain: SignalChain, first: int = 0) -> tuple[np.ndarray, ...]:
    last = chain.next_bin
    return (
        chain.rings.plane(0, first, last),
        chain.rings.z(first, last),
        chain.rings.plane(2, first, last),
        np.isfinite(chain.rings.plane(1, first, last)).astype(np.float32),
        chain.rings.reasons(first, last),
    )


def same(a: SignalChain, b: SignalChain) -> bool:
    return a.next_bin == b.next_bin and all(map(np.array_equal, everything(a), everything(b)))


@pytest.mark.parametrize("rate", [15000, 19531, 19531.25, 20000, 30000, 32000, 40000])
@pytest.mark.parametrize("channels", [1, 5, 130])
def test_agrees_with_scipy_at_every_rate(rate: float, channels: int) -> None:
    x = broadband(0.6, channels, rate)
    expected = oracle.envelope(x, rate)
    found = run(x, rate=rate).rings.plane(0, 0, len(expected))
    scale = expected[100:].std()
    assert np.abs(found - expected).max() <= 1e-4 * scale


def test_z_agrees_with_a_plain_rolling_z() -> None:
    x = broadband(2.6, 3)
    chain = run(x)
    values, z, ok, *_ = everything(chain)
    expected = oracle.rolling_z(values.astype(np.float64), ok > 0, SHORT)
    assert np.abs(z - expected).max() < 5e-4
    assert np.isfinite(chain.rings.plane(1, 0, chain.next_bin)[300:]).all()
    assert not ok[:49].any(), "the filters settle for 50 ms"
    assert not z[: 49 + 199].any(), "and the normaliser wants 0.2 s of history"


def test_exact_rolling_median_and_mad() -> None:
    robust = ChainSettings(normaliser=NormaliserSettings("robust_trailing", 0.25, 0.05), start_settle_s=0.0)
    x = broadband(0.8, 4)
    chain = run(x, list(range(0, len(x), 171)), SignalChain(robust, RATE, 4))
    values, z, *_ = everything(chain)
    assert np.array_equal(z, oracle.rolling_robust_z(values, robust).astype(np.float32))


def test_frozen_statistics() -> None:
    frozen = ChainSettings(normaliser=NormaliserSettings("robust_frozen"))
    median, mad = np.array([8.0, 9.0, 10.0]), np.array([1.0, 2.0, 0.0])
    chain = run(broadband(0.3, 3), chain=SignalChain(frozen, RATE, 3, frozen=(median, mad)))
    values, z, ok, *_ = everything(chain)
    expected = ok * (values - median) / np.maximum(1.4826 * mad, frozen.normaliser.floor_uv)
    assert np.allclose(z, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(OperatorFault, match="no median and MAD for 3 channels"):
        SignalChain(frozen, RATE, 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30000), max_size=40), st.sampled_from([19531.25, 30000]))
def test_any_cutting_gives_the_same_bits(cuts: list[int], rate: float) -> None:
    x = broadband(1.0, 5, rate)
    cuts = [cut for cut in cuts if cut < len(x)]
    assert same(run(x, cuts, rate=rate), run(x, rate=rate))


def test_one_sample_at_a_time() -> None:
    x = broadband(0.15, 3)
    assert same(run(x, list(range(len(x)))), run(x))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 29999))
def test_causality(cut: int) -> None:
    x = broadband(1.0)
    changed = x.copy()
    changed[cut:] = 1000 - changed[cut:]
    a, b = run(x), run(changed)
    before = a.grid.bin_of(cut)
    for left, right in zip(everything(a), everything(b), strict=True):
        assert np.array_equal(left[:before], right[:before])


def test_inputs_are_untouched() -> None:
    x = broadband(0.5)
    x[100, 2] = np.nan
    kept = x.copy()
    x.flags.writeable = False
    run(x, [10, 4000])
    assert np.array_equal(x, kept, equal_nan=True)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 29000),
    st.integers(1, 900),
    st.sampled_from([np.nan, np.inf, -np.inf, 3e38]),
    st.lists(st.integers(0, 30000), max_size=5),
)
def test_what_is_not_finite_stays_in_its_channel(at: int, length: int, value: float, cuts: list[int]) -> None:
    x = broadband(1.0)
    broken = x.copy()
    broken[at : at + length, 2] = value
    chain = run(broken, [c for c in cuts if c < len(x)])
    envelope, z, ok, _ok_z, _ = everything(chain)
    assert np.isfinite(envelope).all()
    assert np.isfinite(z).all()
    others = [0, 1, 3, 4]
    first, last = chain.grid.bin_of(at), chain.grid.bin_of(min(at + length, len(x)) - 1)
    assert not ok[first : last + 1, 2].any(), "bins with such samples are not vouched for"
    held = x.copy()  # the others are referenced as if the channel had kept its last good value
    held[at : at + length, 2] = x[at - 1, 2] if at else x[0, others].mean()
    expected = oracle.envelope(held, RATE)
    assert np.abs(envelope - expected)[:, others].max() < 1e-3
    assert np.array_equal(ok[:, others] > 0, run(x).rings.plane(2, 0, chain.next_bin)[:, others] > 0)


def test_a_masked_channel_that_is_never_finite_is_not_there() -> None:
    x = broadband(0.5)
    x[:, 1] = np.nan
    mask = np.array([True, False, True, True, True])
    expected = oracle.envelope(np.nan_to_num(x), RATE, mask=mask)
    chain = run(x, chain=SignalChain(SHORT, RATE, 5, mask))
    assert np.abs(chain.rings.plane(0, 0, 500) - expected)[:, [0, 2, 3, 4]].max() < 1e-4 * expected.std()


@pytest.mark.parametrize("value", [0.0, 137.5, np.nan])
def test_a_dead_channel_leaves_the_reference_after_a_second_and_returns_after_one(value: float) -> None:
    x = broadband(4.2)
    x[15000:75000, 3] = value  # 0.5 s to 2.5 s
    chain = SignalChain(SHORT, RATE, 5)
    usable = []
    for start in range(0, len(x), 30):
        chain.push(x[start : start + 30], start)
        usable.append(chain.usable[3])
    died, revived = usable.index(False), len(usable) - usable[::-1].index(False)
    assert abs(died - 1500) <= 1, "dead a second after it went flat"
    assert abs(revived - 3500) <= 1, "alive again after a second of signal"
    assert not chain.rings.plane(2, 1502, 3490)[:, 3].any()
    without = oracle.envelope(np.nan_to_num(x), RATE, mask=np.array([True, True, True, False, True]))
    assert np.abs(chain.rings.plane(0, 1600, 2400) - without[1600:2400])[:, [0, 1, 2, 4]].max() < 1e-3


def test_operator_mask_holds_from_the_next_bin_and_replays() -> None:
    x = broadband(1.0)
    mask = np.array([True, False, True, True, True])
    live = SignalChain(SHORT, RATE, 5)
    live.push(x[:10007], 0)
    holds = live.set_mask(mask, live.next_sample)
    assert holds == 10020
    live.push(x[10007:], 10007)
    replay = SignalChain(SHORT, RATE, 5)
    replay.set_mask(mask, holds)
    assert same(live, run(x, chain=replay))
    assert not live.rings.plane(2, 334, live.next_bin)[:, 1].any()
    assert live.rings.plane(2, 100, 334)[:, 1].all()
    with pytest.raises(OperatorFault, match="expected 5"):
        live.set_mask(np.ones(4, bool), 0)


def test_the_noise_of_a_channel_is_the_spread_of_its_envelope() -> None:
    x = broadband(1.5)
    x[:, 2] *= 3
    chain = run(x)
    end = chain.next_bin
    noise_uv = chain.noise_uv(end - 1000, end)
    assert noise_uv == pytest.approx(chain.rings.plane(0, end - 1000, end).std(axis=0), rel=1e-4)
    assert noise_uv[2] > 2 * noise_uv[0]
    assert np.isnan(SignalChain(SHORT, RATE, 5).noise_uv(-1000, 0)).all(), "nothing is known yet"


# Stimulation ---------------------------------------------------------------------------------------------------------


def with_train(x: np.ndarray, onset: int, amplitude: float = 4000.0) -> np.ndarray:
    """An artifact of 50 pulses at 300 Hz."""
    x = x.copy()
    for pulse in range(50):
        x[onset + 100 * pulse : onset + 100 * pulse + 12] += amplitude
    return x


def blank_of(onset: int) -> tuple[int, int]:
    return onset - 15, onset + round((TRAIN_END_S + 0.0015) * RATE) + 1


def test_blanked_stretch_is_bridged_by_a_straight_line() -> None:
    onset = 12345
    x = with_train(broadband(1.0), onset)
    chain = SignalChain(SHORT, RATE, 5)
    chain.stimulation(onset, TRAIN_END_S)
    run(x, [50, onset, onset + 300, onset + 6000], chain)
    expected = oracle.envelope(x, RATE, blanks=[blank_of(onset)])
    assert np.abs(chain.rings.plane(0, 0, 1000) - expected).max() < 1e-4 * expected.std()


def test_the_evoked_window_is_whole_and_the_blanked_bins_are_not() -> None:
    onset = 12000  # bin 400
    chain = SignalChain(SHORT, RATE, 5)
    chain.stimulation(onset, TRAIN_END_S)
    run(with_train(broadband(1.0), onset), chain=chain)
    good = chain.rings.reasons(0, 1000) == 0
    assert good[280:399].all()
    assert not good[399 : 400 + 170].any()
    assert good[400 + 170 : 1000].all()
    window, usable = np.zeros((5, 128), np.float32), np.zeros(5, bool)
    assert chain.window(400 + 170 + 127, window, usable) == 0
    assert usable.all()
    assert chain.window(400 + 169 + 127, window, usable) != 0


def test_bins_that_settle_at_a_windows_beginning_may_repeat_the_one_behind_them() -> None:
    chain = SignalChain(SHORT, RATE, 5)
    chain.stimulation(12000, 0.167)  # bin 400; blanked to 168.5 ms behind it, settled from 173 on
    run(with_train(broadband(1.0), 12000), chain=chain)
    window, usable = np.ones((5, 128), np.float32), np.zeros(5, bool)
    last = 400 + 170 + 127
    assert chain.window(last, window, usable) == REASON_BLANK
    assert chain.window(last, window, usable, may_settle=2) == REASON_BLANK
    assert chain.window(last, window, usable, may_settle=4) == 0
    assert usable.all()
    assert np.array_equal(window[:, 3:], chain.rings.z(573, 698).T)
    assert (window[:, :3] == window[:, 3:4]).all()
    assert chain.window(last + 3, window, usable, may_settle=4) == 0
    assert np.array_equal(window, chain.rings.z(573, 701).T), "all are settled, all are read"


@settings(max_examples=25, deadline=None)
@given(
    onset=st.integers(2000, 20000),
    late=st.integers(-3000, 24000),
    second=st.one_of(st.none(), st.integers(100, 9000)),
    cuts=st.lists(st.integers(0, 45000), max_size=12),
)
def test_a_late_marker_gives_what_a_timely_one_gives(
    onset: int, late: int, second: int | None, cuts: list[int]
) -> None:
    x = with_train(broadband(1.5), onset)
    timely = SignalChain(SHORT, RATE, 5)
    timely.stimulation(onset, TRAIN_END_S)
    if second is not None:
        timely.stimulation(onset + second, TRAIN_END_S)
    run(x, chain=timely)
    heard = min(max(onset + late, 1), len(x) - 1)
    live = SignalChain(SHORT, RATE, 5)
    edges = [0, *sorted({*(c for c in cuts if c < len(x)), heard}), len(x)]
    for start, end in itertools.pairwise(edges):
        if start == heard:
            live.stimulation(onset, TRAIN_END_S)
            if second is not None:
                live.stimulation(onset + second, TRAIN_END_S)
        if end > start:
            live.push(x[start:end], start)
    assert same(live, timely)


def test_robust_window_rewinds_exactly() -> None:
    robust = ChainSettings(normaliser=NormaliserSettings("robust_trailing", 0.5, 0.1))
    x = with_train(broadband(1.6, 3), 30000)
    timely = SignalChain(robust, RATE, 3)
    timely.stimulation(30000, TRAIN_END_S)
    run(x, chain=timely)
    late = run(x[:40000], chain=SignalChain(robust, RATE, 3))
    late.stimulation(30000, TRAIN_END_S)
    late.push(x[40000:], 40000)
    assert same(timely, late)


def test_a_marker_that_is_too_late_says_so() -> None:
    chain = run(broadband(2.5))
    with pytest.raises(LateMarker, match="expected at most 1 s"):
        chain.stimulation(20000, TRAIN_END_S)


def test_a_marker_that_came_too_late_spoils_nothing_for_the_next() -> None:
    x = with_train(broadband(2.5), 60000)
    timely = SignalChain(SHORT, RATE, 5)
    timely.stimulation(60000, TRAIN_END_S)
    run(x, chain=timely)
    chain = run(x[:70000])
    with pytest.raises(LateMarker):
        chain.stimulation(20000, TRAIN_END_S)
    chain.stimulation(60000, TRAIN_END_S)
    chain.push(x[70000:], 70000)
    assert same(chain, timely)


@pytest.mark.parametrize("channels", [5, 16])
def test_without_rewinding_the_same_numbers_and_no_late_markers(channels: int) -> None:
    x = with_train(broadband(1.2, channels), 20000)
    settings = replace(SHORT, rewind_s=0.0)
    chains = [SignalChain(settings, RATE, channels), SignalChain(SHORT, RATE, channels)]
    for chain in chains:
        chain.push(x[:15000], 0)
        chain.stimulation(20000, TRAIN_END_S)
        for start in range(15000, len(x), 450):
            chain.push(x[start : start + 450], start)
    assert same(*chains)
    with pytest.raises(LateMarker):
        chains[0].stimulation(30000, TRAIN_END_S)


def test_a_pending_mask_survives_a_long_gap() -> None:
    chain = run(broadband(0.5))
    mask = np.array([True, True, False, True, True])
    chain.set_mask(mask, chain.next_sample + 20000)
    chain.push(broadband(0.5), 500_000)
    assert np.array_equal(chain.usable, mask)


def test_masks_told_ahead_hold_behind_a_long_gap_from_their_own_sample() -> None:
    """As `decode --masks` tells them, all before the first sample, and as an operator gives them, one by one."""
    x, behind = broadband(2.0), 500_000
    first, second = np.array([True, False, True, True, True]), np.array([True, True, True, False, False])
    told, given = SignalChain(SHORT, RATE, 5), SignalChain(SHORT, RATE, 5)
    told.set_mask(first, 15_000)
    told.set_mask(second, behind + 40_020)
    given.push(x[:15_000], 0)
    given.set_mask(first, 15_000)
    given.push(x[15_000:30_000], 15_000)
    given.push(x[:40_020], behind)
    given.set_mask(second, behind + 40_020)
    given.push(x[40_020:], behind + 40_020)
    told.push(x[:30_000], 0)
    told.push(x[:30_000], behind)
    assert np.array_equal(told.usable, first), "until the second holds"
    told.push(x[30_000:], behind + 30_000)
    assert np.array_equal(told.usable, second)
    begins = told.grid.bin_of(behind)
    assert told.next_bin == given.next_bin
    assert all(map(np.array_equal, everything(told, begins), everything(given, begins)))


def test_a_marker_told_twice_changes_nothing() -> None:
    chain = run(broadband(1.0))
    assert chain.stimulation(20000, TRAIN_END_S) is not None
    before = everything(chain)
    assert chain.stimulation(20000, TRAIN_END_S) is None
    assert all(map(np.array_equal, before, everything(chain)))


def test_expected_blank_ends_with_its_marker_or_with_its_timeout() -> None:
    x = broadband(1.5)
    plain = run(x)
    chain = run(x[:20000])
    chain.expect_stimulation(20000, 0.3)
    chain.push(x[20000:28000], 20000)
    assert chain.awaits_marker
    assert chain.next_bin == plain.grid.bin_of(20000), "bins are held back"
    window, usable = np.zeros((5, 128), np.float32), np.zeros(5, bool)
    assert chain.window(900, window, usable) != 0
    chain.push(x[28000:], 28000)
    assert not chain.awaits_marker
    assert same(chain, plain), "no marker: it was data like any other"

    x = with_train(x, 20300)
    timely = SignalChain(SHORT, RATE, 5)
    timely.stimulation(20300, TRAIN_END_S)
    run(x, chain=timely)
    chain = run(x[:20000])
    chain.expect_stimulation(20000, 0.3)
    chain.push(x[20000:24000], 20000)
    chain.stimulation(20300, TRAIN_END_S)
    assert not chain.awaits_marker
    chain.push(x[24000:], 24000)
    assert same(chain, timely)
    with pytest.raises(OperatorFault, match="timeout"):
        chain.expect_stimulation(10**6, 5.0)


# Gaps ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(100, 20000), st.integers(1, 40000), st.lists(st.integers(0, 29999), max_size=6), st.booleans())
def test_lost_samples_never_shift_a_bin(at: int, lost: int, cuts: list[int], whole_bins: bool) -> None:
    if whole_bins:
        lost += -(at + lost) % 30
    x = broadband(1.0 + lost / RATE)
    chain = SignalChain(SHORT, RATE, 5)
    for start, end in ((0, at), (at + lost, len(x))):
        edges = [start, *sorted(c for c in set(cuts) if start < c < end), end]
        for left, right in itertools.pairwise(edges):
            chain.push(x[left:right], left)
    good = chain.rings.reasons(0, chain.next_bin) & ENVELOPE_REASONS == 0
    first, behind = chain.grid.bin_of(at), at + lost + 1500
    assert not good[first : chain.grid.bin_of(behind)].any()
    assert good[chain.grid.bin_of(behind) + 1 :].all()
    alone = oracle.envelope(x[at + lost :], RATE)  # filters restart at the first sample behind the gap
    if (at + lost) % 30 == 0:  # bins of the rest fall where its own bins fall
        after = chain.grid.bin_of(at + lost)
        found = chain.rings.plane(0, after, chain.next_bin)
        assert np.abs(found - alone[: len(found)]).max() < 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(20000, 34000), st.integers(1, 40000))
def test_what_is_held_back_for_a_marker_is_whole_behind_a_gap(at: int, lost: int) -> None:
    """The samples behind the gap take the rows of those that were held back, where it is about as long as the ring."""
    x = broadband(1.5 + lost / RATE)
    plain, holding = SignalChain(SHORT, RATE, 5), SignalChain(SHORT, RATE, 5)
    for chain in (plain, holding):
        chain.push(x[:20000], 0)
        if chain is holding:
            chain.expect_stimulation(20000, 0.5)
        held = chain.push(x[20000:at], 20000)
        behind = chain.push(x[at + lost :], at + lost)
        assert lost > 30000 or behind.first_bin == held.end_bin, "what is told leaves no hole"
    assert not holding.awaits_marker
    assert same(holding, plain)


def test_a_short_gap_keeps_the_history_and_a_long_one_starts_new() -> None:
    x = broadband(1.0)
    wide = ChainSettings(normaliser=NormaliserSettings(window_s=2.5, min_history_s=0.2))
    short = run(x, chain=SignalChain(wide, RATE, 5))
    short.push(x, 30000 + 30000)
    assert (short.rings.reasons(2060, 2990) == 0).all(), "a second's gap: history is still there"
    long = run(x)
    long.push(x, 30000 + 70000)
    assert (long.rings.reasons(3340, 3540) & 8 != 0).all(), "more than two seconds: the normaliser starts anew"
    fresh = SignalChain(SHORT, RATE, 5)
    fresh.push(x, 100000)
    assert np.array_equal(long.rings.z(3334, 4300), fresh.rings.z(3334, 4300))


def test_late_marker_behind_a_gap() -> None:
    x = with_train(broadband(1.5), 24000)
    chains = []
    for late in (False, True):
        chain = SignalChain(SHORT, RATE, 5)
        if not late:
            chain.stimulation(24000, TRAIN_END_S)
        chain.push(x[:20000], 0)
        chain.push(x[20500:23000], 20500)
        chain.push(x[23000:33000], 23000)
        if late:
            chain.stimulation(24000, TRAIN_END_S)
        chain.push(x[33100:], 33100)
        chains.append(chain)
    assert same(*chains)


def test_a_gap_inside_a_train() -> None:
    x = with_train(broadband(1.5), 24000)
    chain = SignalChain(SHORT, RATE, 5)
    chain.stimulation(24000, TRAIN_END_S)
    chain.push(x[:26000], 0)
    chain.push(x[27000:], 27000)
    good = chain.rings.reasons(0, chain.next_bin) & ENVELOPE_REASONS == 0
    assert good[100:799].all()
    end = 24000 + round((TRAIN_END_S + 0.0015) * RATE)
    assert not good[799 : chain.grid.bin_of(end + 1500)].any()
    assert good[chain.grid.bin_of(end + 1500) + 1 :].all()
    assert chain.rings.plane(0, 1050, 1400).max() < 40, "nothing of the artifact came through"


def test_samples_that_come_twice_or_of_another_width_are_refused() -> None:
    chain = run(broadband(0.1))
    with pytest.raises(RigFault, match="again"):
        chain.push(broadband(0.1), 100)
    with pytest.raises(RigFault, match="expected"):
        chain.push(np.zeros((30, 4), np.float32), 3000)
    with pytest.raises(RigFault, match="15000 to 40000"):
        SignalChain(SHORT, 1000, 5)


def test_fitted_at_rest_the_two_normalisers_agree_on_gaussian_data() -> None:
    x = (15 * np.random.default_rng(3).standard_normal((3 * RATE, 8))).astype(np.float32)
    rolling = run(x, chain=SignalChain(ChainSettings(normaliser=NormaliserSettings(window_s=2.0)), RATE, 8))
    kind = NormaliserSettings("robust_trailing", window_s=2.0)
    robust = run(x, chain=SignalChain(ChainSettings(normaliser=kind), RATE, 8))
    difference = np.abs(rolling.rings.z(1500, 3000) - robust.rings.z(1500, 3000))
    assert np.median(difference) < 0.1
