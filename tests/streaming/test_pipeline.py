"""Windows hang on the sample index, nothing broken is vouched for, and live equals offline."""

from __future__ import annotations

import errno
import itertools
import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import OperatorFault, RigFault
from streaming.chunk import Chunk
from streaming.events import Stimulation, UnknownEvent, parse_marker
from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings
from streaming.matching import decoding_settings
from streaming.offline import predictions, read_masks
from streaming.pipeline import Pipeline
from streaming.predictions import Prediction
from streaming.signal.chain import SignalChain
from tests.streaming.fakes import LOST, QUICK, RATE, ListSource, MeanDecoder, chunks, manifest, stream
from tests.streaming.signal.test_chain import TRAIN_END_S, broadband, with_train

TRAIN = Stimulation(7, 2, 20.0, 0.167, 50, 170, 60, 300)


def live(items: list, decoder: MeanDecoder | None = None, info=None, **options) -> tuple[list[Prediction], LiveDecoder]:
    """Run the decode thread over `items` to its end; every prediction, in order, and where late markers revoked."""
    said: list[Prediction] = []
    revoked: list[tuple[int, int]] = []
    source = ListSource(items, info or stream())
    decoder = LiveDecoder(
        source,
        decoder or MeanDecoder(),
        LiveSettings(**options),
        [said.append],
        revoke=lambda first, last: revoked.append((first, last)),
        clock=lambda: 0.0,
    )
    decoder.start()
    decoder.join()
    assert source.closed == 1
    late = [p for p in said for first, last in revoked if first <= p.last_sample <= last]
    return [p for p in said if not any(p is q for q in late)], decoder


def offline(x: np.ndarray, markers: list | None = None, info=None, decoder: MeanDecoder | None = None, **options):
    items = list(chunks(x, list(range(0, len(x), RATE))))
    for sample, marker in sorted(markers or [], key=lambda entry: entry[0], reverse=True):
        items.insert(sample // RATE, (sample, marker))
    return list(predictions(ListSource(items, info or stream()), decoder or MeanDecoder(), **options))


def agree(live_ones: list[Prediction], offline_ones: list[Prediction]) -> int:
    """Asserts equality where both have a prediction; returns how many were compared."""
    by_sample = {p.last_sample: p for p in offline_ones}
    compared = 0
    for p in live_ones:
        if "late_marker" in p.flags:
            continue
        q = by_sample[p.last_sample]
        assert tuple(flag for flag in p.flags if flag != "overload") == q.flags
        assert p.probability == q.probability
        assert p.usable_channels == q.usable_channels
        assert (p.embedding is None) == (q.embedding is None)
        assert p.embedding is None or np.array_equal(p.embedding, q.embedding)
        assert p.sample_time == pytest.approx(q.sample_time, abs=1e-9)
        compared += 1
    return compared


def test_windows_end_every_hop_on_the_absolute_grid() -> None:
    found = offline(broadband(1.0, 4))
    assert [p.last_sample for p in found] == [300 * k - 1 for k in range(1, 101)]
    assert [p.seq for p in found] == list(range(100))
    assert found[-1].sample_time == pytest.approx(29999 / RATE)
    settled = [p for p in found if not p.flags]
    assert settled[0].last_sample == 300 * 38 - 1, "50 ms filters, 200 ms history, 128 ms window, next hop"
    assert all(p.probability is None and p.embedding is None for p in found if p.flags)


@pytest.mark.parametrize("hop_ms", [1, 3, 10, 250])
def test_any_hop(hop_ms: int) -> None:
    found = offline(broadband(0.6, 4), hop_s=hop_ms / 1000)
    assert [p.last_sample for p in found] == [30 * hop_ms * k - 1 for k in range(1, 600 // hop_ms + 1)]
    with pytest.raises(OperatorFault, match="hop"):
        offline(broadband(0.1, 4), hop_s=0.0005)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 45000), max_size=60))
def test_live_equals_offline_for_any_cutting(cuts: list[int]) -> None:
    x = broadband(1.5, 4)
    found, _ = live(list(chunks(x, cuts)))
    assert agree(found, offline(x)) == len(found) > 0


@settings(max_examples=15, deadline=None)
@given(st.integers(6000, 20000), st.integers(0, 24000), st.integers(20, 900))
def test_live_equals_offline_whatever_the_marker_does(onset: int, late: int, cut: int) -> None:
    x = with_train(broadband(1.5, 4), onset)
    items: list = list(chunks(x, list(range(0, len(x), cut))))
    at = min(max(1, (onset + late) // cut), len(items))
    items.insert(at, (onset, TRAIN))
    found, _decoder = live(items)
    everything = offline(x, [(onset, TRAIN)])
    assert agree(found, everything) > 20
    blanked = [p for p in everything if "blanking" in p.flags]
    assert 28 <= len(blanked) <= 31, "about 0.3 s a train"
    assert all(p.probability is None for p in blanked)


def test_a_marker_too_late_to_honour_vouches_for_nothing_until_it_is_forgotten() -> None:
    x = broadband(5.0, 4)
    items: list = list(chunks(x, list(range(0, len(x), 300))))
    items.insert(250, (38000, TRAIN))  # 1.2 s late
    found, decoder = live(items)
    assert decoder.status().late_markers == 1
    gone = 38000 + (164 + 50 + 1000 + 128) * 30  # the train, the filters, the normaliser's second, the window
    after = [p for p in found if 250 * 300 < p.last_sample < gone]
    assert after
    assert all(p.probability is None and "late_marker" in p.flags for p in after)
    assert all("late_marker" not in p.flags for p in found if p.last_sample > gone + 600)
    assert agree([p for p in found if p.last_sample > 130000], offline(x)) > 0


def test_a_marker_that_comes_much_too_late_withdraws_what_the_artifact_spoilt_and_no_more() -> None:
    x = broadband(8.0, 4)
    items: list = list(chunks(x, list(range(0, len(x), 300))))
    items.insert(600, (38000, TRAIN))  # 4.7 s late
    found, decoder = live(items)
    assert decoder.status().late_markers == 1
    gone = 38000 + (164 + 50 + 1000 + 128) * 30
    assert not [p for p in found if 38000 < p.last_sample < gone - 600]
    before = [p for p in found if gone + 600 < p.last_sample < 600 * 300]
    assert len(before) > 200
    assert agree(before, offline(x)) == len(before)


def test_evoked_mode_answers_each_train_once() -> None:
    onset = 20000
    x = with_train(broadband(1.5, 4), onset)
    found = offline(x, [(onset, TRAIN)], mode="evoked")
    assert len(found) == 1
    assert found[0].trial == 7
    assert found[0].mode == "evoked"
    onset_bin = round(onset / 30)
    assert found[0].last_sample == (onset_bin + 298) * 30 - 1
    assert found[0].flags == ()
    items: list = list(chunks(x, [19000, 19999, 20500, 28000, 30000]))
    items.insert(3, (onset, TRAIN))
    assert agree(live(items, mode="evoked")[0], found) == 1


def test_evoked_mode_answers_a_trial_once_however_often_it_is_told() -> None:
    onset, another = 20000, replace(TRAIN, trial=8)
    items: list = list(chunks(broadband(1.5, 4), list(range(0, 45000, 300))))
    for at, marker in ((125, TRAIN), (110, another), (75, TRAIN), (66, TRAIN)):  # before, during, after its answer
        items.insert(at, (onset, marker))
    found, _ = live(items, mode="evoked")
    assert sorted(p.trial or 0 for p in found) == [7, 8]
    assert found[0].probability == found[1].probability is not None


STANDARD = {"event": "stim", "trial": 7, "electrode": 2, "current_ua": 20.0, "duration_s": 0.167}
PULSES = {"pulses": 50, "phase_us": 170, "interphase_us": 60, "frequency_hz": 300}
SUBSETS = [dict(subset) for n in range(5) for subset in itertools.combinations(PULSES.items(), n)]


def evoked(fields: dict[str, Any], onset: int = 20000, rate: float = RATE) -> Prediction:
    """The prediction after a train whose marker says this."""
    marker = parse_marker(json.dumps(fields))
    assert isinstance(marker, Stimulation)
    facts = vars(manifest().input) | {"rate_hz": rate}
    pipeline = Pipeline(
        decoding_settings(manifest(input=SimpleNamespace(**facts)), stream(rate_hz=rate), "evoked"),
        stream(rate_hz=rate),
        lambda: 0,
    )
    pipeline.stimulation(onset, marker)
    (due,) = pipeline.push(Chunk(broadband(onset / rate + 0.4, 4, rate), 0, 0.0, 0.0))
    return pipeline.decode(due, MeanDecoder(), 0.0, 0.0, lambda: 0.0)


@pytest.mark.parametrize("said", SUBSETS, ids=lambda said: "+".join(said) or "nothing")
def test_the_standard_trial_is_decoded_whatever_its_marker_leaves_out(said: dict[str, float]) -> None:
    found = evoked(STANDARD | said)
    assert found.flags == ()
    assert found.probability is not None
    bare = {name: STANDARD[name] for name in ("event", "duration_s")}
    assert evoked(bare | said).probability == found.probability


@pytest.mark.parametrize("rate", [15000.0, 19531.25, 30000.0, 40000.0])
@pytest.mark.parametrize("part", [0.0, 0.2, 0.499, 0.501, 0.8])
def test_wherever_in_a_bin_it_begins(rate: float, part: float) -> None:
    assert evoked(STANDARD, round((500 + part) * rate / 1000), rate).flags == ()


def test_a_longer_train_whose_pulses_are_not_told_leaves_too_little() -> None:
    assert evoked(STANDARD | {"duration_s": 0.1645}).flags == ()
    assert evoked(STANDARD | {"duration_s": 0.170}).flags == ("blanking",)
    assert evoked(STANDARD | PULSES | {"pulses": 55, "duration_s": 0.1833}).flags == ("blanking",)


def test_gaps_null_the_windows_that_they_touch() -> None:
    x = broadband(2.0, 4)
    whole = chunks(x, [30000, 30600])
    found = list(predictions(ListSource([whole[0], whole[2]], stream()), MeanDecoder()))
    touched = [p for p in found if "gap" in p.flags]
    assert touched
    assert all(p.probability is None for p in touched)
    assert touched[-1].last_sample < 30600 + (50 + 128 + 10) * 30
    assert found[-1].probability is not None


def test_a_reconnect_starts_everything_new_but_seq_goes_on() -> None:
    x = broadband(1.0, 4)
    items = [*chunks(x, [3000]), LOST, *chunks(x, [500], epoch=1)]
    found, decoder = live(items)
    assert [p.seq for p in found] == sorted({p.seq for p in found})
    fresh, _ = live(list(chunks(x, [500])))
    again = [p for p in found if p.seq >= len(found) - len(fresh)]
    assert [p.probability for p in again] == [p.probability for p in fresh]
    assert decoder.status().state == "ended"


def test_a_recording_that_breaks_is_not_one_that_is_over() -> None:
    parts = chunks(broadband(1.0, 4), [15000])
    broken = RigFault("s07.ns5: cut short or damaged at row 15000; copy it again")
    decoder = LiveDecoder(ListSource([parts[0], broken], stream(recorded=True)), MeanDecoder(), clock=lambda: 0.0)
    decoder.start()
    decoder.join()
    assert (decoder.status().state, decoder.status().problem) == ("ended", str(broken))


def test_the_newest_window_wins_and_the_skipped_are_counted() -> None:
    x = broadband(1.0, 4)
    found, decoder = live(list(chunks(x, [15000])))
    assert [p.last_sample for p in found] == [14999, 29999]
    assert decoder.status().skipped_windows == 98
    assert agree(found, offline(x)) == 2


def test_a_channel_that_dies_and_a_train_are_told_alike_in_any_chunks() -> None:
    x = with_train(broadband(2.4, 4), 60000)
    x[15000:, 3] = 7.0
    found, _ = live(list(chunks(x, list(range(0, len(x), 9000)))))
    fine, _ = live(list(chunks(x, list(range(0, len(x), 300)))))
    assert agree(found, offline(x, [])) == len(found)
    assert agree(fine, offline(x, [])) == len(fine)
    assert {p.usable_channels for p in fine} == {3, 4}
    marked = offline(x, [(60000, TRAIN)])
    assert {p.usable_channels for p in marked if "blanking" in p.flags} == {3}
    assert agree(live([(60000, TRAIN), *chunks(x, list(range(0, len(x), 450)))])[0], marked) > 0


@pytest.mark.parametrize("goes_on", [True, False])
def test_another_bundle_knows_of_the_train_that_runs(goes_on: bool) -> None:
    x = with_train(broadband(1.5, 4), 20000)
    chain = QUICK if goes_on else replace(QUICK, band_hz=(500.0, 4000.0))
    first, second = MeanDecoder(), MeanDecoder(manifest(chain=chain), "other@1")
    items: list = [(20000, TRAIN), *chunks(x, list(range(0, len(x), 300)))]
    source = ListSource(items, stream())
    said: list[Prediction] = []
    decoder = LiveDecoder(source, first, LiveSettings(mode="evoked"), [said.append], clock=lambda: 0.0)
    plain_read = source.read

    def read(timeout_s: float) -> Chunk | None:
        if len(source.items) == 150 - 75:  # in the middle of the train
            decoder.activate(second)
        return plain_read(timeout_s)

    source.read = read  # type: ignore[method-assign]
    decoder.start()
    decoder.join()
    (answer,) = said
    assert (answer.model, answer.trial) == ("other@1", 7)
    assert answer.flags == () if goes_on else "blanking" in answer.flags or "settling" in answer.flags
    assert decoder._pipeline is not None
    envelope = decoder._pipeline.chain.rings.plane(0, 760, 1400)
    assert envelope.max() < 40, "nothing of the artifact came through"


def swapped(x: np.ndarray, second: MeanDecoder, at: int, markers: list | None = None) -> list[Prediction]:
    """Chunks of 10 ms; before the one that begins with sample `at` the second bundle is activated."""
    items: list = list(chunks(x, list(range(0, len(x), 300))))
    for sample, marker in sorted(markers or [], key=lambda entry: entry[0], reverse=True):
        items.insert(sample // 300, (sample, marker))
    source, said = ListSource(items, stream()), []
    decoder = LiveDecoder(source, MeanDecoder(), LiveSettings(), [said.append], clock=lambda: 0.0)
    plain_read = source.read

    def read(timeout_s: float) -> Chunk | None:
        chunk = plain_read(timeout_s)
        if chunk is not None and chunk.first_sample == at:
            decoder.activate(second)
        return chunk

    source.read = read  # type: ignore[method-assign]
    decoder.start()
    decoder.join()
    return said


def test_a_bundle_that_reads_the_same_windows_takes_over_without_missing_one() -> None:
    x = with_train(broadband(2.4, 4), 20000)
    markers = [(20000, TRAIN)]
    second = MeanDecoder(name="other@1", slope=2.0)
    found = swapped(x, second, 36000, markers)
    before, after = offline(x, markers), offline(x, markers, decoder=MeanDecoder(name="other@1", slope=2.0))
    assert [p.seq for p in found] == list(range(len(before)))
    assert [p.model for p in found] == ["fake@1"] * 120 + ["other@1"] * (len(found) - 120)
    for p, q in zip(found, [*before[:120], *after[120:]], strict=True):
        assert (p.last_sample, p.probability, p.flags) == (q.last_sample, q.probability, q.flags)
    assert sum(p.probability is not None for p in found[120:]) > 100
    assert before[-1].probability != after[-1].probability


def test_a_bundle_that_reads_other_windows_settles_first() -> None:
    second = MeanDecoder(manifest(chain=replace(QUICK, band_hz=(500.0, 4000.0))), "other@1")
    found = swapped(broadband(2.4, 4), second, 36000)
    assert [p.last_sample for p in found] == [300 * k - 1 for k in range(1, 241)]
    assert all("settling" in p.flags for p in found[120:150])
    assert found[-1].probability is not None


def test_a_bundle_is_checked_at_the_rate_of_the_stream() -> None:
    wide, empty = replace(QUICK, band_hz=(500.0, 16000.0)), replace(QUICK, lowpass_hz=20000.0)
    idle = LiveDecoder(ListSource([], stream()), MeanDecoder())
    idle.check(MeanDecoder(manifest(chain=wide)))  # there is no stream yet
    _, running = live(list(chunks(broadband(0.1, 4), [300])))
    running.check(MeanDecoder())
    with pytest.raises(RigFault, match="found 30000 Hz, expected more than twice the band's 16000 Hz"):
        running.check(MeanDecoder(manifest(chain=wide)))
    with pytest.raises(ValueError, match="critical frequencies"):
        running.check(MeanDecoder(manifest(chain=empty)))


def test_which_bundle_reads_the_same_windows() -> None:
    one, other = manifest(), manifest(full_name="b@2", min_usable_channels=1)
    masked = manifest(array=SimpleNamespace(**vars(one.array) | {"masked": (2,)}))
    statistics = SimpleNamespace(median_uv=[1.0] * 4, mad_uv=[1.0] * 4)
    of = lambda made: decoding_settings(made, stream())  # noqa: E731
    assert of(one).same_windows(of(other))
    assert not of(one).same_windows(of(masked))
    assert not of(one).same_windows(replace(of(one), n_bins=256))
    frozen = replace(of(one), frozen=(np.ones(4), np.ones(4)))
    assert frozen.same_windows(replace(of(one), frozen=(np.array(statistics.median_uv), np.ones(4))))
    assert not frozen.same_windows(of(one))
    assert not frozen.same_windows(replace(of(one), frozen=(np.ones(4), 2 * np.ones(4))))


@pytest.mark.parametrize(
    "fields",
    [
        {"trial": 10**400},
        {"trial": 1e30},
        {"pulses": 1e300, "frequency_hz": 1e-300},
        {"frequency_hz": 0.3},
        {"duration_s": 11},
        {"duration_s": float("nan")},
        {"duration_s": None},
        {"current_ua": -1},
        {"electrode": 1.5},
        {"pulses": True},
    ],
)
def test_a_marker_that_says_nonsense_is_malformed(fields: dict) -> None:
    sound = {"event": "stim", "trial": 1, "electrode": 2, "current_ua": 20.0, "duration_s": 0.167}
    sound |= {"pulses": 50, "phase_us": 170, "interphase_us": 60, "frequency_hz": 300}
    assert parse_marker(json.dumps(sound)).last_pulse_end_s == pytest.approx(TRAIN_END_S)  # type: ignore[union-attr]
    with pytest.raises(RigFault, match="malformed"):
        parse_marker(json.dumps(sound | fields))


def test_a_marker_of_the_far_future_is_counted_and_ignored() -> None:
    x = broadband(0.5, 4)
    found, decoder = live([(10**9, TRAIN), *chunks(x, [3000])])
    assert decoder.status().counters.malformed_markers == 1  # type: ignore[union-attr]
    assert agree(found, offline(x)) == len(found)


def test_a_mask_that_was_refused_is_not_applied_later() -> None:
    x = broadband(0.5, 4)
    decoder = LiveDecoder(ListSource([], stream()), MeanDecoder())
    decoder._status = decoder._begin(MeanDecoder(), None) and decoder._status  # a stream is known, and no samples come
    with pytest.raises(OperatorFault, match="no samples arrive"):
        decoder.set_mask(np.array([True, False, True, True]))
    pipeline = decoder._begin(MeanDecoder(), None)
    decoder._answer(pipeline)
    pipeline.push(chunks(x, [])[0])
    assert pipeline.chain.usable.all()


def test_backlog_is_never_decoded_as_now() -> None:
    x = broadband(1.0, 4)
    found, _ = live([*chunks(x[:15000], [300]), *chunks(x, [15000 + 5000], first=15000, backlog=True)])
    assert all(p.probability is None and "backlog" in p.flags for p in found if p.last_sample >= 15000)


def test_too_few_channels_and_a_stream_of_another_array() -> None:
    x = broadband(1.0, 4)
    x[:, 1] = np.nan
    x[:, 2] = np.nan
    few = offline(x)[-1]
    assert few.flags == ("channels",)
    assert few.usable_channels == 2
    assert few.probability is None
    assert few.embedding is None
    items = list(chunks(broadband(0.5, 3), [3000]))
    found, _decoder = live(items, info=stream(3))
    assert all({"channels", "not_calibrated"} <= set(p.flags) and p.embedding is None for p in found)


def test_one_bad_channel_is_a_dropped_token() -> None:
    x = broadband(1.0, 4)
    x[:, 1] = 0.0
    decoder = MeanDecoder(manifest(chain=QUICK))
    seen = []
    decoder.step = lambda window, usable, step=decoder.step: (  # type: ignore[method-assign]
        seen.append((window.copy(), usable.copy())) or step(window, usable)
    )
    x[:, 1] = np.nan
    last = offline(x, decoder=decoder)[-1]
    assert last.probability is not None
    assert last.usable_channels == 3
    assert seen[-1][1].tolist() == [True, False, True, True]
    assert not seen[-1][0][1].any()


def test_what_the_network_gets_wrong_is_not_passed_on() -> None:
    found = offline(broadband(0.6, 4), decoder=MeanDecoder(bad=True))
    settled = [p for p in found if "settling" not in p.flags]
    assert settled
    assert all(p.flags == ("not_finite",) and p.probability is None and p.embedding is None for p in settled)


def test_the_operators_mask_replays_from_its_sample_and_survives_a_reconnect() -> None:
    x = broadband(1.2, 4)
    usable = np.array([True, True, True, False])
    decoder = MeanDecoder()
    asked: list[int] = []
    said: list[Prediction] = []

    class Rig(ListSource):
        """Puts the mask between two chunks, as the service does from another thread."""

        def read(self, timeout_s: float) -> Chunk | None:
            if len(self.items) == 41 and not asked:
                asked.append(-1)
                answer = threading.Thread(target=lambda: asked.append(live_one.set_mask(usable)))
                answer.start()
                while live_one._requests.empty():
                    pass
            return super().read(timeout_s)

    parts = list(chunks(x, list(range(0, len(x), 450))))
    live_one = LiveDecoder(Rig([*parts, LOST, *chunks(x, [9000], epoch=1)], stream()), decoder, sinks=[said.append])
    live_one.start()
    live_one.join()
    (sample,) = asked[1:]
    assert sample % 30 == 0
    first_stream = [p for p in said if p.seq < sum(1 for _ in parts)]
    replayed = list(predictions(ListSource(list(parts), stream()), MeanDecoder(), masks=[(sample, usable)]))
    assert agree(first_stream, replayed) > 60
    assert {p.usable_channels for p in first_stream} == {3, 4}
    assert said[-1].usable_channels == 3, "the operator's mask outlives a reconnect"
    with pytest.raises(OperatorFault, match="expected 4 values"):
        live_one.set_mask(np.ones(5, bool))


def test_masks_are_read_as_the_service_answered_them(tmp_path: Path) -> None:
    file = tmp_path / "masks.json"
    file.write_text('[{"masked": [2, 4], "usable_channels": 2, "from_sample": 300}]')
    ((sample, usable),) = read_masks(file, 4)
    assert sample == 300
    assert usable.tolist() == [True, False, True, False]
    for wrong in ('{"masked": []}', "[1]", "nonsense", '[{"masked": [5], "from_sample": 0}]'):
        file.write_text(wrong)
        with pytest.raises(OperatorFault, match="expected"):
            read_masks(file, 4)


def test_the_bundles_mask_cannot_be_lifted() -> None:
    array = SimpleNamespace(**(vars(manifest().array) | {"masked": (2,)}))
    bundled = decoding_settings(manifest(array=array), stream())
    pipeline = Pipeline(bundled, stream(), lambda: 0)
    pipeline.set_mask(np.ones(4, bool), 0)
    assert pipeline.chain.usable.tolist() == [True, False, True, True]


def test_a_disk_that_is_full_at_the_first_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled cannot be kept then: found by a soak, in which the decode thread gave up for good."""
    full, push = iter([True, False, False, False, False]), SignalChain.push

    def pushes(*arguments: Any) -> Any:
        if next(full, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        return push(*arguments)

    monkeypatch.setattr(SignalChain, "push", pushes)
    found, decoder = live(list(chunks(broadband(0.6, 4), [300])))
    assert found
    assert decoder.status().state == "ended"


def test_other_markers_and_faults_of_ours_are_told_apart() -> None:
    x = broadband(0.3, 4)
    _found, decoder = live([(100, UnknownEvent("pause")), *chunks(x, [1000])])
    assert decoder.status().state == "ended"
    broken = MeanDecoder()
    broken.step = lambda window, usable: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    _, decoder = live(list(chunks(broadband(0.6, 4), [1000])), broken)
    assert decoder.status().state == "failed"


def test_train_length_comes_from_its_pulses() -> None:
    assert TRAIN.last_pulse_end_s == pytest.approx(TRAIN_END_S)
    assert decoding_settings(manifest(), stream()).hop_bins == 10
