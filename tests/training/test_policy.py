"""evaluate-policy against recordings whose trials are known, and a decoder that says what it is told to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle import find_bundle
from models.decoder import Decoded as Said
from models.onnx_decoder import open_bundle
from server.cli import run
from server.settings import PACKAGED
from streaming.participant.settings import ParticipantSettings
from streaming.trigger import TriggerSettings
from training.policy import _Trials, evaluate_policy, notes
from training.policy_recordings import decode_recording
from training.simulate import session_trials, write_dataset

BUNDLE = find_bundle(PACKAGED, "default")
MINUTES = 0.8
LIMITS = """
name = "tests"
participant = "simulated"
simulated_only = true
electrodes = [53]
currents_ua = [10.0]
[pulse]
phase_us = 170
interphase_us = 60
frequency_hz = 300
pulses = 50
"""


class Knowing:
    """The default bundle's manifest; the probability is 0.9 where the mean of the window is positive, else 0.2."""

    name, provider, precision, n_channels, n_bins = "knowing@1", "cpu", "float32", 96, 128

    def __init__(self) -> None:
        self.manifest = open_bundle(BUNDLE).manifest

    def step(self, window: NDArray[np.float32], usable: NDArray[np.bool_]) -> Said:
        return Said(np.zeros(1, np.float32), 0.9 if window.mean() > 0 else 0.2, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("policy")
    (found / "limits.toml").write_text(LIMITS)
    write_dataset(found, "threshold", ParticipantSettings(), minutes=MINUTES, level="A")
    return found


def recording(folder: Path) -> Path:
    (path,) = folder.glob("*.nwb")
    return path


def test_trials_are_judged_by_the_last_window_before_them_and_counted_whole(folder: Path) -> None:
    found = decode_recording(recording(folder), Knowing(), 0.01, None)
    expected = session_trials(ParticipantSettings(), "threshold", 60 * MINUTES)
    assert [trial.perceived for trial in found.trials] == [one.perceived for one in expected]
    told = [(p, trial) for p, trial in found.before_trials(0.0)]
    for probability, trial in told:
        before = [one for one in found.predictions if one.sample_time <= trial.onset_s - found.blank_before_s]
        assert probability == pytest.approx(before[-1].probability), "never a window that the train touches"
        touching = [one for one in found.predictions if trial.onset_s < one.sample_time < trial.onset_s + 0.164 + 0.128]
        assert touching
        assert all(one.probability is None and one.flags == ("blanking",) for one in touching)


def test_rates_trials_and_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = evaluate_policy(
        [recording(folder)], folder / "limits.toml", Knowing(), (0.6, 0.8, 0.95), TriggerSettings(), 0.02, out=out
    )
    low, middle, high = result["thresholds"]
    assert low["would_fire"] == middle["would_fire"] > 0 == high["would_fire"]
    assert low["passing"] == middle["passing"]
    assert high["passing"]["trials"] == 0
    assert high["passing"]["rate"] is None
    every = result["all_trials"]
    assert every["trials"] == len(session_trials(ParticipantSettings(), "threshold", 60 * MINUTES))
    assert 0 < low["passing"]["trials"] < every["trials"]
    assert low["per_minute"] == pytest.approx(low["would_fire"] / result["recordings"][0]["decodable_minutes"])
    told = json.loads((out / "policy.json").read_text())
    times = told["would_fire_s"]["0.6"][0]
    assert len(times) == low["would_fire"]
    assert np.diff(times).min() >= 2.0
    assert times[0] >= 11.0, "ten seconds of history, and a second of all being good"
    assert (out / "policy.png").stat().st_size > 10_000
    assert any("taken as good" in note for note in notes(result))
    assert result["trials_without_a_whole_window"] == 0
    assert not any("not counted" in note for note in notes(result))
    assert any("not counted: 3" in note for note in notes(result | {"trials_without_a_whole_window": 3}))
    again = evaluate_policy([recording(folder)], folder / "limits.toml", Knowing(), (0.6, 0.8, 0.95), hop_s=0.02)
    assert again == result


def test_broadband_and_its_own_envelope_say_the_same(tmp_path: Path) -> None:
    (broadband,) = write_dataset(tmp_path / "data", "threshold", ParticipantSettings(), minutes=0.4, level="B")
    envelope = tmp_path / "mua.nwb"
    assert run(["mua", str(broadband), "--out", str(envelope)]) == 0
    one, two = (decode_recording(path, Knowing(), 0.02, None) for path in (broadband, envelope))
    assert [trial.perceived for trial in one.trials] == [trial.perceived for trial in two.trials] != []
    said = [
        {round(p.sample_time, 3): p.probability for p in found.predictions if p.flags == ()} for found in (one, two)
    ]
    both = said[0].keys() & said[1].keys()
    assert len(both) > 0.9 * len(said[0]) > 200
    assert all(said[0][at] == said[1][at] for at in both)


def test_what_electrode_and_current_alone_would_have_given() -> None:
    easy, hard = (1, 20.0), (2, 10.0)
    trials = _Trials(
        probability=np.array([0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.9]),
        perceived=np.array([True, True, False, False, False, True, True]),
        stimulus=[easy, easy, easy, hard, hard, hard, (3, 1.0)],
        without=0,
    )
    passes = trials.probability >= 0.5
    assert trials.stimulus_only(passes) == pytest.approx(np.mean([0.5, 0.5, 1.0])), "each without its own answer"
    assert trials.stimulus_only(np.zeros(7, bool)) is None


def test_a_bundle_that_was_fitted_on_the_recording_says_so(folder: Path) -> None:
    decoder: Any = Knowing()
    stem = recording(folder).stem
    decoder.manifest = decoder.manifest.model_copy(update={"provenance": {"probe_sessions": [stem]}})
    result = evaluate_policy([recording(folder)], folder / "limits.toml", decoder, (0.6,), hop_s=0.1)
    assert result["recordings"][0]["bundle_was_fitted_on_it"]
    assert any("too good" in note for note in notes(result))


def test_as_a_command_with_the_bundle_that_ships(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate-policy", str(recording(folder)), "--limits", str(folder / "limits.toml")]
    assert run([*arguments, "--thresholds", "0.6,0.7", "--hop-s", "0.04", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "hit rate" in said
    assert "stimulus" in said
    assert "taken as good" in said


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"--limits": "{tmp}/none.toml"}, "none.toml"),
        ({"recording": "{tmp}/none.nwb"}, "none.nwb"),
        ({"--thresholds": "high"}, "--thresholds"),
        ({"--thresholds": "0.4"}, "p_on"),
        ({"--hop-s": "0.0125"}, "hop"),
        ({"--out": "{tmp}"}, "never overwritten"),
        ({"--participant": "p07"}, "p07"),
    ],
)
def test_called_wrongly_is_one_sentence(
    change: dict[str, str], word: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"recording": str(recording(folder)), "--limits": str(folder / "limits.toml"), "--hop-s": "0.2"} | change
    arguments = ["evaluate-policy", told.pop("recording"), *(part for pair in told.items() for part in pair)]
    assert run([part.format(tmp=tmp_path) for part in arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
    assert word in line
    assert not list(tmp_path.iterdir())
