"""Blackrock files: pauses stay gaps, analogue inputs stay out, a file cut short is said to be one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import RigFault
from streaming.sources.recording import open_recording
from tests.streaming.sources.files import counts, write_nsx
from tests.streaming.sources.test_recording import drain

LABELS = ["elec1", "elec2", "elec3"]


@pytest.mark.parametrize("suffix", [".ns5", ".ns6"])
def test_a_pause_is_a_gap_and_every_sample_is_there(tmp_path: Path, suffix: str) -> None:
    one, two = counts(4000, 3, 1), counts(5000, 3, 2)
    path = write_nsx(tmp_path / f"s07{suffix}", [(0, one), (34000, two)], LABELS)
    source = open_recording(path, pace=None, chunk_s=0.1)
    assert (source.info.kind, source.info.rate_hz, source.info.array.labels) == ("replay", 30000.0, tuple(LABELS))
    samples, places = drain(source)
    np.testing.assert_allclose(samples, np.concatenate([one, two]) * 0.25, rtol=1e-3)
    assert places == [(0, 3000), (3000, 1000), (34000, 3000), (37000, 2000)]
    assert (source.counters.gaps, source.counters.lost_samples) == (1, 30000)


def test_analogue_inputs_are_no_electrodes(tmp_path: Path) -> None:
    data = counts(3000, 3)
    path = write_nsx(tmp_path / "a.ns6", [(0, data)], ["elec1", "ainp1", "elec2"])
    source = open_recording(path, pace=None)
    assert source.info.array.labels == ("elec1", "elec2")
    samples, _ = drain(source)
    np.testing.assert_allclose(samples, data[:, [0, 2]] * 0.25, rtol=1e-3)
    chunk = open_recording(path, pace=None, chunk_s=0.01).read(1.0)
    assert chunk is not None
    assert chunk.samples_uv.flags.c_contiguous, "the kernel is compiled for no other order"
    only = write_nsx(tmp_path / "b.ns6", [(0, data)], ["ainp1", "ainp2", "ainp3"])
    with pytest.raises(RigFault, match="without electrodes"):
        open_recording(only)


def test_millivolts_become_microvolts_and_another_unit_is_refused(tmp_path: Path) -> None:
    data = counts(300, 3)
    samples, _ = drain(open_recording(write_nsx(tmp_path / "a.ns6", [(0, data)], LABELS, b"mV"), pace=None))
    np.testing.assert_allclose(samples, data * 250.0, rtol=1e-3)
    with pytest.raises(RigFault, match="unknown unit 'furlong', expected uV, mV or V"):
        open_recording(write_nsx(tmp_path / "b.ns6", [(0, data)], LABELS, b"furlong"))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_nsx(tmp_path / "a.ns6", [(0, counts(30000, 3))], LABELS)
    path.write_bytes(path.read_bytes()[:90_000])
    with pytest.raises(RigFault, match="cut short"):
        open_recording(path)


def test_events_alone_are_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.nev"
    path.write_bytes(b"NEURALEV" + bytes(400))
    with pytest.raises(RigFault, match="holds events, no continuous signal"):
        open_recording(path)
