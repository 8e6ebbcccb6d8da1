"""Real recordings through our readers and chain. Skipped unless PHOSPHENE_DATA names the folder that holds them.

They may not be passed on, so they are not here; `docs/real-recordings.md` names each and shows what was seen.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from models.errors import RigFault
from streaming.chunk import ArrayMap, Chunk, EndOfRecording, StreamInfo
from streaming.events import UnknownEvent
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from streaming.sinks.broadband_outlet import broadband_stream_info
from streaming.sources.recording import RecordingSource, open_recording, read_recording
from tests.streaming.signal import oracle
from tests.streaming.sources.files import counts, write_nsx, write_xdf
from tests.streaming.sources.test_xdf import EVENTS

FOLDER = os.environ.get("PHOSPHENE_DATA")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="PHOSPHENE_DATA does not name a folder of recordings")
DATA = Path(FOLDER or "/nowhere")

# path, microvolts per count where the file does not say, channels, rate, stretches as (first sample, samples)
RECORDINGS = [
    (
        "neuralynx_32k/cheetah_5.7.4",
        None,
        5,
        32000.0,
        [(0, 342559), (438720, 352031), (933088, 348447), (1416064, 351999)],
    ),
    ("openephys/legacy_40k_2ch", None, 2, 40000.0, [(0, 423936)]),
    ("openephys/binary_30k_32ch", None, 32, 30000.0, [(0, 49408)]),
    ("starling_raw_stim/st11_1_2_A8_1.wav", 0.05, 1, 20000.0, [(0, 265600)]),
]


@pytest.fixture(params=RECORDINGS, ids=lambda row: row[0].split("/")[0] + f"-{row[3] / 1e3:g}k")
def real(request: pytest.FixtureRequest) -> Iterator[tuple[RecordingSource, tuple]]:
    path, scale_uv, *_ = request.param
    source = open_recording(there(path), pace=None, chunk_s=0.37, scale_uv=scale_uv)
    yield source, request.param
    source.close()


def there(path: str) -> Path:
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not in PHOSPHENE_DATA")
    return DATA / path


def whole(source: RecordingSource) -> Iterator[Chunk]:
    with suppress(EndOfRecording):
        while (chunk := source.read(0.0)) is not None:
            yield chunk


def test_channels_rate_and_pauses(real: tuple[RecordingSource, tuple]) -> None:
    source, (_, _, n_channels, rate_hz, stretches) = real
    assert (source.info.n_channels, source.info.rate_hz) == (n_channels, rate_hz)
    assert [(s.first_sample, s.n_samples) for s in source.recording.stretches] == stretches


def test_the_envelope_is_scipys(real: tuple[RecordingSource, tuple]) -> None:
    """At the recording's own channels and rate: the first 1.5 s against SciPy in float64."""
    source, (*_, rate_hz, _) = real
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < 1.5 * rate_hz:
        chunk = source.read(0.0)
        assert chunk is not None
        parts.append(chunk.samples_uv.copy())
    samples = np.concatenate(parts)
    chain = SignalChain(ChainSettings(), rate_hz, samples.shape[1])
    chain.push(samples, 0)
    expected = oracle.envelope(samples, rate_hz)
    found = chain.rings.plane(0, 0, len(expected))
    assert found.min() >= 0
    assert 1.0 < np.median(found) < 60.0  # microvolts: not silence, not a wrong scale
    assert np.abs(found - expected).max() <= 1e-4 * expected[100:].std()


def test_every_sample_comes_once_and_bins_stay_on_the_grid(real: tuple[RecordingSource, tuple]) -> None:
    source, (_, _, n_channels, rate_hz, stretches) = real
    chain = SignalChain(ChainSettings(), rate_hz, n_channels)
    samples = 0
    for chunk in whole(source):
        chain.push(chunk.samples_uv, chunk.first_sample)
        samples += len(chunk.samples_uv)
    first, n_samples = stretches[-1]
    assert samples == sum(size for _, size in stretches)
    assert source.counters.gaps == len(stretches) - 1
    assert chain.next_bin == chain.grid.bin_of(first + n_samples)
    assert chain.usable.all()


def test_neuralynx_events_close_each_stretch() -> None:
    recording = read_recording(there("neuralynx_32k/cheetah_5.7.4"))
    ends = [stretch.first_sample + stretch.n_samples for stretch in recording.stretches]
    stops = [sample for sample, marker in recording.markers if "Stopping Recording" in marker.event]
    assert len(stops) == 4
    assert np.abs(np.array(stops) - ends).max() <= 1


# XDF: markers and a clock that was set


def test_eeg_is_refused_as_what_it_is() -> None:
    with pytest.raises(RigFault, match="desc describes 0 of 8 channels"):
        open_recording(there("xdf_examples/clock_resets.xdf"))
    with pytest.raises(RigFault, match="desc describes 0 of 3 channels"):
        open_recording(there("xdf_examples/minimal.xdf"))


def test_a_stream_without_samples_is_empty() -> None:
    path = there("xdf_examples/empty_streams.xdf")
    with pytest.raises(RigFault):
        open_recording(path, "Empty data stream: test stream 0 counter")


@pytest.fixture(scope="module")
def reset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, dict]:
    """The real session with the reset, its own stamps and numbers, with channels described and markers as JSON."""
    pyxdf = pytest.importorskip("pyxdf")
    streams, _ = pyxdf.load_xdf(there("xdf_examples/clock_resets.xdf"), dejitter_timestamps=False, verbose=False)
    by_kind = {stream["info"]["type"][0]: stream for stream in streams}
    eeg, markers = by_kind["EEG"], by_kind["Markers"]
    info = StreamInfo("live", "BioSemi", 100.0, ArrayMap(tuple(f"elec{k + 1}" for k in range(8))))
    header = broadband_stream_info(info, "BioSemi", "id", "float32", 1.0).as_xml()
    texts = [f'{{"event": "{row[0]}"}}' for row in markers["time_series"]]
    path = tmp_path_factory.mktemp("xdf") / "reset.xdf"
    rows = [(eeg["time_stamps"], list(eeg["time_series"]))]
    write_xdf(path, [(header, "float32", rows), (EVENTS, "string", [(markers["time_stamps"], texts)])])
    return path, eeg, markers


def test_a_clock_that_was_set_is_a_pause_and_no_sample_is_lost(reset: tuple[Path, dict, dict]) -> None:
    path, eeg, _ = reset
    recording = read_recording(path)
    assert sum(stretch.n_samples for stretch in recording.stretches) == len(eeg["time_stamps"]) == 27815
    stamps = eeg["time_stamps"]
    row = int(np.argmax(np.diff(stamps))) + 1  # the first sample behind the reset
    pauses = [
        (behind.first_sample - before.first_sample - before.n_samples, at)
        for before, behind, at in zip(
            recording.stretches,
            recording.stretches[1:],
            np.cumsum([s.n_samples for s in recording.stretches]),
            strict=False,
        )
    ]
    longest, at = max(pauses)
    assert at == row
    assert longest / 100.0 == pytest.approx(stamps[row] - stamps[row - 1], abs=0.05)
    assert recording.info.n_channels == 8
    with pytest.raises(RigFault, match="expected raw broadband"):
        open_recording(path)


def test_markers_fall_on_the_samples_of_their_moment(reset: tuple[Path, dict, dict]) -> None:
    path, eeg, markers = reset
    recording = read_recording(path)
    assert recording.malformed_markers == 0
    assert len(recording.markers) == 175
    assert all(isinstance(marker, UnknownEvent) for _, marker in recording.markers)
    places = np.concatenate([stretch.first_sample + np.arange(stretch.n_samples) for stretch in recording.stretches])
    for (sample, _), time in zip(recording.markers, np.sort(markers["time_stamps"]), strict=True):
        row = int(np.abs(eeg["time_stamps"] - time).argmin())
        if abs(eeg["time_stamps"][row] - time) < 0.02:  # not in the pause
            assert abs(sample - places[row]) <= 1


def test_markers_that_are_no_json_are_counted() -> None:
    pyxdf = pytest.importorskip("pyxdf")
    from streaming.events import parse_marker

    streams, _ = pyxdf.load_xdf(there("xdf_examples/clock_resets.xdf"), verbose=False)
    words = next(stream for stream in streams if stream["info"]["type"][0] == "Markers")["time_series"]
    for word in words:
        with pytest.raises(RigFault, match="malformed marker"):
            parse_marker(str(word[0]))


# Blackrock: the events of a real .nev beside a .ns5 that we write


@pytest.mark.parametrize(
    ("name", "seconds", "digital", "comments"), [("l101210-001", 3.6, 8, 0), ("FileSpec2.3001", 29.5, 190, 3)]
)
def test_digital_events_of_a_nev_fall_on_their_samples(
    name: str, seconds: float, digital: int, comments: int, tmp_path: Path
) -> None:
    shutil.copy(there(f"blackrock_nev/{name}.nev"), tmp_path / f"{name}.nev")
    (tmp_path / f"{name}.nev").chmod(0o644)
    data = counts(round(seconds * 30000), 2)
    path = tmp_path / f"{name}.ns5"
    if name == "l101210-001":  # neo wants both files of one version, and this .nev is of 2.1
        path.write_bytes(struct.pack("<8s16s4I", b"NEURALSG", b"30 kS/s", 1, 2, 1, 2) + data.astype("<i2").tobytes())
    else:
        write_nsx(path, [(0, data)], ["elec1", "elec2"])
    recording = open_recording(path, pace=None).recording
    events = [(sample, marker.event) for sample, marker in recording.markers]
    assert sum(event.startswith("digital_input_port") for _, event in events) == digital
    assert sum(event.startswith("comments") for _, event in events) == comments
    if name == "l101210-001":
        assert events[0] == (round(0.1349 * 30000), "digital_input_port: 65280")
    assert recording.malformed_markers == 0


def test_what_holds_no_broadband_says_so() -> None:
    with pytest.raises(RigFault, match="holds events"):
        open_recording(there("blackrock_nev/l101210-001.nev"))
    with pytest.raises(RigFault, match="without electrodes"):
        open_recording(there("blackrock_nev/l101210-001.ns2"))
    with pytest.raises(RigFault, match="expected raw broadband"):
        open_recording(there("blackrock_nev/pause_correct.ns2"))
