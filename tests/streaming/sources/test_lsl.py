"""Real LSL over loopback: what is sent arrives whole, and what is wrong is said."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pylsl
import pytest

from models.errors import RigFault
from streaming.chunk import ArrayMap, Chunk, SourceCounters, StreamInfo
from streaming.events import Report, Stimulation, UnknownEvent
from streaming.sinks.broadband_outlet import broadband_stream_info
from streaming.sources.lsl import SILENCE_S, LslSource
from streaming.sources.lsl_events import EventInlet

RATE_HZ = 30000.0


class FakeRig:
    """A sender whose samples say their own number: channel 0 is the index, channel 1 the same backwards."""

    def __init__(self, name: str, dtype: str = "int16", n_channels: int = 4, rate_hz: float = RATE_HZ) -> None:
        self.info = StreamInfo("simulated", name, rate_hz, ArrayMap(tuple(f"elec{i + 1}" for i in range(n_channels))))
        self.dtype = dtype
        self.outlet = pylsl.StreamOutlet(broadband_stream_info(self.info, name, f"{name}-id", dtype, 0.5))
        self.events = pylsl.StreamOutlet(
            pylsl.StreamInfo(f"{name}E", "Markers", 1, 0.0, pylsl.cf_string, f"{name}-events")
        )
        self.t0 = pylsl.local_clock()
        self.at = 0

    def rows(self, first: int, n: int) -> np.ndarray:
        index = np.arange(first, first + n) % 30000
        rows = np.zeros((n, self.info.n_channels), self.dtype)
        rows[:, 0], rows[:, 1] = index, -index
        return rows

    def send(self, n: int) -> None:
        """The next n samples at once, stamped by number."""
        self.outlet.push_chunk(self.rows(self.at, n), self.t0 + (self.at + n - 1) / RATE_HZ)
        self.at += n

    def stream(self, stop: threading.Event) -> None:
        """Sends in real time until told to stop."""
        self.t0, self.at = pylsl.local_clock(), 0
        while not stop.is_set():
            due = int((pylsl.local_clock() - self.t0) * RATE_HZ) - self.at
            if due > 0:
                self.send(due)
            time.sleep(0.002)


@pytest.fixture
def running() -> Iterator[Callable[[FakeRig], threading.Event]]:
    """Streams rigs in threads; all stop at the end."""
    threads: list[tuple[threading.Thread, threading.Event]] = []

    def start(rig: FakeRig) -> threading.Event:
        stop = threading.Event()
        thread = threading.Thread(target=rig.stream, args=(stop,))
        thread.start()
        threads.append((thread, stop))
        return stop

    yield start
    for thread, stop in threads:
        stop.set()
        thread.join()


def connected(name: str) -> LslSource:
    source = LslSource(f"name='{name}'", event_predicate=f"name='{name}E'")
    stop = threading.Event()
    timer = threading.Timer(10.0, stop.set)
    timer.start()
    assert source.wait(stop)
    timer.cancel()
    return source


def read_until_fault(source: LslSource, timeout_s: float = 1.0, most_empty: float = np.inf) -> None:
    """`most_empty`: how often it may say, having waited, that nothing came."""
    empty = 0
    while empty <= most_empty:
        empty += source.read(timeout_s) is None


def number(rig: FakeRig, chunk: Chunk) -> int:
    """The rig's own number of the chunk's first sample."""
    return round((chunk.sample_time - rig.t0) * RATE_HZ) - len(chunk.samples_uv) + 1


class SetAtLook(threading.Event):
    """Is set when it is looked at for the `n`th time; remembers for how long it was waited for."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.looks = n, 0
        self.waits_s: list[float] = []

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks >= self.n

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits_s.append(timeout)
        return super().wait(timeout)


def collect(source: LslSource, n_samples: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    while sum(len(chunk.samples_uv) for chunk in chunks) < n_samples:
        chunk = source.read(0.1)
        if chunk is not None:
            values = {
                field: getattr(chunk, field) for field in ("first_sample", "sample_time", "arrival_time", "epoch")
            }
            chunks.append(Chunk(chunk.samples_uv.copy(), backlog=chunk.backlog, **values))
    return chunks


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_every_sample_arrives_once_in_microvolts(name: str, dtype: str, running, patient) -> None:
    rig = FakeRig(name, dtype)
    running(rig)
    source = connected(name)
    chunks = collect(source, 9000)
    samples = np.concatenate([chunk.samples_uv for chunk in chunks])
    assert samples.dtype == np.float32
    scale = 0.5 if dtype == "int16" else 1.0
    first = number(rig, chunks[0])
    np.testing.assert_array_equal(samples, rig.rows(first, len(samples)).astype(np.float32) * np.float32(scale))
    ends = np.cumsum([len(chunk.samples_uv) for chunk in chunks])
    assert [chunk.first_sample for chunk in chunks] == [0, *ends[:-1].tolist()]
    assert source.info == rig.info
    assert source.counters.lost_samples == 0
    newest = chunks[-1]
    assert newest.sample_time == pytest.approx(rig.t0 + (first + len(samples) - 1) / RATE_HZ, abs=1e-6)
    source.close()


def test_lost_samples_and_a_burst_in_one_pull(name: str, patient) -> None:
    rig = FakeRig(name)
    source = connected(name)
    rig.t0 = pylsl.local_clock() - 1.0  # 0.7 s old when it comes
    for _ in range(30):
        rig.send(300)
    rig.at += 7
    rig.send(300)
    chunks = collect(source, 9300)
    assert (source.counters.gaps, source.counters.lost_samples) == (1, 7)
    assert chunks[-1].first_sample + len(chunks[-1].samples_uv) == 9307
    assert all(chunk.backlog for chunk in chunks)
    assert source.counters.backlog_samples == 9300
    source.close()


def test_a_stream_that_ends_is_a_fault_at_once_and_its_return_a_new_epoch(name: str, running) -> None:
    rig = FakeRig(name)
    stop = running(rig)
    source = connected(name)
    collect(source, 300)
    stop.set()
    time.sleep(0.05)
    del rig
    with pytest.raises(RigFault, match=r"gone|silent"):
        read_until_fault(source, 0.05, most_empty=SILENCE_S / 0.05)
    with pytest.raises(RigFault, match="not connected"):
        source.read(0.0)
    again = FakeRig(name)
    running(again)
    assert source.wait(threading.Event())
    (chunk, *_) = collect(source, 30)
    assert (chunk.epoch, chunk.first_sample) == (1, 0)
    assert source.counters.reconnects == 1
    source.close()


def test_a_stream_that_pauses_is_silent_after_250_ms(name: str, running) -> None:
    rig = FakeRig(name)
    stop = running(rig)
    source = connected(name)
    collect(source, 300)
    stop.set()
    with pytest.raises(RigFault, match="silent: no sample for 250 ms"):
        read_until_fault(source)
    assert "silent" in source.counters.last_problem
    source.close()


def test_a_stream_that_comes_back_with_another_array_is_refused(name: str, running) -> None:
    rig = FakeRig(name)
    stop = running(rig)
    source = connected(name)
    collect(source, 30)
    stop.set()
    time.sleep(0.05)
    del rig
    with pytest.raises(RigFault):
        read_until_fault(source)
    other = FakeRig(name, n_channels=5)
    with pytest.raises(RigFault, match="not the one that was lost: channels was 4, now 5"):
        source.wait(threading.Event())
    del other
    source.close()


def test_two_streams_that_match_are_listed(name: str) -> None:
    rigs = [FakeRig(name), FakeRig(name)]
    source = LslSource(f"name='{name}'")
    with pytest.raises(RigFault, match=f"2 streams match name='{name}'") as fault:
        source.wait(threading.Event())
    assert str(fault.value).count(f"{name}-id") == 2
    del rigs


def test_no_stream_waits_says_what_for_and_ends_at_once_when_told(name: str) -> None:
    source = LslSource(f"name='{name}'")
    with pytest.raises(RigFault, match=f"looking for an LSL stream with name='{name}'"):
        _ = source.info
    stop = SetAtLook(5)
    assert not source.wait(stop)
    assert stop.looks == 5, "it looked no further"
    assert max(stop.waits_s) <= 0.1
    source.close()


def test_a_wrong_header_is_refused_when_it_connects(name: str) -> None:
    rig = FakeRig(name, rate_hz=1000.0)
    source = LslSource(f"name='{name}'")
    with pytest.raises(RigFault, match="found a rate of 1000 Hz"):
        source.wait(threading.Event())
    del rig


def test_a_flood_of_bad_markers_is_counted_and_no_flood_in_the_log(caplog, monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr("streaming.sources.lsl_events.pylsl.local_clock", lambda: now)
    counters = SourceCounters()
    inlet = EventInlet("name='nobody'", counters)
    for _ in range(1000):
        assert inlet._parse("no marker", 1.0) is None
    now = 101.5
    inlet._parse("no marker", 1.0)
    assert counters.malformed_markers == 1001
    first, second = caplog.messages
    assert "malformed" in first
    assert second.endswith("(999 more since the last)")


def test_markers_fall_on_their_sample_and_bad_ones_stop_nothing(name: str, running, patient, caplog) -> None:
    rig = FakeRig(name)
    running(rig)
    source = connected(name)
    assert source.counters.hears_events is False
    first = number(rig, collect(source, 300)[0])
    while not rig.events.have_consumers():
        source.read(0.05)
        source.markers()
    assert source.counters.hears_events is True
    stim = {"event": "stim", "trial": 3, "electrode": 34, "current_ua": 20.0, "duration_s": 0.167}
    texts = [json.dumps(stim), "not json\n\x1b[31m", json.dumps({"event": "report", "trial": 3, "perceived": True})]
    texts += [json.dumps({"event": "coffee"}), json.dumps({"event": "stim"}), "\x00"]
    for k, text in enumerate(texts):
        rig.events.push_sample([text], rig.t0 + (first + 1000 + k) / RATE_HZ)
    rig.events.push_sample([texts[0]], float("nan"))
    markers = []
    give_up = time.monotonic() + 30.0
    while source.counters.malformed_markers < 4 and time.monotonic() < give_up:
        source.read(0.05)
        markers += source.markers()
    assert markers == [
        (1000, Stimulation(3, 34, 20.0, 0.167)),
        (1002, Report(3, True)),
        (1003, UnknownEvent("coffee")),
    ]
    assert (source.counters.malformed_markers, source.counters.unknown_markers) == (4, 1)
    assert "malformed" in source.counters.last_problem
    assert "\x1b" not in caplog.text
    source.close()
