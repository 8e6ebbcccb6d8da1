"""Distillation: a student comes to say what its teacher says, on windows it never saw, in a run like any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.bundle import find_bundle, verify
from models.errors import OperatorFault
from models.networks.flops import flops
from models.networks.masked_autoencoder import PRESETS
from models.networks.slow_pooling import Embedder
from models.onnx_decoder import open_bundle
from tests.training.sessions import CHANNELS, small_session
from training.checkpoints import load_encoder
from training.data import Session, open_sessions
from training.distill import digest, distill, train_student
from training.distill_settings import DistillSettings
from training.export import export
from training.pretrain import SETTINGS, train
from training.probe import SAME_SESSIONS, embed, probe
from training.trials import gather

TEACHER = replace(PRESETS["nano"], channels=CHANNELS, sessions=3, patch_bins=32)
STUDENT = replace(PRESETS["nano"], channels=CHANNELS, width=32, depth=1, heads=1, hidden=64, patch_bins=128)
QUICK = DistillSettings(
    steps=300, batch=32, windows=1500, validation_windows=100, validate_every=100, rate=5e-3, warmup_steps=20
)
SHORT = replace(QUICK, steps=6, batch=4, windows=40, validation_windows=8, validate_every=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rest/, stimulated/ and teacher/, a short run."""
    folder = tmp_path_factory.mktemp("distillation")
    for k in range(3):
        small_session(folder / "rest", f"s{k}", date=f"2031-01-0{k + 1}", seed=k)
    small_session(folder / "stimulated", "t0", "2031-02-01", seconds=80, trials=200, seed=9, odds_per_state=4.0)
    settings = replace(SETTINGS["nano"], steps=80, batch=16, rate=3e-3, warmup_steps=20, validate_every=40)
    train(open_sessions([folder / "rest"], folder), folder / "teacher", TEACHER, replace(settings, precision="32-true"))
    return folder


@pytest.fixture(scope="module")
def sessions(folder: Path) -> list[Session]:
    return open_sessions([folder / "rest"], folder)


@pytest.fixture(scope="module")
def student(folder: Path, sessions: list[Session]) -> Path:
    learnt(folder, sessions, folder / "student", QUICK)
    return folder / "student"


def learnt(
    folder: Path, sessions: list[Session], out: Path, settings: DistillSettings, teacher: str = "teacher", **how: object
) -> None:
    encoder, about = load_encoder(folder / teacher)
    settings = replace(settings, teacher=digest(folder / teacher))
    train_student(encoder, about, sessions, out, STUDENT, settings, **how)


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_its_loss_falls_and_what_it_says_follows_its_teacher_on_other_windows(folder: Path, student: Path):
    first, *_, last = lines(student)
    assert last["held_out"] < first["held_out"]
    assert last["explained"] > 0.8
    assert last["held_out_cosine"] > 0.8
    trials = gather(open_sessions([folder / "stimulated"], folder)[0], "prestimulus", 128)  # of another day
    said, wanted = (embed(Embedder(load_encoder(folder / name)[0]).eval(), trials) for name in ("student", "teacher"))
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(said.T, wanted.T, strict=True)]
    assert np.median(correlation) > 0.9
    assert np.abs(said.mean(0) - wanted.mean(0)).max() < 0.3 * wanted.std()  # in the teacher's units, not in its own


def test_it_is_small_and_has_the_teachers_width(folder: Path, student: Path):
    encoder, about = load_encoder(student)
    assert encoder.config.latent_width == TEACHER.width
    assert about["flops"] == flops(encoder.config) < about["teacher"]["flops"] / 20
    assert about["teacher"]["flops"] == flops(TEACHER)
    assert about["sessions"]["names"] == ["s0", "s1", "s2"]
    assert about["sessions"]["dates"] == load_encoder(folder / "teacher")[1]["sessions"]["dates"]


def test_probe_and_export_take_it_and_the_bundle_holds_its_parity(folder: Path, student: Path, tmp_path: Path):
    probe(student, [folder / "stimulated"], tmp_path / "probes", pooling="mean")
    found = json.loads((tmp_path / "probes" / "probes.json").read_text())["probes"]["prestimulus"]["metrics"]
    assert found[SAME_SESSIONS]["probe"]["interval"][0] > 0.55
    export(student, tmp_path / "probes", tmp_path, "small", "tester")
    manifest = verify(find_bundle(tmp_path, "small")).manifest
    assert manifest.embedding_size == TEACHER.width
    assert manifest.provenance["parity"]["model.onnx"]["prestimulus"] < 1e-5
    assert manifest.provenance["pretraining"]["teacher"]["network"]["depth"] == TEACHER.depth
    assert open_bundle(find_bundle(tmp_path, "small"), precision="float32").n_channels == CHANNELS


@pytest.mark.parametrize("settings", [SHORT, replace(SHORT, electrode_dropout=0.3)])
@pytest.mark.parametrize("stop_at", [3, 4])
def test_resume_is_bit_equal(
    folder: Path, sessions: list[Session], tmp_path: Path, settings: DistillSettings, stop_at: int
):
    learnt(folder, sessions, tmp_path / "straight", settings)
    learnt(folder, sessions, tmp_path / "ended", settings, stop_at=stop_at)
    (kept,) = (file for file in (tmp_path / "ended").glob("teacher-*.npy") if np.load(file).shape[0] == SHORT.windows)
    asked = np.load(kept)
    lost = asked.copy()
    lost[17:] = np.nan  # as if it had been killed while the teacher read
    np.save(kept, lost)
    learnt(folder, sessions, tmp_path / "ended", settings, resume=True)
    assert np.array_equal(np.load(kept), asked)
    for file in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(tmp_path / "straight" / file), load_file(tmp_path / "ended" / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert lines(tmp_path / "straight") == lines(tmp_path / "ended")


def test_what_a_student_does_not_see_its_teacher_does(folder: Path, sessions: list[Session], tmp_path: Path):
    """Hidden electrodes: the target stays that of the whole array, so it differs from run to run in nothing."""
    learnt(folder, sessions, tmp_path / "all", SHORT)
    learnt(folder, sessions, tmp_path / "some", replace(SHORT, electrode_dropout=0.5))
    names = sorted(file.name for file in (tmp_path / "all").glob("teacher-*.npy"))
    assert names == sorted(file.name for file in (tmp_path / "some").glob("teacher-*.npy"))
    assert lines(tmp_path / "all")[0]["training"] != lines(tmp_path / "some")[0]["training"]


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command(folder: Path, tmp_path: Path):
    chosen = tmp_path / "settings.toml"
    chosen.write_text("[distillation]\nbatch = 4\nwindows = 20\nvalidation_windows = 8\n[network]\ndepth = 1\n")
    distill(folder / "teacher", [folder / "rest"], tmp_path / "run", "ci", steps=2, settings_file=chosen)
    encoder, about = load_encoder(tmp_path / "run")
    assert (encoder.config.width, encoder.config.depth, encoder.config.latent_width) == (64, 1, 64)
    assert about["distillation"]["teacher"] == digest(folder / "teacher")
    distill(folder / "teacher", [folder / "rest"], tmp_path / "run", "ci", resume=True)  # done already: nothing moves
    with pytest.raises(OperatorFault, match="holds a run already"):
        distill(folder / "teacher", [folder / "rest"], tmp_path / "run", "ci")


def test_another_teacher_is_not_gone_on_with(folder: Path, sessions: list[Session], tmp_path: Path):
    learnt(folder, sessions, tmp_path / "run", SHORT, stop_at=3)
    other = replace(SETTINGS["nano"], steps=1, batch=4, validation_windows=8, seed=1)
    train(sessions, tmp_path / "other", TEACHER, other)
    with pytest.raises(OperatorFault, match=r"other settings or sessions: found \[distillation\] teacher"):
        learnt(tmp_path, sessions, tmp_path / "run", SHORT, teacher="other", resume=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[distillation]\nwidnows = 3", "widnows"),
        ("[distillation]\nwindows = 0", "windows = 0, expected 1 or more"),
        ('[distillation]\noptimizer = "sgd"', "optimizer = 'sgd', expected one of"),
        ('[distillation]\nprecision = "16-true"', "precision = '16-true', expected one of"),
        ("[distillation]\nelectrode_dropout = 1.0", "expected a share below 1"),
        ("[network]\nbins = 256", "found bins = 256, expected the teacher's 128"),
        ("[training]\nsteps = 1", "expected tables of network, distillation"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder: Path, tmp_path: Path, text: str, says: str):
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(OperatorFault, match=says):
        distill(folder / "teacher", [folder / "rest"], tmp_path / "run", "ci", settings_file=tmp_path / "settings.toml")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_teachers_of_others_are_refused(folder: Path, tmp_path: Path):
    chain = small_session(tmp_path / "other", participant="another").header.chain
    small_session(tmp_path / "sharper", chain=chain | {"clip_uv": 1.0})
    labels = tuple(f"e{k}" for k in range(CHANNELS))
    small_session(tmp_path / "renamed", labels=labels)
    for name, says in (("other", "participant another"), ("sharper", "signal chain"), ("renamed", "channel map")):
        with pytest.raises(OperatorFault, match=says):
            distill(folder / "teacher", [tmp_path / name], tmp_path / "run", "ci")
    with pytest.raises(OperatorFault, match="is not a checkpoint"):
        distill(tmp_path / "nothing", [folder / "rest"], tmp_path / "run", "ci")
    with pytest.raises(OperatorFault, match="there are: paper"):
        distill(folder / "teacher", [folder / "rest"], tmp_path / "run", "huge")
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_sessions_of_another_normaliser_are_refused(folder: Path, tmp_path: Path):
    chain = open_sessions([folder / "rest"], folder)[0].header.chain
    other = chain["normaliser"] | {"window_s": 3.0}
    small_session(tmp_path / "cached", chain=chain | {"normaliser": other})
    with pytest.raises(OperatorFault, match="was made by a normaliser rolling_z of other settings"):
        distill(folder / "teacher", [tmp_path / "cached"], tmp_path / "run", "ci")
