"""A recording sent out over LSL arrives as it was: every sample, its gaps, its markers, its header."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import numpy as np
import pylsl
import pytest

from models.errors import OperatorFault, RigFault
from streaming.events import Report, Stimulation, UnknownEvent, marker_text, parse_marker
from streaming.replay import replay
from streaming.sources.lsl import LslSource
from tests.streaming.sources.files import RATE_HZ, counts, trial, write_nsx, write_nwb


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that the machine holds up is not silent."""
    monkeypatch.setattr("streaming.sources.lsl.SILENCE_S", 30.0)


@pytest.fixture
def name() -> str:
    return f"R{uuid.uuid4().hex[:12]}"


def inlet(name: str) -> pylsl.StreamInlet:
    """Connected: what is sent from now on arrives."""
    (found,) = pylsl.resolve_byprop("name", name, 1, 30.0)
    opened = pylsl.StreamInlet(found, recover=False)
    opened.open_stream(timeout=30.0)
    return opened


class Patience(threading.Event):
    """Remembers how long it was waited for: how far the schedule lies ahead, whatever the machine makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_s.append(timeout or 0.0)
        return super().wait(timeout)


class Listener:
    """Hears a replay with our own LSL source until it ends."""

    def __init__(self, path: Path, name: str, stop: threading.Event | None = None, **options: object) -> None:
        self.stop = stop or threading.Event()
        self.sent: list[int] = []
        self.source = LslSource(f"name='{name}'", event_predicate=f"name='{name}E'")
        self.thread = threading.Thread(target=self._replay, args=(path, name), kwargs=options)
        self.thread.start()
        assert self.source.wait(threading.Event())
        self.samples: list[np.ndarray] = []
        self.indices: list[np.ndarray] = []
        self.markers: list[tuple[int, object]] = []

    def _replay(self, path: Path, name: str, **options: object) -> None:
        self.sent.append(replay(path, name, stop=self.stop, events_name=f"{name}E", wait_for_listener=True, **options))

    def hear(self, n_samples: int) -> np.ndarray:
        """All samples until so many came or the stream ended."""
        while sum(map(len, self.samples)) < n_samples:
            try:
                chunk = self.source.read(0.1)
            except RigFault:
                break
            if chunk is not None:
                self.samples.append(chunk.samples_uv.copy())
                self.indices.append(chunk.first_sample + np.arange(len(chunk.samples_uv)))
            self.markers += self.source.markers()
        return np.concatenate(self.samples)

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.source.close()


def test_an_int16_recording_stays_int16_and_whole(tmp_path: Path, name: str) -> None:
    data = counts(12000, 4)
    path = write_nwb(tmp_path / "s07.nwb", data, conversion=0.5e-6, trials=[trial(0.2)])
    heard = Listener(path, name)
    samples = heard.hear(12000)
    header = heard.source.info
    np.testing.assert_array_equal(samples, data * np.float32(0.5))
    np.testing.assert_array_equal(np.concatenate(heard.indices), np.arange(12000))
    assert (header.kind, header.participant, header.session, header.rate_hz) == ("replay", "P1", "s07", RATE_HZ)
    assert header.array.positions is not None
    assert heard.source.counters.lost_samples == 0
    heard.thread.join()
    assert heard.sent == [12000]
    heard.close()


def test_a_pause_of_the_recording_is_a_gap_of_the_stream(tmp_path: Path, name: str) -> None:
    one, two = counts(9000, 2, 1), counts(6000, 2, 2)
    heard = Listener(write_nsx(tmp_path / "a.ns6", [(0, one), (12000, two)], ["e1", "e2"]), name)
    samples = heard.hear(15000)
    np.testing.assert_allclose(samples, np.concatenate([one, two]) * 0.25, rtol=1e-3)
    expected = np.concatenate([np.arange(9000), np.arange(12000, 18000)])
    np.testing.assert_array_equal(np.concatenate(heard.indices), expected)
    assert (heard.source.counters.gaps, heard.source.counters.lost_samples) == (1, 3000)
    heard.close()


def test_channels_of_different_scale_go_out_as_microvolts(tmp_path: Path, name: str) -> None:
    data = counts(3000, 2)
    heard = Listener(write_nwb(tmp_path / "a.nwb", data, channel_conversion=[1.0, 2.0]), name)
    np.testing.assert_allclose(heard.hear(3000), data * np.array([0.25, 0.5]), rtol=1e-6)
    heard.close()


def test_markers_fall_on_the_samples_of_the_recording(tmp_path: Path, name: str) -> None:
    trials = [trial(0.3 + 0.1 * k, perceived=k % 2 == 0) for k in range(4)]
    began: list[float] = []
    stop = threading.Event()  # in a loop, so that nothing is lost with a stream that ends
    options = {"loop": True, "stop": stop, "events_name": f"{name}E", "wait_for_listener": True, "began": began.append}
    path = write_nwb(tmp_path / "a.nwb", counts(30000, 2), trials=trials)
    sender = threading.Thread(target=replay, args=(path, name), kwargs=options)
    sender.start()
    events, broadband = inlet(f"{name}E"), inlet(name)  # no marker is sent before the samples have a listener
    markers = []
    while len(markers) < 8:
        text, time = events.pull_sample()
        markers.append(((time - began[0]) * RATE_HZ, parse_marker(text[0])))
    stop.set()
    sender.join()
    del broadband
    stims = [(9000 + 3000 * k, Stimulation(k, 34, 20.0, 0.02)) for k in range(4)]
    reports = [(10500 + 3000 * k, Report(k, k % 2 == 0)) for k in range(4)]
    expected = sorted([*stims, *reports], key=lambda entry: entry[0])
    assert [marker for _, marker in markers] == [marker for _, marker in expected]
    assert [at for at, _ in markers] == pytest.approx([at for at, _ in expected], abs=1e-3)


def test_a_loop_is_a_gap_and_ends_when_told(tmp_path: Path, name: str) -> None:
    data = counts(9000, 2)
    heard = Listener(write_nwb(tmp_path / "a.nwb", data), name, loop=True)
    samples = heard.hear(20000)
    np.testing.assert_array_equal(samples[9000:18000], samples[:9000])
    assert heard.source.counters.gaps == 2
    heard.close()
    assert heard.sent[0] >= 20000


def test_speed_sends_faster_and_skips_nothing(tmp_path: Path, name: str) -> None:
    data = counts(45000, 2)
    stop = Patience()
    heard = Listener(write_nwb(tmp_path / "a.nwb", data), name, stop, speed=5.0)
    samples = heard.hear(45000)
    assert 0 < max(stop.waits_s) <= 45000 / (5 * RATE_HZ)
    np.testing.assert_array_equal(samples, data * np.float32(0.25))
    assert heard.source.counters.backlog_samples > 0
    heard.close()


def test_what_cannot_be_replayed_is_said_before_a_stream_appears(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="speed of 0"):
        replay(tmp_path / "a.nwb", speed=0.0)
    with pytest.raises(OperatorFault, match="no such file"):
        replay(tmp_path / "a.nwb")


@pytest.mark.parametrize(
    "marker",
    [
        Stimulation(3, 34, 20.0, 0.167, 50, 170.0, 60.0, 300.0, "t1"),
        Stimulation(None, None, None, 0.1),
        Report(3, False),
        UnknownEvent("digital_input_port: 65280"),
    ],
)
def test_a_marker_survives_being_sent(marker) -> None:
    assert parse_marker(marker_text(marker)) == marker
