"""Recording: what the chain gave, bit for bit; every pause of its length; and nothing lost that a kill could take."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pylsl import local_clock

from models.errors import OperatorFault, RigFault
from server.cli import run
from streaming.chunk import ArrayMap, Chunk, SourceCounters, StreamInfo
from streaming.events import Marker, Report, Stimulation
from streaming.participant.settings import ParticipantSettings
from streaming.simulated_rig import SimulatedRig
from streaming.sources.lsl import LslSource
from streaming.sources.recording import open_recording
from tests.in_memory import in_memory
from tests.streaming.sources.files import RATE_HZ, counts
from tests.training.test_mua import Mua
from training.mua import mua
from training.mua_file import trains
from training.record import record
from training.record_file import Recorded, recover
from training.recorder import Recorder
from training.spool import spool_of

SCALE = np.full(3, 0.25, np.float32)
INFO = StreamInfo("live", "UtahArray", RATE_HZ, ArrayMap(("e1", "e2", "e3"), ((0, 0), (1, 0), (2, 0))), "P1", "s07")


def train(trial: int | None = 1, **changes: Any) -> Stimulation:
    whole = Stimulation(trial, 34, 20.0, 0.1, pulses=10, phase_us=170.0, interphase_us=60.0, frequency_hz=100.0)
    return replace(whole, **changes)


class Amplifier:
    """A source that plays parts of (first sample, counts, epoch), some milliseconds at a time, with markers that arrive
    with the sample named. Between epochs the stream is lost once; markers are of the last epoch. It stops the recorder
    at its end."""

    looking_for = "an LSL stream with name='Amplifier'"

    def __init__(
        self,
        parts: list[tuple[int, Any, int]],
        markers: list[tuple[int, int, Marker]] = (),  # arrives with sample, happened at sample, marker
        chunk: int = 700,
        info: StreamInfo = INFO,
        starts_s: tuple[float, ...] = (100.0,),  # clock at sample 0 of each epoch
        scale_uv: Any = SCALE,
    ) -> None:
        self.info, self.scale_uv, self.counters, self.hears_events = info, scale_uv, SourceCounters(), bool(markers)
        self.stop = threading.Event()
        self._chunks: list[Chunk | None] = []
        self._newest_epoch = parts[-1][2] if parts else 0
        self._markers, self._due = sorted(markers, key=lambda one: one[0]), 0
        for k, (first, data, epoch) in enumerate(parts):
            if k and epoch != parts[k - 1][2]:
                self._chunks.append(None)
            for row in range(0, len(data), chunk):
                rows = data[row : row + chunk] * np.float32(0.25)
                newest = starts_s[epoch] + (first + row + len(rows) - 1) / RATE_HZ
                self._chunks.append(Chunk(rows.astype(np.float32), first + row, newest, newest + 0.001, epoch))

    def wait(self, stop: threading.Event) -> bool:
        return not stop.is_set()

    def read(self, timeout_s: float) -> Chunk | None:
        if not self._chunks:
            self.stop.set()
            return None
        chunk = self._chunks.pop(0)
        if chunk is None:
            raise RigFault("the amplifier is gone; looking for it again")
        self._due = chunk.first_sample + len(chunk.samples_uv) if chunk.epoch == self._newest_epoch else 0
        return chunk

    def markers(self) -> list[tuple[int, Marker]]:
        due = [one for one in self._markers if one[0] < self._due]
        self._markers = self._markers[len(due) :]
        return [(at, marker) for _, at, marker in due]

    def close(self) -> None: ...


def recorded(folder: Path, amplifier: Amplifier, **options: Any) -> tuple[Mua, Mua, Recorded]:
    """The recording, what `phosphene mua` makes of the broadband in it, and what was said."""
    said = record(folder / "a.nwb", amplifier, amplifier.stop, broadband=True, **options)  # type: ignore[arg-type]
    mua(folder / "a.nwb", folder / "m.nwb", quiet=True)
    assert sorted(path.name for path in folder.iterdir()) == ["a.nwb", "m.nwb"]
    return Mua(folder / "a.nwb"), Mua(folder / "m.nwb"), said


def test_bins_are_those_of_mua_whenever_a_marker_came(tmp_path: Path) -> None:
    markers = [
        (12_000, 15_000, train(1)),  # told ahead
        (33_000, 30_000, train(2)),  # 0.1 s late
        (72_000, 45_000, train(3)),  # 0.9 s late: the chain rewinds
        (80_000, 80_000, Report(1, True)),
        (85_000, 84_000, Report(2, False)),
    ]
    found, again, said = recorded(tmp_path, Amplifier([(0, counts(105_000, 3), 0)], markers))
    np.testing.assert_array_equal(found.data, again.data)
    np.testing.assert_array_equal(found.valid, again.valid)
    assert not found.valid[np.r_[500:590, 1000:1090, 1500:1590]].any()
    assert found.valid[700:999].all()
    assert (said.trials, said.perceived, said.unanswered, said.late) == (2, 1, 1, 0)
    assert found.trials is not None
    assert found.trials["stim_onset"].tolist() == [0.5, 1.0]
    assert found.trials["perceived"].tolist() == [True, False]
    assert found.labels == ["e1", "e2", "e3"]
    assert found.session[:2] == ("s07", "P1")
    assert found.comments["chain_sha256"] == again.comments["chain_sha256"]
    assert found.comments["lsl_time_of_sample_0"] == pytest.approx(100.0)


def test_a_marker_beyond_the_rewind_spoils_its_train_and_nothing_else(tmp_path: Path) -> None:
    markers = [(100_000, 30_000, train(1)), (100_000, 100_000, Report(1, True))]
    found, again, said = recorded(tmp_path, Amplifier([(0, counts(120_000, 3), 0)], markers))
    assert said.late == 1
    assert not found.valid[999 : 1000 + 91 + 50].any()  # until the filters forgot it
    assert found.valid[np.r_[60:998, 1143:4000]].all()
    both = found.valid & again.valid
    np.testing.assert_array_equal(found.data[:999], again.data[:999])
    np.testing.assert_allclose(found.data[both], again.data[both], rtol=1e-3, atol=1e-3)
    assert said.trials == 1


def test_without_broadband_the_bins_are_the_same(tmp_path: Path) -> None:
    data, markers = counts(105_000, 3), [(33_000, 30_000, train(2)), (80_000, 80_000, Report(2, True))]
    found, _, said = recorded(tmp_path, Amplifier([(0, data, 0)], markers))
    amplifier = Amplifier([(0, data, 0)], markers)
    lean = record(tmp_path / "lean.nwb", amplifier, amplifier.stop)  # type: ignore[arg-type]
    np.testing.assert_array_equal(Mua(tmp_path / "lean.nwb").data, found.data)
    assert lean == replace(said, path=tmp_path / "lean.nwb")
    with pytest.raises(RigFault, match="no recording with electrodes"):
        open_recording(tmp_path / "lean.nwb")


def test_it_ends_by_itself(tmp_path: Path) -> None:
    amplifier = Amplifier([(0, counts(90_000, 3), 0)], starts_s=(local_clock(),))
    said = record(tmp_path / "a.nwb", amplifier, amplifier.stop, seconds=2.0)  # type: ignore[arg-type]
    assert said.seconds == pytest.approx(2.0, abs=0.03)  # to the end of a chunk


@pytest.mark.parametrize("pause_s", [0.5, 3.0])
def test_a_pause_keeps_its_length(tmp_path: Path, pause_s: float) -> None:
    data, behind = counts(90_000, 3), 45_017 + round(pause_s * RATE_HZ)
    amplifier = Amplifier([(0, data[:45_017], 0), (behind, data[45_017:], 0)])
    found, again, said = recorded(tmp_path, amplifier)
    np.testing.assert_array_equal(found.valid, again.valid)
    np.testing.assert_array_equal(found.data[found.valid], again.data[found.valid])
    assert said.seconds == pytest.approx(3.0 + pause_s, abs=0.002)
    assert not found.valid[1501 : 1500 + round(pause_s * 1000)].any()
    assert found.valid[60:1499].all()


def test_a_reconnect_is_a_gap_of_its_true_length(tmp_path: Path) -> None:
    """A new epoch counts from 0 again; its stamps say where it belongs, and its markers count as it does."""
    data = counts(90_000, 3)
    markers = [(6000, 5000, train(1)), (30_000, 29_000, Report(1, True))]
    parts = [(0, data[:40_000], 0), (0, data[40_000:], 1)]
    found, again, said = recorded(tmp_path, Amplifier(parts, markers, starts_s=(100.0, 104.0)))
    np.testing.assert_array_equal(found.valid, again.valid)
    np.testing.assert_array_equal(found.data[found.valid], again.data[found.valid])
    assert said.seconds == pytest.approx(4.0 + 50_000 / RATE_HZ, abs=0.002)
    assert found.trials is not None
    assert found.trials["stim_onset"].tolist() == [pytest.approx(4.0 + 5000 / RATE_HZ)]
    assert not found.valid[1334 : 4000 + 50].any()


def test_an_unanswered_stimulation_is_no_trial_but_its_artifact_is_known(tmp_path: Path) -> None:
    markers = [(20_000, 20_000, train(None)), (40_000, 40_000, train(7)), (50_000, 50_000, Report(8, True))]
    found, again, said = recorded(tmp_path, Amplifier([(0, counts(60_000, 3), 0)], markers))
    assert (said.trials, said.unanswered) == (0, 2)
    assert found.trials is None or not len(found.trials)
    np.testing.assert_array_equal(found.valid, again.valid)
    source = open_recording(tmp_path / "a.nwb", pace=None)
    told = [(at, marker.last_pulse_end_s) for at, marker in source.recording.markers if isinstance(marker, Stimulation)]
    source.close()
    assert told == [(20_000, train().last_pulse_end_s), (40_000, train().last_pulse_end_s)]


def test_numbers_that_begin_again_find_their_own_answers() -> None:
    first = [(0, train(1)), (10, Report(1, True)), (20, train(1)), (25, Report(1, False)), (26, Report(1, True))]
    second = [(30, train(2)), (40, train(2)), (50, Report(2, True)), (60, Report(None, True))]
    told = trains([*first, *second])
    assert [(one.at, one.perceived) for one in told] == [(0, True), (20, False), (30, None), (40, True)]


def test_a_dead_channel_is_told_and_voltages_are_kept_to_a_quarter_microvolt(tmp_path: Path) -> None:
    data = counts(120_000, 3)
    data[:, 1] = 0
    found, _, _ = recorded(tmp_path, Amplifier([(0, data, 0)], scale_uv=None))
    assert found.usable[1] < 0.5
    assert found.usable[[0, 2]].min() == 1.0
    source = open_recording(tmp_path / "a.nwb", pace=None)
    np.testing.assert_array_equal(source.recording.rows(0, 0, 1000), data[:1000])
    source.close()


# What breaks ---------------------------------------------------------------------------------------------------------


def spooled(folder: Path, data: Any, markers: list[tuple[int, int, Marker]] = ()) -> Path:  # type: ignore[assignment]
    """A spool whose writer was killed: never flushed, never closed in order."""
    amplifier = Amplifier([(0, data, 0)], markers)
    recorder: Recorder | None = None
    while (chunk := amplifier.read(0.0)) is not None:
        if recorder is None:
            recorder = Recorder(folder / "a.nwb", INFO, chunk, (datetime.now(UTC), local_clock()), keep=SCALE)
        recorder.push(chunk, amplifier.markers())
    assert recorder is not None
    recorder.spool.close()
    return recorder.spool.folder


def test_a_torn_spool_gives_all_whole_records(tmp_path: Path) -> None:
    spool = spooled(tmp_path, counts(120_000, 3), [(30_000, 30_000, train(1)), (60_000, 60_000, Report(1, True))])
    for name, rest in (("bins.mua", b"torn"), ("broadband.raw", b"x"), ("log.jsonl", b'{"sample": 6, "ev')):
        with (spool / name).open("ab") as file:
            file.write(rest)
    said = recover(spool)
    mua(tmp_path / "a.nwb", tmp_path / "m.nwb", quiet=True)
    found, again = Mua(tmp_path / "a.nwb"), Mua(tmp_path / "m.nwb")
    assert said.trials == 1
    assert said.seconds == 4.0  # of broadband; the last of its bins are missing
    assert 2650 <= found.valid.nonzero()[0][-1] < 3000
    np.testing.assert_array_equal(found.data[found.valid], again.data[found.valid])


def test_a_power_cut_that_leaves_zeros_is_cut_off(tmp_path: Path) -> None:
    spool = spooled(tmp_path, counts(120_000, 3))
    whole = (spool / "bins.mua").stat().st_size
    with (spool / "bins.mua").open("ab") as file:
        file.write(bytes(3 * (8 + 1 + 3 + 12)))
    recover(spool)
    assert Mua(tmp_path / "a.nwb").valid.sum() == whole // 24 - 50


def test_a_full_disk_is_one_sentence_and_what_was_kept_stays(tmp_path: Path) -> None:
    amplifier = Amplifier([(0, counts(150_000, 3), 0)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        with pytest.raises(RigFault, match=r"takes no more .* phosphene record --recover"):
            record(tmp_path / "a.nwb", amplifier, amplifier.stop, broadband=True)  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = recover(tmp_path / "a.nwb.part")
    assert said.seconds == pytest.approx(500_000 / 6 / RATE_HZ, abs=0.002)
    assert not (tmp_path / "a.nwb.part").exists()


def test_no_room_for_the_file_leaves_the_spool(tmp_path: Path) -> None:
    spool = spooled(tmp_path, counts(150_000, 3))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RigFault, match="cannot be written"):
            recover(spool)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nwb.part"]
    assert recover(spool).seconds == 5.0


def test_what_is_refused(tmp_path: Path) -> None:
    def refused(name: str, amplifier: Amplifier | None = None, **options: Any) -> str:
        amplifier = amplifier or Amplifier([(0, counts(3000, 3), 0)])
        with pytest.raises((OperatorFault, RigFault)) as fault:
            record(tmp_path / name, amplifier, amplifier.stop, **options)  # type: ignore[arg-type]
        return str(fault.value)

    (tmp_path / "there.nwb").write_bytes(b"precious")
    assert "never overwritten" in refused("there.nwb")
    assert "ends with .nwb" in refused("a.h5")
    assert "no such folder" in refused("nowhere/a.nwb")
    assert "participant 'P1', not of 'P2'" in refused("other.nwb", participant="P2")
    assert "nothing was recorded" in refused("none.nwb", Amplifier([]))
    assert "less than a second and a half" in refused_recovery(spooled(tmp_path, counts(3000, 3)))
    assert "--recover" in refused("a.nwb")
    assert "no such folder" in refused_recovery(tmp_path / "b.nwb.part")
    assert "expected the folder" in refused_recovery(tmp_path / "there.nwb")
    assert (tmp_path / "there.nwb").read_bytes() == b"precious"


def refused_recovery(spool: Path) -> str:
    with pytest.raises((OperatorFault, RigFault)) as fault:
        recover(spool)
    return str(fault.value)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [([], "either --out"), (["--out", "a.nwb", "--source", "a.ns6"], "lsl:PREDICATE"), (["--seconds", "1"], "seconds")],
)
def test_called_wrongly(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["record", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_ctrl_c_before_the_stream_says_that_nothing_was_recorded(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "server.cli", "record", f"--out={tmp_path / 'a.nwb'}", "--source=lsl:name='NoSuch'"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert any("waiting" in line for line in process.stderr)  # liblsl may have said something before
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=90)[1]
    finally:
        process.kill()
    assert process.returncode == 1
    assert "phosphene: nothing was recorded" in said
    assert list(tmp_path.iterdir()) == []


# Over LSL ------------------------------------------------------------------------------------------------------------

ONSETS_S = (0.4, 1.2, 2.0)  # after the event stream was found
ANSWERED_S = 2.2  # the longest that the participant takes


@dataclass(frozen=True)
class Morning:
    """What a simulated rig did, what was recorded of it here, and what of a recorder that was killed beside it."""

    folder: Path
    rig: SimulatedRig
    said: Recorded
    killed_after_s: float  # since the killed one's first sample
    while_running: str


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def morning() -> Iterator[Morning]:
    with in_memory(512) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("streaming.sources.lsl.SILENCE_S", 30.0)  # a rig that the machine holds up is not silent
        yield recorded_twice(folder)


def recorded_twice(folder: Path) -> Morning:
    name = f"T{os.getpid()}-{time.monotonic_ns()}"
    rig = SimulatedRig(ParticipantSettings(seed=5), "rest", name, f"{name}-events", f"name='{name}-triggers'")
    flags = [f"--source=lsl:name='{name}'", f"--events=name='{name}-events'", "--broadband"]
    other = subprocess.Popen(
        [sys.executable, "-m", "server.cli", "record", f"--out={folder / 'killed.nwb'}", *flags],
        stderr=subprocess.DEVNULL,
    )
    source = LslSource(f"name='{name}'", event_predicate=f"name='{name}-events'")
    stop, said = threading.Event(), []
    recording = threading.Thread(target=lambda: said.append(record(folder / "a.nwb", source, stop, broadband=True)))
    running = threading.Thread(target=rig.run, args=(stop_rig := threading.Event(),))
    bins = spool_of(folder / "killed.nwb") / "bins.mua"
    try:
        running.start()
        recording.start()
        until(lambda: source.hears_events)
        last = [
            rig.session.stimulate(25, 30.0, onset_sample=rig.session.position + round(s * RATE_HZ)) for s in ONSETS_S
        ]
        assert last[-1] is not None
        until(lambda: bins.exists() and bins.stat().st_size > 2000 * 489)
        while_running = refused_recovery(bins.parent)
        began = json.loads((bins.parent / "header.json").read_text())["lsl_time"]
        other.send_signal(signal.SIGKILL)
        killed_after_s = local_clock() - began
        other.wait()
        until(lambda: rig.session.position > last[-1].onset_sample + ANSWERED_S * RATE_HZ)
        stop.set()
        recording.join(60)
    finally:
        other.kill()
        stop.set()
        stop_rig.set()
        running.join(10)
    assert said
    return Morning(folder, rig, said[0], killed_after_s, while_running)


def test_a_rig_is_recorded_as_it_was(morning: Morning) -> None:
    mua(morning.folder / "a.nwb", morning.folder / "m.nwb", quiet=True)
    found, again = Mua(morning.folder / "a.nwb"), Mua(morning.folder / "m.nwb")
    assert len(found.data) > 4000
    np.testing.assert_array_equal(found.valid, again.valid)
    np.testing.assert_array_equal(found.data[found.valid], again.data[found.valid])
    assert found.valid.mean() > 0.85  # the start, and three trains of 170 ms
    assert found.session[:2] == ("day-0", "simulated")
    assert found.positions == [tuple(place) for place in morning.rig.session.participant.anatomy.map.positions or ()]


def test_trials_come_back_as_they_were_delivered(morning: Morning) -> None:
    found, delivered = Mua(morning.folder / "a.nwb"), morning.rig.session.participant.delivered
    assert found.trials is not None
    assert (morning.said.trials, morning.said.unanswered, len(found.trials)) == (3, 0, 3)
    assert len(delivered) == 3
    rig_began_s = morning.rig.t0 - found.comments["lsl_time_of_sample_0"]
    by_onset = {round(one.onset_sample / RATE_HZ + rig_began_s, 4): one for one in delivered}
    for row in found.trials.itertuples():
        one = by_onset[round(row.stim_onset, 4)]
        assert (row.stim_electrode, row.current_ua, row.perceived) == (25, 30.0, one.perceived)
        assert (row.pulses, row.frequency_hz) == (one.stimulation.pulses, one.stimulation.frequency_hz)
        assert not found.valid[round(row.stim_onset * 1000) : round(row.stim_onset * 1000) + 160].any()


def test_a_killed_recorder_loses_a_second_and_a_half_at_most(morning: Morning) -> None:
    assert "is being recorded at this moment" in morning.while_running
    assert run(["record", "--recover", str(morning.folder / "killed.nwb.part")]) == 0
    assert not (morning.folder / "killed.nwb.part").exists()
    mua(morning.folder / "killed.nwb", morning.folder / "k.nwb", quiet=True)
    found, again = Mua(morning.folder / "killed.nwb"), Mua(morning.folder / "k.nwb")
    np.testing.assert_array_equal(found.data[found.valid], again.data[found.valid])
    last = found.valid.nonzero()[0][-1] / 1000
    assert last > morning.killed_after_s - 1.5 - 0.5  # half a second for a loaded machine
    assert len(found.data) / 1000 > morning.killed_after_s - 0.5
