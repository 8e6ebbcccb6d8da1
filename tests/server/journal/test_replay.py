"""A session replays to the bit from its journal and a recording of it; and whatever was altered is found."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import streaming.live
from models.errors import OperatorFault
from models.manifest import chain_sha256
from server.bundles import Bundles
from server.cli import run
from server.journal.rows import Row
from server.journal.session import read_session
from server.trigger_settings import PlanSettings
from streaming.chunk import Chunk
from streaming.trigger import TriggerSettings
from tests.models.bundles import small_bundle
from tests.server.journal.sessions import (
    BUNDLES,
    EASY,
    LIMITS,
    SCALE_UV,
    SWITCHED_ON,
    WALL,
    Answers,
    Kept,
    Played,
    replayed,
    signal,
    told,
)  # fmt: skip
from tests.streaming.fakes import QUICK, RATE, MeanDecoder, manifest
from training.record_file import recover
from training.recorder import Recorder
from training.spool import spool_of

OTHER_PLAN = PlanSettings(arms=["unfavourable", "favourable"], trials_per_arm=40, seed=8)
BLIND_PLAN = PlanSettings(arms=["open_loop", "random"], trials_per_arm=20, sham_fraction=0.5, blind=True)
AT_RANDOM = PlanSettings(arms=["random"], trials_per_arm=50, sham_fraction=0.3, seed=570)  # after 0.4, 0.07, 0.26 s
SMOOTH = TriggerSettings(p_on=0.505, p_off=0.5, dwell_hops=4, smoothing_s=0.1)


@pytest.fixture(autouse=True, scope="module")
def reconnects_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming.live, "RETRY_S", 0.0)
        yield


def lapse(session: Played) -> None:
    session.beats = False


def beat(session: Played) -> None:
    session.beats = True


def busy(session: Played) -> None:
    """Nothing was fired, and yet the device says that it is busy, for 0.2 s."""
    session.device.log.append((session.now, "its own", session.limits().patterns[0]))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Armed four times and twice in shadow; with nearly everything that can come between."""
    script: dict[float, Callable[[Played], None]] = {
        2.0: Played.arm,
        3.6: lapse,
        5.6: beat,  # 2 s later: inhibited, not disarmed
        9.0: lambda one: one.mask(3),
        11.0: busy,
        13.0: lambda one: one.gate.disarm("a pause"),
        13.5: lambda one: one.configure(SMOOTH),
        14.0: Played.shadow,
        16.0: lambda one: setattr(one.device, "refuses", True),
        16.1: lambda one: setattr(one.device, "broken", "a cable"),
        17.0: Played.request,  # refused: shadow goes on, with an engine of its own
        18.0: lambda one: setattr(one.device, "broken", ""),
        18.1: lambda one: setattr(one.device, "refuses", False),
        19.0: lambda one: one.configure(EASY, OTHER_PLAN),
        19.5: Played.arm,
        25.0: lambda one: one.activate(1),
        27.5: Played.arm,
        30.0: Played.edit_limits,
        31.0: Played.shadow,
        33.0: lambda one: one.gate.stop("a person's"),
        33.2: lambda one: one.gate.clear("looked at"),
        33.5: Played.arm,
        37.0: lambda one: setattr(one.device, "refuses", True),  # what fires next does not leave, and that disarms
    }
    return Played(
        tmp_path_factory.mktemp("session"),
        signal(40.0),
        script,
        spans=[(0.5, 23.0), (23.4, 39.5)],  # a reconnect, armed
        lost=[(6.6, 6.602), (21.0, 21.3)],
        trains=[(6.0, 6.5), (20.0, 20.01), (34.9, 36.1)],
        answers=Answers((0.02, 0.7, None, 0.3)),
        stale=[(22.0, 22.2)],
        backlog=[(29.0, 29.1)],
        stalls=[0.6, 3.5, 10.5, 15.5, 21.0, 24.0, 28.5, 36.0],
    ).play()


def test_everything_comes_out_to_the_bit(session: Played) -> None:
    found = replayed(session)
    assert found.difference == ""
    assert found.notes == []
    kinds = Counter(row.kind for row in told(session))
    fields = [row.load() for row in told(session) if row.kind in ("trigger", "would_fire")]
    assert found.triggers + found.shams + found.would_fire == len(fields) == kinds["trigger"] + kinds["would_fire"]
    assert found.triggers >= 5
    assert found.shams >= 1
    assert found.would_fire >= 1
    assert sum(bool(one["refused"]) for one in fields) == 1
    assert {one["arm"] for one in fields} == {"favourable", "random", "unfavourable"}
    reasons = {"PROBABILITY", "AGE", "WINDOW", "LEASE", "DEVICE", "UNSETTLED", "THRESHOLD", "DWELL", "WAIT"}
    assert reasons <= set(found.inhibited), "and each as often as the journal counts"
    assert kinds["connection"] == 3
    assert kinds["mask"] == 1


@st.composite
def sessions(draw: st.DrawFn) -> dict[str, Any]:
    at = st.floats(1.6, 8.9).map(lambda seconds: round(seconds, 2))
    actions = st.sampled_from(
        [
            Played.arm, Played.arm, Played.shadow, Played.request, lapse, beat, busy, lambda one: one.mask(2),
            lambda one: one.mask(), lambda one: one.gate.disarm(), lambda one: one.configure(SMOOTH),
            lambda one: one.configure(EASY, OTHER_PLAN), lambda one: one.activate(1), Played.edit_limits,
            lambda one: one.edit_limits("nonsense\n"),
        ]
    )  # fmt: skip
    onset = draw(st.lists(at, max_size=3))
    reconnects = draw(st.booleans())
    return {
        "script": {1.55: draw(st.sampled_from([Played.arm, Played.shadow]))} | draw(st.dictionaries(at, actions)),
        "spans": [(0.3, 5.0), (5.2, 9.0)] if reconnects else [(0.3, 9.0)],
        "lost": draw(st.sampled_from([[], [(3.0, 3.01)], [(4.0, 4.7)], [(2.5, 2.501), (6.0, 7.5)]])),
        "trains": [(one, one + draw(st.floats(0.0, 0.9))) for one in onset],
        "answers": Answers(draw(st.lists(st.sampled_from([0.01, 0.4, 0.8, None]), min_size=1)), draw(st.booleans())),
        "cut": draw(st.sampled_from([(30, 290), (100, 101), (290, 310)])),
        "stalls": draw(st.lists(st.floats(0.5, 8.0), max_size=4)),
        "seed": draw(st.integers(0, 9)),
        "plan": draw(st.sampled_from([None, OTHER_PLAN, BLIND_PLAN])),
    }


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(played=sessions(), began=st.sampled_from([0.0, 0.2]))
def test_any_session_comes_out_to_the_bit(
    played: dict[str, Any], began: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = Played(tmp_path_factory.mktemp("any"), signal(9.0, played["seed"]), **played).play()
    found = replayed(one, Kept(one, began))
    assert found.difference == ""
    assert found.notes == []


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_bundle_that_takes_over_in_shadow_comes_out_to_the_bit(tmp_path: Path, goes_on: bool) -> None:
    """Its windows are decided on from the first on: nobody disarmed. A train and a mask fall on either side."""
    chain = QUICK if goes_on else replace(QUICK, band_hz=(500.0, 4000.0))
    second = MeanDecoder(manifest(chain=chain, manifest_sha256="5ea2", full_name="fake@2"), "fake@2", slope=1.5)
    one = Played(
        tmp_path,
        signal(8.0),
        {1.6: Played.shadow, 3.0: lambda one: one.mask(3), 4.0: lambda one: one.live.activate(second),
         5.5: lambda one: one.mask(2), 6.0: Played.arm},
        spans=[(0.2, 8.0)],
        trains=[(3.9, 4.05), (5.0, 5.1)],
        bundles=(BUNDLES[0], second),
    ).play()  # fmt: skip
    found = replayed(one)
    assert (found.difference, found.notes) == ("", [])
    assert found.would_fire >= 2
    connections = [row.load() for row in told(one) if row.kind == "connection"]
    assert [about["continues"] for about in connections] == [False, goes_on]
    by_window = [row.load() for row in told(one) if row.kind in ("would_fire", "trigger")]
    assert any(row["last_sample"] > connections[1]["first_sample"] for row in by_window)
    altered = [row for row in told(one) if row.kind != "stimulation"]
    assert replayed(one, altered=altered).difference != ""


# What is not as it was


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(
        tmp_path_factory.mktemp("short"),
        signal(8.0),
        {1.6: Played.arm, 4.0: lapse, 6.0: beat, 6.5: lambda one: one.mask(2)},
        spans=[(0.0, 8.0)],
        trains=[(5.7, 6.4)],
        stalls=[5.0],
    ).play()


def alter(rows: list[Row], kind: str, which: int, change: Callable[[dict[str, Any]], None]) -> list[Row]:
    """The rows with one changed, as nobody who knows of seals would do it."""
    place = [index for index, row in enumerate(rows) if row.kind == kind][which]
    fields = rows[place].load()
    change(fields)
    return [*rows[:place], rows[place]._replace(fields=json.dumps(fields)), *rows[place + 1 :]]


def add(name: str, more: float) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields.update({name: fields[name] + more})


def put(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields.update(values)


def nudge(fields: dict[str, Any]) -> None:
    fields["probability"] = float(np.nextafter(fields["probability"], 1.0))


@pytest.mark.parametrize(
    ("kind", "which", "change", "says"),
    [
        ("trigger", 1, nudge, "probability"),
        ("trigger", 0, add("waited_s", 1 / 30_000), "waited_s"),
        ("trigger", -1, add("dwell", 1), "dwell"),
        ("trigger", 1, add("trial", 1), "trial"),
        ("trigger", 1, put(arm="yoked"), "arm 'yoked' in the journal"),
        ("trigger", 0, add("seq", 1), "nothing in the journal, trigger of trial 0 in the replay"),
        ("conditions", 6, put(lease=True), "LEASE"),
        ("conditions", 0, put(device=False), "DEVICE"),
        ("conditions", 0, add("last_sample", -300), "trigger in the journal, inhibited by DWELL"),
        ("conditions", 2, add("last_sample", 30), "which counts another way"),
        ("inhibited", 1, lambda fields: fields.update(UNSETTLED=fields["UNSETTLED"] - 1, DWELL=1), "DWELL 1"),
        ("engine", 1, lambda fields: fields["thresholds"].update(dwell_hops=9), "in the journal"),
        ("engine", 1, add("next_trial", 1), "in the journal"),
        ("stimulation", 0, add("before_sample", 15_000), "PROBABILITY"),
        ("mask", 0, put(masked=[1, 2]), "in the journal"),
        ("transition", 1, add("after_seq", 4), "does not say which window"),
        ("connection", 0, put(hop_s=0.011), "which counts another way"),
    ],
)
def test_one_row_that_was_changed_is_found(
    short: Played, kind: str, which: int, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    assert says in replayed(short, altered=alter(told(short), kind, which, change)).difference


def test_a_trigger_that_was_taken_out_is_found(short: Played) -> None:
    assert replayed(short).difference == ""
    without = [row for row in told(short) if row.kind != "trigger"]
    assert "nothing in the journal, trigger of trial 0 in the replay" in replayed(short, altered=without).difference


def test_one_sample_that_was_changed_is_found(short: Played) -> None:
    """Within the normaliser's second before a trigger, by 2 µV, in one channel of four."""
    kept = Kept(short)
    kept._counts = short.counts.copy()
    kept._counts[70_000, 2] += 8
    assert "probability" in replayed(short, kept).difference


# What a recording does not hold


def test_a_recording_that_ends_early_is_compared_up_to_there(short: Played) -> None:
    found = replayed(short, Kept(short, ended=5.0))
    assert found.difference == ""
    assert found.triggers == 2
    (note,) = found.notes
    assert note == "the recording ends behind prediction 499: nothing after it was compared"


def test_one_that_begins_after_a_pulse_is_refused(session: Played) -> None:
    with pytest.raises(OperatorFault, match=r"begins after prediction [0-9]+, which took from the budgets"):
        replayed(session, Kept(session, began=23.0))


def test_one_that_begins_after_a_shadow_is_compared_from_the_next_stream_on(tmp_path: Path) -> None:
    script = {1.2: Played.shadow, 5.0: lambda one: one.gate.disarm(), 5.5: Played.arm}
    played = Played(tmp_path, signal(8.0), script, spans=[(0.0, 4.0), (4.2, 8.0)]).play()
    whole, part = replayed(played), replayed(played, Kept(played, began=4.1))
    assert whole.difference == part.difference == ""
    assert whole.would_fire >= 1
    assert part.would_fire == 0
    assert whole.triggers == part.triggers >= 1
    assert [note for note in part.notes if "from before the recording: not compared" in note]


@pytest.mark.parametrize("began", [0.1, 3.0])
def test_one_that_holds_no_beginning_is_refused(short: Played, began: float) -> None:
    with pytest.raises(OperatorFault, match=r"holds no sample with which|begins after prediction"):
        replayed(short, Kept(short, began))


def test_a_journal_that_lost_rows_is_compared_up_to_there(short: Played) -> None:
    rows = told(short)
    place = [index for index, row in enumerate(rows) if row.kind == "trigger"][1] + 3
    lost = rows[place]._replace(kind="fault", fields=json.dumps({"reason": "journal_overflow", "rows_lost": 7}))
    found = replayed(short, altered=[*rows[:place], lost, *rows[place:]])
    assert found.difference == ""
    assert found.triggers == 2
    assert found.notes[0].startswith("the journal lost 7 rows there")


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("settings", lambda fields: fields["plan"].update(seed=77), "plan: none that the journal's settings ask for"),
        ("engine", put(limits_sha256="0" * 64), "limits: found none of sha256 000"),
        ("connection", put(mode="evoked"), "evoked mode: nothing fires there"),
        ("connection", lambda fields: fields.pop("first_row_sha256"), "before journals told what a replay needs"),
    ],
)
def test_what_is_not_at_hand_is_named(
    short: Played, kind: str, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    rows = alter(told(short), kind, -1, change)
    with pytest.raises(OperatorFault, match=says):
        replayed(short, altered=rows)


def test_a_plan_that_cannot_be_made_any_more_is_passed_over(short: Played) -> None:
    asked = {"asked": {"plan": {"arms": ["yoked"], "trials_per_arm": 2}}}
    found = replayed(short, altered=alter(told(short), "settings", -1, lambda fields: fields.update(asked)))
    assert (found.difference, found.triggers > 0) == ("", True)


def test_a_defect_of_ours_ends_what_can_be_compared(short: Played) -> None:
    rows = told(short)
    places = [index for index, row in enumerate(rows) if row.kind == "trigger"]
    failed = {"from": "ARMED", "to": "FAULT", "event": "fail", "reason": "the trigger failed: of ours", "after_seq": 0}
    row = rows[places[1] + 3]._replace(kind="transition", fields=json.dumps(failed))
    found = replayed(short, altered=[*rows[: places[1] + 3], row, *rows[places[1] + 3 :]])
    assert found.difference == ""
    assert found.notes[0].startswith("the trigger failed there, by a defect of Phosphene: nothing after prediction")


def test_a_transition_from_another_state_is_found(short: Played) -> None:
    rows = alter(told(short), "transition", 1, put(**{"from": "SHADOW"}))
    assert "found the trigger SHADOW in the journal, ARMING in the replay" in replayed(short, altered=rows).difference


def test_no_such_run(short: Played) -> None:
    with pytest.raises(OperatorFault, match="no run other"):
        read_session(told(short), "other")
    with pytest.raises(OperatorFault, match="no run in it"):
        read_session([])


# As a command, with files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(journal, recording, limits) of a session with a real bundle in `bundles` beside them, recorded as `phosphene
    record --broadband` does."""
    folder = tmp_path_factory.mktemp("files")
    chain = QUICK.to_dict()
    small_bundle(folder / "bundles", participant="P1", chain=chain, chain_sha256=chain_sha256(chain))
    decoder = Bundles(folder / "bundles", precision="float32").open("small")
    played = Played(
        folder, signal(7.0, 3, decoder.n_channels), {1.6: Played.arm, 4.0: lapse, 5.0: beat}, [(0.4, 7.0)],
        bundles=(decoder,), plan=AT_RANDOM,
    ).play()  # fmt: skip
    (folder / "limits.toml").write_text(LIMITS)
    record_nwb(played, folder / "session.nwb", began=0.1)
    return played.path, folder / "session.nwb", folder / "limits.toml"


def record_nwb(played: Played, out: Path, began: float) -> None:
    """What a recorder that joined at `began` writes of the session's samples."""
    first, step = round(began * RATE), 3000
    parts = [
        Chunk(
            played.counts[at : at + step] * np.float32(SCALE_UV),
            at - first,
            SWITCHED_ON + (min(at + step, len(played.counts)) - 1) / RATE,
            SWITCHED_ON + (at + step) / RATE,
        )
        for at in range(first, len(played.counts), step)
    ]
    now = datetime.fromtimestamp(WALL + SWITCHED_ON, UTC), SWITCHED_ON
    scale = np.full(played.info.n_channels, SCALE_UV, np.float32)
    recorder = Recorder(out, played.info, parts[0], now, keep=scale)
    for part in parts:
        recorder.push(part, [])
    recorder.flush()
    recorder.spool.close()
    recover(spool_of(out))


def command(journal: Path, recording: Path, limits: Path, *more: str) -> int:
    bundles = ["--bundles", str(journal.parent / "bundles")]
    return run(["journal", "replay", str(journal), str(recording), "--limits", str(limits), *bundles, *more])


def test_as_a_command(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*files) == 0
    said = capsys.readouterr().out
    assert "equal: each as the journal has it, to the bit" in said
    triggers = int(said.partition(" triggers")[0].rpartition(" ")[2])
    assert triggers >= 1


def test_as_a_command_that_finds_a_difference(
    files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, recording, limits = files
    copy = tmp_path / "copy.nwb"
    shutil.copy(recording, copy)
    with h5py.File(copy, "r+") as file:
        file["acquisition/Broadband/data"][65_000, 3] += 8
    assert command(journal, copy, limits) == 1
    assert "DIFFERENT: prediction" in capsys.readouterr().out


def test_a_bundle_that_is_another_one(
    files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = QUICK.to_dict() | {"clip_uv": 4000.0}
    small_bundle(tmp_path, participant="P1", chain=chain, chain_sha256=chain_sha256(chain))
    assert command(*files, "--bundles", str(tmp_path)) == 2
    assert "which decoded then; name the folder" in capsys.readouterr().err
