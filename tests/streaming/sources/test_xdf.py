"""XDF: microvolts, gaps and clock resets as pauses, markers on their samples, malformed ones counted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models.errors import OperatorFault, RigFault
from streaming.chunk import ArrayMap, StreamInfo
from streaming.events import Report, Stimulation
from streaming.sinks.broadband_outlet import broadband_stream_info
from streaming.sources import xdf
from streaming.sources.recording import open_recording
from tests.streaming.sources.files import RATE_HZ, counts, write_xdf
from tests.streaming.sources.test_recording import drain

INFO = StreamInfo("live", "UtahArray", RATE_HZ, ArrayMap(("elec1", "elec2"), ((0, 0), (1, 0))), "P1", "s07")
EVENTS = (
    "<?xml version='1.0'?><info><name>StimEvents</name><type>Markers</type><channel_count>1</channel_count>"
    "<channel_format>string</channel_format><nominal_srate>0</nominal_srate><source_id>e</source_id><desc/></info>"
)


def header(dtype: str = "int16", unit: str = "microvolts") -> str:
    """The very header that our outlets send, as LabRecorder stores it."""
    return broadband_stream_info(INFO, "UtahArray", "id", dtype, 0.5).as_xml().replace("microvolts", unit)


def chunks(data: np.ndarray, t0: float, n: int = 1000) -> list[tuple[np.ndarray, list]]:
    stamps = t0 + np.arange(len(data)) / RATE_HZ
    return [(stamps[k : k + n], list(data[k : k + n])) for k in range(0, len(data), n)]


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_every_sample_in_microvolts_and_whose_it_is(tmp_path: Path, dtype: str) -> None:
    data = counts(12000, 2)
    path = write_xdf(tmp_path / "a.xdf", [(header(dtype), dtype, chunks(data, 1000.0))])
    source = open_recording(path, pace=None)
    samples, _ = drain(source)
    np.testing.assert_array_equal(samples, data * np.float32(0.5 if dtype == "int16" else 1.0))
    assert source.info == StreamInfo("replay", "UtahArray", RATE_HZ, INFO.array, "P1", "s07", recorded=True)
    assert source.counters.gaps == 0
    assert source.recording.began is not None


def test_a_gap_is_kept_and_markers_fall_on_their_samples(tmp_path: Path) -> None:
    data = counts(24000, 2)
    samples = chunks(data[:12000], 1000.0) + chunks(data[12000:], 1000.0 + 15000 / RATE_HZ)
    texts = [
        (1000.1, '{"event": "stim", "duration_s": 0.1, "trial": 1}'),
        (1000.2, "not json"),
        (1000.6, '{"event": "report", "trial": 1, "perceived": true}'),
    ]
    markers = [([time], [text]) for time, text in texts]
    path = write_xdf(tmp_path / "a.xdf", [(header(), "int16", samples), (EVENTS, "string", markers)])
    source = open_recording(path, pace=None)
    _, places = drain(source)
    assert places == [(0, 12000), (15000, 12000)]
    assert source.markers() == [(3000, Stimulation(1, None, None, 0.1)), (18000, Report(1, True))]
    assert source.counters.malformed_markers == 1


def test_a_marker_keeps_its_sample_where_the_crystal_drifts(tmp_path: Path) -> None:
    data = counts(60000, 2)
    stamps = 1000.0 + np.arange(len(data)) / (RATE_HZ * 1.0005)
    samples = [(stamps[k : k + 1000], list(data[k : k + 1000])) for k in range(0, len(data), 1000)]
    at = float(stamps[59000])
    markers = [([at], ['{"event": "report", "trial": 1, "perceived": true}'])]
    path = write_xdf(tmp_path / "a.xdf", [(header(), "int16", samples), (EVENTS, "string", markers)])
    source = open_recording(path, pace=None)
    assert source.recording.markers == [(59000, Report(1, True))]


def test_a_pause_stands_at_its_very_sample_however_stamps_jitter(tmp_path: Path) -> None:
    data = counts(30000, 2)
    stamps = 1000.0 + np.arange(len(data)) / RATE_HZ
    stamps[15000:] += 40.0
    jitter = np.random.default_rng(1).uniform(-4e-3, 4e-3, len(data) // 300).repeat(300)  # 10 ms chunks
    path = write_xdf(tmp_path / "a.xdf", [(header(), "int16", [(stamps + jitter, list(data))])])
    stretches = open_recording(path, pace=None).recording.stretches
    (behind,) = [after for before, after in pairwise(stretches) if after.first_sample - before.first_sample > 1e6]
    assert sum(stretch.n_samples for stretch in stretches[stretches.index(behind) :]) == 15000
    assert abs(behind.first_sample - (15000 + 40 * RATE_HZ)) < 0.01 * RATE_HZ


def test_a_clock_reset_is_a_long_pause(tmp_path: Path) -> None:
    data = counts(24000, 2)
    samples = chunks(data[:12000], 1000.0) + chunks(data[12000:], 20.0)
    source = open_recording(write_xdf(tmp_path / "a.xdf", [(header(), "int16", samples)]), pace=None)
    found, places = drain(source)
    np.testing.assert_array_equal(found, data * np.float32(0.5))
    assert sum(rows for _, rows in places) == 24000
    assert source.counters.gaps == 1
    assert source.counters.lost_samples > 2 * RATE_HZ


def test_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    path = write_xdf(tmp_path / "a.xdf", [(header(unit="volts"), "int16", chunks(counts(3000, 2), 0.0))])
    with pytest.raises(RigFault, match="unknown unit 'volts'"):
        open_recording(path)


def test_several_broadband_streams_need_a_choice(tmp_path: Path) -> None:
    other = header().replace(">UtahArray<", ">Second<")
    data = chunks(counts(3000, 2), 0.0)
    path = write_xdf(tmp_path / "a.xdf", [(header(), "int16", data), (other, "int16", data)])
    with pytest.raises(OperatorFault, match="choose one"):
        open_recording(path)
    assert open_recording(path, stream="Second").info.name == "Second"


def test_a_stream_without_samples_is_empty(tmp_path: Path) -> None:
    with pytest.raises(RigFault, match="empty"):
        open_recording(write_xdf(tmp_path / "a.xdf", [(header(), "int16", [])]))


def test_only_markers_are_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RigFault, match="no stream of samples"):
        open_recording(write_xdf(tmp_path / "a.xdf", [(EVENTS, "string", [([0.5], ["{}"])])]))


def test_a_file_too_large_to_be_read_whole_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(xdf, "MOST_BYTES", 1000)
    path = write_xdf(tmp_path / "a.xdf", [(header(), "int16", chunks(counts(3000, 2), 0.0))])
    with pytest.raises(RigFault, match="which is read whole"):
        open_recording(path)
