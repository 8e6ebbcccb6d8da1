"""Data sets are NWB by the contract and hold what the participant would have sent."""

import numpy as np
import pytest

pynwb = pytest.importorskip("pynwb")

from models.errors import OperatorFault  # noqa: E402
from streaming.participant.level_a import LevelA  # noqa: E402
from streaming.participant.participant import Participant  # noqa: E402
from streaming.participant.settings import ParticipantSettings  # noqa: E402
from training.simulate import recorded, session_trials, write_dataset  # noqa: E402

SETTINGS = ParticipantSettings(seed=2)


def test_broadband_file(tmp_path):
    (path,) = write_dataset(tmp_path, "threshold", SETTINGS, minutes=0.15, level="B")
    with pynwb.NWBHDF5IO(path, "r") as io:
        nwb = io.read()
        series = nwb.acquisition["Broadband"]
        assert series.data.dtype == np.int16
        assert series.data.shape == (9 * 30_000, 96)
        assert (series.rate, series.conversion) == (30_000.0, 0.25e-6)
        expected = np.concatenate(list(recorded(SETTINGS, "threshold", 9.0, "B")))
        np.testing.assert_array_equal(series.data[:], expected)
        row = nwb.trials.to_dataframe().iloc[0]
        onset = round(row.stim_onset * 30_000)
        assert np.abs(series.data[onset : onset + 30, int(row.stim_electrode) - 1]).max() > 20_000
        assert row.start_time < row.stim_onset < row.stim_onset + row.stim_duration < row.stop_time < 9.0


def test_envelope_files_one_a_day(tmp_path):
    lines = []
    paths = write_dataset(tmp_path, "rest", SETTINGS, sessions=2, minutes=0.1, level="A", progress=lines.append)
    assert len(paths) == len(lines) == 2
    starts = []
    for day, path in enumerate(paths):
        with pynwb.NWBHDF5IO(path, "r") as io:
            nwb = io.read()
            series = nwb.processing["ecephys"]["MUA"]
            assert (series.rate, series.conversion, series.data.shape) == (1000.0, 1e-6, (6000, 96))
            assert nwb.trials is None
            assert (nwb.session_id, nwb.subject.subject_id) == (f"day-{day}", "simulated")
            table = nwb.electrodes.to_dataframe()
            assert list(table["label"][:2]) == ["elec1", "elec2"]
            assert len(set(zip(table["rel_x"], table["rel_y"], strict=True))) == 96
            starts.append(nwb.session_start_time)
            if day == 0:
                np.testing.assert_array_equal(series.data[:], LevelA(Participant(SETTINGS)).read(6000))
    assert (starts[1] - starts[0]).days == 1
    with pytest.raises(OperatorFault, match="already there"):
        write_dataset(tmp_path, "rest", SETTINGS, minutes=0.1, level="A")


def test_a_paper_sized_session_has_its_trials():
    trials = session_trials(SETTINGS, "threshold", 60 * 8)
    assert 85 < len(trials) < 110
    assert 0.25 < np.mean([t.perceived for t in trials]) < 0.75
