"""A simulated recording read back is the session that was simulated: evoked windows survive the file."""

from __future__ import annotations

from pathlib import Path

from streaming.events import Stimulation
from streaming.participant.settings import ParticipantSettings
from streaming.sources.recording import open_recording
from training.simulate import session_trials, write_dataset


def test_trains_come_back_with_the_end_of_their_last_pulse(tmp_path: Path) -> None:
    settings = ParticipantSettings(seed=3)
    (path,) = write_dataset(tmp_path, "threshold", settings, minutes=0.25)
    source = open_recording(path, pace=None)
    found = [(sample, marker) for sample, marker in source.recording.markers if isinstance(marker, Stimulation)]
    source.close()
    expected = session_trials(settings, "threshold", 15.0)
    assert found
    assert [sample for sample, _ in found] == [round(trial.onset_s * settings.rate_hz) for trial in expected]
    assert [marker.last_pulse_end_s for _, marker in found] == [t.stimulation.last_pulse_end_s for t in expected]
    assert all(marker.last_pulse_end_s < marker.duration_s for _, marker in found)
