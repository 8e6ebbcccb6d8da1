"""A scientist's own sessions and checkpoint: cut for the table, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import OperatorFault, RigFault
from models.networks.masked_autoencoder import PRESETS
from tests.training.sessions import CHANNELS, small_session
from training.data import Session, Trial, open_sessions, write_session
from training.evaluation.recorded import protocol_of, recorded
from training.evaluation.rest import read
from training.evaluation.settings import Measures
from training.pretrain import SETTINGS, train

NETWORK = replace(PRESETS["nano"], channels=CHANNELS, sessions=2)
QUICK = replace(SETTINGS["nano"], steps=2, batch=4, validate_every=2, validation_windows=8, precision="32-true")
MEASURES = Measures(labels=(50,), draws=1, permutations=2, components=8, rest_windows=60, held_out_windows=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rest/ and run/, which was pretrained on it; trials/: four sessions with answers, on later days."""
    folder = tmp_path_factory.mktemp("recorded")
    for k in range(2):
        small_session(folder / "rest", f"rest-{k}", date=f"2031-01-0{k + 1}", seed=k)
    train(open_sessions([folder / "rest"], folder), folder / "run", NETWORK, QUICK)
    for k in range(4):
        small_session(folder / "trials", f"t{k}", date=f"2031-02-0{k + 1}", seconds=60, trials=60, seed=10 + k)
    return folder


def made(folder: Path, cache: Path, data: list[Path] | None = None, new: tuple[Path, ...] = (), **given: object):
    rest = [folder / "rest"] if given.pop("rest", True) else []
    return recorded(folder / "run", data or [folder / "trials"], list(new), rest, MEASURES, cache, **given)


def test_everything_is_cut_and_new_sessions_are_only_tested_on(folder: Path, tmp_path: Path):
    trials = folder / "trials"
    work = made(folder, tmp_path, [trials / f"t{k}" for k in range(3)], (trials / "t3",))
    seen, layout = work.subject().load(("threshold", "prestimulus"))
    assert set(seen.trials.session) == {"t0", "t1", "t2", "t3"}
    assert set(seen.trials.session[layout.training]) == {"t0", "t1", "t2"}
    assert set(seen.trials.session[layout.new]) == {"t3"}
    assert len(layout.training) == 3 * 48
    assert seen.observers == {}  # nobody knows the truth about a recording
    names = [step.words for step in work.steps()]
    assert names.index("encoder") < names.index("resting: mae") < names.index("fits: mae")


def test_without_resting_sessions_what_lies_between_stimuli_is_rest(folder: Path, tmp_path: Path):
    sparse = small_session(tmp_path / "sparse", "sparse", date="2031-03-01", seconds=300, trials=60, seed=3)
    work = made(folder, tmp_path, [tmp_path / "sparse"], rest=False)
    found = read(work.subject().rest)
    assert len(found.first) > 20
    bins = np.asarray(sparse.stored)
    onsets = [round(trial.onset_s * 1000) for trial in sparse.header.trials]
    for window in found.windows[:10].astype(np.float32):  # each is somewhere, and no stimulus came before its end
        at = [k for k in range(len(bins) - 128) if abs(bins[k, 0] - window[0, 0]) < 2e-3]
        at = [k for k in at if np.allclose(bins[k : k + 128].T, window, atol=2e-2)]
        assert len(at) == 1
        assert not any(at[0] - 1200 < onset < at[0] + 128 for onset in onsets)


@pytest.mark.parametrize(
    ("currents", "protocol"),
    [((10.0,), "threshold"), ((10.0, 20.0), "threshold"), ((2.4, 14.0, 81.0), "psychometric")],
)
def test_currents_tell_the_protocol(tmp_path: Path, currents: tuple[float, ...], protocol: str):
    trials = tuple(Trial(1.0 + k, 1, current, True) for k, current in enumerate(currents))
    session = small_session(tmp_path, seconds=2)
    assert protocol_of(Session(replace(session.header, trials=trials), session.stored, session.usable)) == protocol


def all_seen(folder: Path, tmp_path: Path) -> dict[str, object]:
    """Every answer yes."""
    one = small_session(tmp_path / "told", "yes", date="2031-03-01", seconds=60, trials=60)
    yes = tuple(replace(trial, perceived=True) for trial in one.header.trials)
    write_session(tmp_path / "yes", replace(one.header, trials=yes), np.asarray(one.stored), np.asarray(one.usable))
    return {"data": [tmp_path / "yes"]}


def few(folder: Path, tmp_path: Path) -> dict[str, object]:
    small_session(tmp_path / "few", "few", date="2031-03-01", seconds=20, trials=4)
    return {"data": [tmp_path / "few"]}


def silent(folder: Path, tmp_path: Path) -> dict[str, object]:
    small_session(tmp_path / "silent", "silent", date="2031-03-01")
    return {"data": [tmp_path / "silent"]}


def seen_before(folder: Path, tmp_path: Path) -> dict[str, object]:
    small_session(tmp_path / "seen", "rest-1", date="2031-03-01", seconds=60, trials=60)
    return {"data": [tmp_path / "seen"]}


def too_early(folder: Path, tmp_path: Path) -> dict[str, object]:
    small_session(tmp_path / "early", "early", date="2031-01-02", seconds=60, trials=60)
    return {"data": [tmp_path / "early"]}


def somebody_else(folder: Path, tmp_path: Path) -> dict[str, object]:
    small_session(tmp_path / "else", "else", date="2031-03-01", seconds=60, trials=60, participant="another")
    return {"data": [tmp_path / "else"]}


def no_rest(folder: Path, tmp_path: Path) -> dict[str, object]:
    return {"controls": True, "rest": False}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (all_seen, ["of them perceived", "of either answer"]),
        (few, ["found 3 trials", "record more trials"]),
        (silent, ["no session has a trials table"]),
        (seen_before, ["rest-1", "pretrained on"]),
        (too_early, ["2031-01-02", "training range", "--same-dates"]),
        (somebody_else, ["another"]),
        (no_rest, ["resting sessions"]),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(
    folder: Path, tmp_path: Path, bad: Callable[[Path, Path], dict[str, object]], words: list[str]
):
    with pytest.raises((OperatorFault, RigFault)) as fault:
        made(folder, tmp_path / "cache", **bad(folder, tmp_path))
    message = str(fault.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_an_earlier_date_can_be_allowed(folder: Path, tmp_path: Path):
    given = too_early(folder, tmp_path)
    assert made(folder, tmp_path / "cache", same_dates=True, **given).subject().questions
