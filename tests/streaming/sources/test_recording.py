"""Recordings as sources: whole, paced by a clock of our own, gaps kept, each fault one sentence."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from models.errors import Fault, OperatorFault, RigFault
from streaming.chunk import ArrayMap, EndOfRecording
from streaming.events import Report, Stimulation
from streaming.sources.recording import RecordingSource, open_recording, read_recording
from tests.streaming.sources.files import RATE_HZ, counts, trial, write_nwb


def drain(source: RecordingSource) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """All samples, and (first_sample, rows) of each chunk."""
    samples, places = [], []
    while True:
        try:
            chunk = source.read(10.0)
        except EndOfRecording:
            return np.concatenate(samples), places
        assert chunk is not None
        samples.append(chunk.samples_uv.copy())
        places.append((chunk.first_sample, len(chunk.samples_uv)))


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_nwb_gives_every_sample_in_microvolts_and_says_whose_it_is(tmp_path: Path) -> None:
    data = counts(7000, 4)
    source = open_recording(write_nwb(tmp_path / "a.nwb", data), pace=None)
    info = source.info
    assert (info.kind, info.name, info.rate_hz) == ("replay", "Broadband", RATE_HZ)
    assert (info.participant, info.session) == ("P1", "s07")
    assert info.array == ArrayMap(("elec1", "elec2", "elec3", "elec4"), ((0, 0), (1, 0), (2, 0), (3, 0)))
    samples, _ = drain(source)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, data * 0.25, rtol=1e-6)
    assert source.counters.samples == 7000
    assert source.n_samples == 7000
    source.close()


def test_nwb_channel_conversion_and_offset(tmp_path: Path) -> None:
    data = counts(500, 2)
    path = write_nwb(tmp_path / "a.nwb", data, channel_conversion=[1.0, 2.0], offset=1e-5)
    samples, _ = drain(open_recording(path, pace=None))
    np.testing.assert_allclose(samples, data * np.array([0.25, 0.5]) + 10.0, rtol=1e-5)


@pytest.mark.parametrize("chunk_s", [1 / RATE_HZ, 0.001, 0.0123, 1.0, 5.0])
def test_any_chunk_size_gives_the_same_samples(tmp_path: Path, chunk_s: float) -> None:
    data = counts(20000 if chunk_s > 1e-4 else 300, 2)
    source = open_recording(write_nwb(tmp_path / "a.nwb", data), pace=None, chunk_s=chunk_s)
    samples, places = drain(source)
    np.testing.assert_allclose(samples, data * 0.25, rtol=1e-6)
    assert places[0] == (0, min(len(data), round(chunk_s * RATE_HZ)))


def test_timestamps_with_a_pause_keep_it_as_a_gap(tmp_path: Path) -> None:
    data = counts(9000, 2)
    stamps = 12.5 + np.arange(9000) / RATE_HZ
    stamps[3000:] += 0.7
    stamps[6001:] += 1 / RATE_HZ
    source = open_recording(write_nwb(tmp_path / "a.nwb", data, timestamps=stamps), pace=None)
    assert source.info.rate_hz == RATE_HZ
    _, places = drain(source)
    assert places == [(0, 3000), (24000, 3001), (27002, 2999)]
    assert (source.counters.gaps, source.counters.lost_samples) == (2, 21001)


def test_real_time_follows_an_absolute_schedule(tmp_path: Path) -> None:
    recording = read_recording(write_nwb(tmp_path / "a.nwb", counts(3000, 2)))
    clock = Clock()
    source = RecordingSource(recording, 2.0, clock=clock, sleep=clock.sleep)
    for k in range(100):
        if k == 40:
            clock.now += 0.0101  # the reader was held up; what is late comes at once, nothing is skipped
        chunk = source.read(1.0)
        assert chunk is not None
        assert chunk.first_sample == 30 * k
        if k < 40 or k > 70:
            assert clock.now == pytest.approx(100.0 + (k + 1) * 0.0005)
    with pytest.raises(EndOfRecording):
        source.read(1.0)


def test_what_is_not_due_within_the_timeout_is_none_and_comes_later(tmp_path: Path) -> None:
    clock = Clock()
    recording = read_recording(write_nwb(tmp_path / "a.nwb", counts(3000, 2)))
    source = RecordingSource(recording, 1.0, chunk_s=0.05, clock=clock, sleep=clock.sleep)
    assert source.read(0.02) is None
    assert source.read(0.02) is None
    chunk = source.read(0.02)
    assert chunk is not None
    assert (chunk.first_sample, len(chunk.samples_uv)) == (0, 1500)
    assert chunk.arrival_time == pytest.approx(100.05)
    assert chunk.sample_time == pytest.approx(1499 / RATE_HZ)


def test_trials_become_markers_when_their_samples_have_passed(tmp_path: Path) -> None:
    trials = [trial(0.1, True), trial(0.2, False, 7), trial(float("nan"), False)]
    trials[2]["start_time"], trials[2]["stop_time"] = 0.28, 0.3
    source = open_recording(write_nwb(tmp_path / "a.nwb", counts(9000, 2), trials=trials), pace=None, chunk_s=0.12)
    stim = Stimulation(0, 34, 20.0, 0.02)
    source.read(0.0)
    assert source.markers() == [(3000, stim)]
    assert source.markers() == []
    source.read(0.0)
    assert source.markers() == [(4500, Report(0, True)), (6000, Stimulation(1, 7, 20.0, 0.02))]
    source.read(0.0)
    assert source.markers() == [(7500, Report(1, False)), (9000, Report(2, False))]  # the last at the very end


def test_several_series_need_a_choice(tmp_path: Path) -> None:
    path = write_nwb(tmp_path / "a.nwb", counts(300, 2), names=("Left", "Right"))
    with pytest.raises(OperatorFault, match="'Left' at 30000 Hz, 'Right' at 30000 Hz; choose one"):
        open_recording(path)
    with pytest.raises(OperatorFault, match="no stream 'Up'"):
        open_recording(path, stream="Up")
    assert open_recording(path, stream="Right").info.name == "Right"
    both = write_nwb(tmp_path / "b.nwb", counts(300, 2), names=("Broadband", "Other"))
    assert open_recording(both).info.name == "Broadband"


def test_memory_does_not_depend_on_the_length(tmp_path: Path) -> None:
    """Three times the recording, no more memory than two blocks of microvolts."""
    peaks = []
    for seconds in (3, 9):
        path = write_nwb(tmp_path / f"{seconds}.nwb", np.zeros((seconds * 30000, 32), np.int16))
        source = open_recording(path, pace=None)
        tracemalloc.start()
        while True:
            try:
                source.read(0.0)
            except EndOfRecording:
                break
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        source.close()
    assert peaks[1] < 1.2 * peaks[0] + 100_000


def test_wav_needs_its_unit(tmp_path: Path) -> None:
    data = counts(20000, 1)[:, 0]
    path = tmp_path / "n1.wav"
    wavfile.write(path, 19531, data)
    with pytest.raises(RigFault, match="--scale-uv"):
        open_recording(path)
    samples, _ = drain(open_recording(path, pace=None, scale_uv=0.195))
    np.testing.assert_allclose(samples[:, 0], data * 0.195, rtol=1e-5)
    with pytest.raises(OperatorFault, match="found --stream raw, expected none"):
        open_recording(path, stream="raw", scale_uv=0.195)


def test_a_unit_for_a_file_that_says_its_own_is_refused(tmp_path: Path) -> None:
    for name in ("a.nwb", "a.xdf", "a.ns6", "open-ephys"):
        (tmp_path / name).touch()
        with pytest.raises(OperatorFault, match=rf"{name}: found --scale-uv 0.195, expected none"):
            open_recording(tmp_path / name, scale_uv=0.195)


def _text(path: Path) -> None:
    path.write_text("a diary, not a recording\n" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut_short(path: Path) -> None:
    write_nwb(path, counts(30000, 8))
    path.write_bytes(path.read_bytes()[:200_000])


def _no_samples(path: Path) -> None:
    write_nwb(path, counts(0, 2))


def _slow(path: Path) -> None:
    write_nwb(path, counts(300, 2), rate_hz=1000.0)


def _without_electrodes(path: Path) -> None:
    import pynwb

    from tests.streaming.sources.files import BEGAN

    nwb = pynwb.NWBFile("a test", "id", BEGAN)
    nwb.add_acquisition(pynwb.TimeSeries(name="Broadband", data=counts(300, 2), rate=RATE_HZ, unit="volts"))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwb)


def _other_hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)


@pytest.mark.parametrize(
    ("make", "file", "words"),
    [
        (_text, "a.nwb", "not an NWB file, or cut short"),
        (_text, "a.xdf", "not an XDF file, or cut short"),
        (_text, "a.wav", "not a WAV file, or cut short"),
        (_text, "a.ns6", "not a recording, or cut short"),
        (_text, "a.txt", "not a recording"),
        (_text, "a.xyz", "not a recording that is known"),
        (_empty, "a.nwb", "not an NWB file"),
        (_empty, "a.xdf", "not an XDF file"),
        (_empty, "a.wav", "not a WAV file"),
        (_empty, "a.ns5", "not a recording"),
        (_cut_short, "a.nwb", "cut short"),
        (_no_samples, "a.nwb", "empty"),
        (_slow, "a.nwb", "1000 Hz, expected raw broadband"),
        (_without_electrodes, "a.nwb", "no recording with electrodes"),
        (_other_hdf5, "a.nwb", "cannot be read as NWB"),
    ],
)
def test_what_is_no_recording_is_one_clear_error(tmp_path: Path, make, file: str, words: str) -> None:
    path = tmp_path / file
    make(path)
    with pytest.raises(RigFault) as fault:
        open_recording(path, scale_uv=1.0 if path.suffix == ".wav" else None)
    message = str(fault.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message


def test_no_such_file_and_an_impossible_pace_are_the_operators(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="no such file"):
        open_recording(tmp_path / "none.nwb")
    with pytest.raises(OperatorFault, match="pace of 0"):
        open_recording(tmp_path / "none.nwb", pace=0.0)


def test_a_reader_that_is_not_installed_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    path = write_nwb(tmp_path / "a.nwb", counts(30, 2))
    monkeypatch.setitem(sys.modules, "pynwb", None)
    with pytest.raises(OperatorFault, match=r"pynwb is not installed; pip install 'phosphene\[files\]'"):
        open_recording(path)


def test_every_message_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "empty-folder"
    path.mkdir()
    with pytest.raises(Fault):
        open_recording(path)
