"""One law for everything that can happen to a stream: what the service says, `decode` says of the same samples.

Left out is only what no recording can know: predictions that a late marker withdrew, or that say so themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import Phase, event, example, given, settings
from hypothesis import strategies as st

import streaming.live
from streaming.chunk import Chunk
from streaming.events import Stimulation
from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings
from streaming.offline import predictions
from streaming.predictions import Mode, Prediction
from streaming.signal.bins import REASON_GAP
from streaming.signal.chain import SignalChain
from tests.streaming.fakes import LOST, QUICK, RATE, ListSource, MeanDecoder, chunks, manifest, stream
from tests.streaming.signal.test_chain import TRAIN_END_S, broadband, with_train

CHANNELS = 4
PART = RATE  # a second between two gaps
LONG = int(QUICK.longest_gap_s * RATE)
TRAIN = int(TRAIN_END_S * RATE)
NOISE = broadband(7.0, CHANNELS)

at = st.integers(-TRAIN, 3 * PART)
late = st.one_of(st.integers(-RATE // 2, RATE), st.integers(RATE, 3 * RATE // 2))  # samples after the onset


@dataclass(frozen=True)
class Epoch:
    """Samples from one connection to the next: where some are missing, trains with how late their markers come."""

    gaps: tuple[tuple[int, int], ...]
    trains: tuple[tuple[int, int], ...]
    dies: int | None
    every: int  # how it is cut, and some cuts more
    cuts: tuple[int, ...]

    @property
    def samples_uv(self) -> np.ndarray:
        """float32 (n, CHANNELS), what was lost included."""
        x = NOISE[: 2 * PART + sum(lost for _, lost in self.gaps)].copy()
        for onset, _ in self.trains:
            x = with_train_inside(x, onset)
        if self.dies is not None:
            x[self.dies :, 1] = 7.0
        return x

    def chunks(self, epoch: int, every: int, cuts: tuple[int, ...] = ()) -> list[Chunk]:
        x, first, parts = self.samples_uv, 0, []
        cuts = (*range(every, len(x), every), *cuts)
        for start, lost in [*self.gaps, (len(x), 0)]:
            parts += chunks(x[:start], list(cuts), first, epoch)
            first = start + lost
        return parts


def with_train_inside(x: np.ndarray, onset: int) -> np.ndarray:
    """The artifact, or as much of it as falls on samples."""
    padded = np.zeros((len(x) + 4 * TRAIN, CHANNELS), np.float32)
    start = onset + 2 * TRAIN
    if not 0 <= start < len(padded) - TRAIN - 200:
        return x
    return x + with_train(padded, start)[2 * TRAIN : 2 * TRAIN + len(x)]


@st.composite
def epochs(draw: st.DrawFn) -> Epoch:
    gaps: list[tuple[int, int]] = []
    first = 0
    for _ in range(draw(st.integers(0, 2))):
        start = first + draw(st.integers(1, PART))
        lost = draw(st.one_of(st.integers(1, 1500), st.integers(1500, LONG), st.integers(LONG + 1, LONG + 9000)))
        gaps.append((start, lost))
        first = start + lost
        if first > 4 * PART:
            break
    place = [at, st.integers(-TRAIN, 900)]
    for start, lost in gaps:  # so that trains touch gaps often
        place.append(st.integers(start - TRAIN - 100, start + lost + 100))
    trains = [(draw(st.one_of(place)), draw(late)) for _ in range(draw(st.integers(0, 2)))]
    if len(trains) == 2 and draw(st.booleans()):
        apart = draw(st.one_of(st.integers(TRAIN - 60, TRAIN + 200), st.integers(1, 2 * TRAIN)))
        trains[1] = (trains[0][0] + apart, trains[1][1])
    dies = None
    if all(after < RATE // 2 for _, after in trains):  # an artifact that came in moves the moment at which one dies
        dies = draw(st.one_of(st.none(), st.none(), st.integers(1, 2 * PART)))
    every = draw(st.sampled_from([300, 777, 3000, 9000, 90000]))
    cuts = draw(st.lists(st.integers(1, 6 * PART), max_size=20))
    return Epoch(tuple(gaps), tuple(sorted(trains)), dies, every, tuple(cuts))


def marker(epoch: int, index: int) -> Stimulation:
    """Of every second train nothing is told but its duration."""
    trial, pulses = 10 * epoch + index, (50, 170.0, 60.0, 300.0)
    return Stimulation(trial, 2, 20.0, 0.167, *(pulses if index % 2 == 0 else ()))


def heard(found: list[Epoch]) -> list:
    """What a live source gives: each marker with the first chunk that begins after it was sent."""
    items: list = []
    for number, epoch in enumerate(found):
        parts = epoch.chunks(number, epoch.every, epoch.cuts)
        firsts = [part.first_sample for part in parts]
        with_markers: list[list] = [[part] for part in parts]
        for index, (onset, after) in enumerate(epoch.trains):
            which = min(int(np.searchsorted(firsts, onset + after)), len(parts) - 1)
            if which and firsts[which] - firsts[which - 1] - len(parts[which - 1].samples_uv) > LONG:
                which -= 1  # behind a long gap the chain is new: nobody can answer a trial from before it
            with_markers[which].insert(0, (onset, marker(number, index)))
        items += [LOST] * (number > 0)
        items += [item for group in with_markers for item in group]
    return items


def recorded(found: list[Epoch], every: int) -> list:
    """The same as a recording gives it: each marker with the chunk that it falls into."""
    items: list = []
    for number, epoch in enumerate(found):
        trains = list(enumerate(epoch.trains))
        parts = epoch.chunks(number, every)
        for part in parts:
            while trains and (trains[0][1][0] < part.first_sample + len(part.samples_uv) or part is parts[-1]):
                index, (onset, _) = trains.pop(0)
                items.append((onset, marker(number, index)))
            items.append(part)
    return items


def live(items: list, decoder: MeanDecoder, mode: Mode) -> list[Prediction]:
    """What stood at the end: every prediction that no late marker withdrew."""
    said: list[Prediction] = []

    def revoke(first: int, last: int) -> None:
        newest = said[-1].epoch if said else 0
        said[:] = [p for p in said if p.epoch != newest or not first <= p.last_sample <= last]

    running = LiveDecoder(
        ListSource(items, stream()), decoder, LiveSettings(mode), [said.append], revoke, clock=lambda: 0.0
    )
    running.start()
    running.join()
    assert running.status().state == "ended"
    return said


@pytest.fixture(scope="module", autouse=True)
def reconnects_at_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming.live, "RETRY_S", 0.0)
        yield


def compare(found: list[Epoch], mode: Mode, kind: str, every: int, reasons: bool) -> int:
    """Asserts that both said the same, where `reasons` also why nothing is vouched for; returns of how many."""
    chain = replace(QUICK, normaliser=replace(QUICK.normaliser, kind=kind))
    decoder = MeanDecoder(manifest(chain=chain))
    offline = predictions(ListSource(recorded(found, every), stream()), decoder, mode)
    expected = {(p.epoch, p.last_sample, p.trial): p for p in offline}
    compared = 0
    for p in live(heard(found), decoder, mode):
        if "late_marker" in p.flags:
            continue
        q = expected[p.epoch, p.last_sample, p.trial]
        flags = tuple(flag for flag in p.flags if flag != "overload")
        assert bool(flags) == bool(q.flags)
        assert p.probability == q.probability
        assert np.array_equal(p.embedding, q.embedding) if q.embedding is not None else p.embedding is None
        assert p.sample_time == pytest.approx(q.sample_time, abs=1e-9)
        if reasons or not q.flags:
            assert (flags, p.usable_channels) == (q.flags, q.usable_channels)
        compared += 1
    return compared


anything = {
    "found": st.lists(epochs(), min_size=1, max_size=2),
    "mode": st.sampled_from(["continuous", "evoked"]),
    "kind": st.sampled_from(["rolling_z", "robust_trailing"]),
    "every": st.sampled_from([700, 7500, 30000]),
}


@settings(max_examples=80, deadline=None)
@given(**anything)
@example([Epoch((), ((-725, 0), (4127, 28574)), None, 300, ())], "continuous", "rolling_z", 700)  # it rings on
@example([Epoch(((1, 1),), ((0, 41101), (4852, 0)), None, 300, ())], "continuous", "rolling_z", 700)  # in a line
@example([Epoch(((9990, 66),), ((1, 30000), (4856, 30006)), None, 3000, ())], "continuous", "rolling_z", 700)
@example([Epoch(((1, 1),), ((0, 0), (0, 0)), None, 300, ())], "evoked", "rolling_z", 700)  # two trials at one onset
def test_live_is_offline(found: list[Epoch], mode: Mode, kind: str, every: int) -> None:
    compared = compare(found, mode, kind, every, reasons=False)
    event(f"{mode}: {min(compared, 3)} or more compared")


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(**anything)
@example([Epoch((), ((0, 0),), None, 300, ())], "continuous", "rolling_z", 7500)
@example([Epoch(((1, 1),), ((0, 0), (0, 3)), None, 300, ())], "continuous", "rolling_z", 700)
def test_and_for_the_same_reason(found: list[Epoch], mode: Mode, kind: str, every: int) -> None:
    compare(found, mode, kind, every, reasons=True)


def test_a_train_at_the_start_kills_no_channel() -> None:
    chain = SignalChain(QUICK, RATE, CHANNELS)
    chain.stimulation(0, TRAIN_END_S)
    chain.push(NOISE[:300], 0)
    assert chain.next_bin == 0, "bins are held back"
    assert chain.usable_at(9) == CHANNELS


def test_a_late_train_that_touches_one_with_a_gap_in_it() -> None:
    chains = []
    for told in (0, 27500):
        chain = SignalChain(QUICK, RATE, CHANNELS)
        chain.stimulation(24000, TRAIN_END_S)
        for start, end in ((0, 24500), (24600, 27500), (27500, 45000)):
            if start == told:
                chain.stimulation(26000, TRAIN_END_S)
            chain.push(NOISE[start:end], start)
        chains.append(chain)
    timely, late = chains
    np.testing.assert_array_equal(timely.rings.reasons(0, 1500), late.rings.reasons(0, 1500))


def test_bins_that_are_held_back_still_settle_after_the_gap() -> None:
    chain = SignalChain(QUICK, RATE, CHANNELS)
    chain.push(NOISE[:30000], 0)
    chain.stimulation(31000, TRAIN_END_S)
    chain.push(NOISE[30500:35000], 30500)  # half a thousand lost: the filters settle to bin 1066, bins wait from 1032
    assert chain.next_bin == 1032
    reason = chain.window(1160, np.zeros((CHANNELS, 128), np.float32), np.zeros(CHANNELS, bool))
    assert reason & REASON_GAP
