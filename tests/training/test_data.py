"""MUA from NWB to cached sessions: what `simulate` and `mua` write is what training reads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject

from models.errors import OperatorFault, RigFault
from streaming.participant.settings import ParticipantSettings
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from tests.streaming.sources.files import RATE_HZ, counts, write_nsx
from tests.training.sessions import small_session
from training.data import cached, open_sessions, read_session, settled
from training.mua import mua
from training.simulate import write_dataset


def test_simulated_level_a_is_a_session(tmp_path: Path):
    (file,) = write_dataset(tmp_path, "threshold", ParticipantSettings(), minutes=0.4, level="A")
    (session,) = open_sessions([file], tmp_path / "cache")
    assert session.z.shape == (24_000, 96)
    assert session.header.participant == "simulated"
    assert session.header.date == "2026-01-05"
    assert session.header.positions is not None
    assert session.header.chain == ChainSettings().to_dict()
    assert len(session.header.trials) >= 2
    assert not session.usable[:999].any()
    assert session.usable[1000:].all()
    assert np.abs(session.z[5000:].mean(axis=0)).max() < 0.3
    assert session.z[5000:].std() == pytest.approx(1, abs=0.1)
    again = open_sessions([file], tmp_path / "cache")[0]  # read, not made again
    assert (tmp_path / "cache" / again.header.name / "z.npy").stat().st_ctime_ns == _changed(tmp_path, session)


def _changed(tmp_path: Path, session) -> int:
    return (tmp_path / "cache" / session.header.name / "z.npy").stat().st_ctime_ns


def test_broadband_through_mua_is_what_the_chain_gives_live(tmp_path: Path):
    """Level B to MUA file to cached session, against the same samples through the serving chain."""
    from training.default_bundle import _Job, _make_session

    (broadband,) = write_dataset(tmp_path, "threshold", ParticipantSettings(), minutes=0.2, level="B")
    mua(broadband, tmp_path / "mua.nwb", quiet=True)
    session = read_session(cached(tmp_path / "mua.nwb", tmp_path / "cache"))
    live = read_session(_make_session(tmp_path, _Job("B", 0, 0, 12)))
    assert session.header.rate_hz == 30_000
    assert session.header.array == live.header.array
    apart = np.ones(len(live.z), bool)
    for trial in live.header.trials:  # the file knows the train's duration, not its last pulse, 3.3 ms earlier
        apart[round(trial.onset_s * 1000) : round(trial.onset_s * 1000) + 200] = False
    assert np.array_equal(session.usable[apart], live.usable[apart])
    assert np.abs(np.where(live.usable, session.z - live.z, 0))[apart].max() < 0.1
    onsets = [[trial.onset_s for trial in one.header.trials] for one in (session, live)]
    assert onsets[0] == pytest.approx(onsets[1])


@pytest.mark.parametrize("pause_s", [1.9, 1.98, 3.0])
def test_behind_a_pause_the_cache_is_what_the_chain_gives_live(tmp_path: Path, pause_s: float):
    """Over the longest gap the chain starts everything anew, at another loudness here; under it, it goes on."""
    data = counts(150_000, 3)
    data[60_000:] *= 3
    parts = [(0, data[:60_000]), (60_000 + round(pause_s * RATE_HZ), data[60_000:])]
    mua(write_nsx(tmp_path / "a.ns6", parts, ["e1", "e2", "e3"]), tmp_path / "mua.nwb", quiet=True)
    session = read_session(cached(tmp_path / "mua.nwb", tmp_path / "cache"))
    chain = SignalChain(ChainSettings(), RATE_HZ, 3)
    z, usable = np.zeros((2, *session.z.shape), np.float32)
    for first, part in parts:
        bins = chain.push(part * np.float32(0.25), first)
        z[bins.first_bin : bins.end_bin], usable[bins.first_bin : bins.end_bin] = bins.z, bins.usable
    behind = 2000 + round(pause_s * 1000)
    first_settled = behind + int(np.argmax(session.usable[behind:, 0]))
    assert first_settled == behind + (1049 if pause_s > 2 else 50)
    assert np.array_equal(session.usable, settled(usable.astype(bool), ChainSettings()))
    assert session.usable[-500:].all()
    np.testing.assert_allclose(session.z[session.usable], z[session.usable], atol=2e-3)


def test_a_session_that_was_interrupted_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.sessions.os.replace", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        small_session(tmp_path / "data", seconds=1)
    assert not list((tmp_path / "data").iterdir())


def write_mua(path: Path, data: np.ndarray, rate: float = 1000.0, **columns: list) -> Path:
    nwb = NWBFile("test", "test", datetime(2031, 1, 1, tzinfo=UTC), subject=Subject(subject_id="P1"))
    group = nwb.create_electrode_group("g", "g", "V1", nwb.create_device("d"))
    nwb.add_electrode_column("label", "label")
    for name in columns:
        nwb.add_electrode_column(name, name)
    for k in range(data.shape[1]):
        nwb.add_electrode(
            group=group, location="V1", label=f"elec{k + 1}", **{name: values[k] for name, values in columns.items()}
        )
    region = nwb.create_electrode_table_region(list(range(data.shape[1])), "all")
    series = ElectricalSeries(name="MUA", data=data, electrodes=region, rate=rate, starting_time=10.0, conversion=1e-6)
    nwb.create_processing_module("ecephys", "x").add(series)
    nwb.add_invalid_time_interval(12.0, 12.5)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def test_what_is_not_vouched_for_is_not_usable(tmp_path: Path):
    data = np.random.default_rng(0).standard_normal((5000, 4)).astype(np.float32)
    data[4000:4100, 1] = np.nan
    file = write_mua(tmp_path / "mua.nwb", data, usable=[1.0, 1.0, 0.2, 1.0])
    session = read_session(cached(file, tmp_path / "cache"))
    assert not session.usable[2000:2500].any()
    assert not session.usable[4000:4100, 1].any()
    assert not session.usable[:, 2].any()
    assert session.usable[3000:4000, [0, 1, 3]].all()
    assert np.isfinite(session.z).all()
    assert (session.header.positions, session.header.participant) == (None, "P1")


def test_broadband_is_cached_through_the_chain(tmp_path: Path):
    """As by `phosphene mua` and then the cache; nothing of the way there is left."""
    (broadband,) = write_dataset(tmp_path, "rest", ParticipantSettings(), minutes=0.05, level="B")
    (straight,) = open_sessions([broadband], tmp_path / "cache")
    assert [one.name for one in (tmp_path / "cache").iterdir()] == [straight.header.name]
    mua(broadband, tmp_path / "mua.nwb", quiet=True)
    by_hand = read_session(cached(tmp_path / "mua.nwb", tmp_path / "cache"))
    np.testing.assert_array_equal(straight.z, by_hand.z)
    np.testing.assert_array_equal(straight.usable, by_hand.usable)
    assert straight.header.chain == by_hand.header.chain
    with pytest.raises(OperatorFault, match="are one recording; name it once"):
        open_sessions([broadband, tmp_path / "mua.nwb"], tmp_path / "cache")


def test_files_that_hold_no_recording_are_refused(tmp_path: Path):
    (tmp_path / "text.nwb").write_text("no NWB")
    with pytest.raises(RigFault, match="not an NWB file"):
        cached(tmp_path / "text.nwb", tmp_path / "cache")
    for name, data, rate, says in (
        ("slow", np.zeros((100, 4), np.float32), 500.0, r"found MUA of shape \(100, 4\) at 500 Hz for 4 electrodes"),
        ("empty", np.zeros((0, 4), np.float32), 1000.0, r"found MUA of shape \(0, 4\)"),
    ):
        with pytest.raises(RigFault, match=says):
            cached(write_mua(tmp_path / f"{name}.nwb", data, rate=rate), tmp_path / "cache")
    with pytest.raises(OperatorFault, match="no such recording"):
        cached(tmp_path / "none.nwb", tmp_path / "cache")
