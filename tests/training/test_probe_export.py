"""From a checkpoint to a running bundle, as the command line does it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import find_bundle, verify
from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS, pool
from models.networks.slow_pooling import Embedder, Slow
from models.onnx_decoder import open_bundle
from models.providers import RUNS
from tests.training.sessions import CHANNELS, small_session
from training.data import open_sessions
from training.export import export, export_bundle
from training.heads import replace_heads, weights_of
from training.pretrain import SETTINGS, load_encoder, train
from training.probe import SAME_SESSIONS, embed, fit_probes, gather, probe, rarely_usable
from training.readout import balanced_accuracy
from training.trials import fewer_electrodes

NETWORK = replace(PRESETS["nano"], channels=CHANNELS, sessions=2)
QUICK = replace(SETTINGS["nano"], steps=80, batch=16, rate=3e-3, warmup_steps=20, validate_every=40, seed=0)
QUICK = replace(QUICK, precision="32-true")
SLOW = 0.9995  # 2 s, so that the state outlasts the second between two windows of a pair


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/, rest/, run/, probes/ and repository/ of one walk along the line."""
    folder = tmp_path_factory.mktemp("line")
    for k in range(2):
        small_session(folder / "data", f"s{k}", seconds=80, trials=200, seed=k, odds_per_state=4.0, memory=SLOW)
    small_session(folder / "rest", "rest", seconds=60, seed=9, memory=SLOW)
    train(open_sessions([folder / "data"], folder), folder / "run", NETWORK, QUICK)
    probe(folder / "run", [folder / "data", folder / "rest"], folder / "probes")
    export(folder / "run", folder / "probes", folder / "repository", "mine", "tester")
    return folder


def metrics(line: Path, name: str = "prestimulus") -> dict:
    return json.loads((line / "probes" / "probes.json").read_text())["probes"][name]["metrics"][SAME_SESSIONS]


def test_the_probe_decodes_and_stands_beside_its_baselines(line: Path):
    found = metrics(line)
    assert found["probe"]["interval"][0] > 0.6
    assert found["permuted_labels"]["interval"][0] < 0.5 < found["permuted_labels"]["interval"][1]
    rivals = {"raw_mua", "principal_components", "untrained_encoder", "stimulus_only", "mean_pooling", "statistics"}
    assert rivals <= found.keys()
    assert abs(found["gain_over_electrodes_lost"]["balanced_accuracy"]) < 0.1  # one of twelve
    gain = found["gain_over_stimulus_only"]
    assert gain["interval"][0] > 0
    assert gain["balanced_accuracy"] == pytest.approx(
        found["probe"]["balanced_accuracy"] - found["stimulus_only"]["balanced_accuracy"]
    )
    assert "state_observer" not in found  # nobody told the truth about these trials
    assert found["stimulus_only"]["interval"][0] <= 0.5  # labels owe nothing to electrode and current here
    assert found["probe"]["trials"] == 80  # the last fifth of each session


def test_the_bundle_is_the_probe(line: Path):
    """The running bundle gives the probabilities that the probe was tested with."""
    bundle = verify(find_bundle(line / "repository", "mine"))
    manifest = bundle.manifest
    assert (manifest.participant, manifest.full_name) == ("tester", "mine@1")
    assert manifest.probes["prestimulus"].window == (-128, 0)
    assert manifest.probes["evoked"].window == (170, 298)
    assert manifest.provenance["parity"]["model.onnx"]["prestimulus"] < 1e-5
    assert (manifest.read, manifest.embedding_size) == (4, 4 + NETWORK.width)
    encoder, _ = load_encoder(line / "run")
    with np.load(line / "probes" / "pooling.npz") as pooling:
        embedder = Embedder(encoder, Slow.of(dict(pooling))).eval()
    stored = json.loads((line / "probes" / "probes.json").read_text())["probes"]["prestimulus"]
    assert not any(stored["weight"][4:])  # the mean of the tokens is there for others
    trials = gather(open_sessions([line / "data"], line)[0], "prestimulus", 128)
    expected = 1 / (1 + np.exp(-(embed(embedder, trials) @ np.array(stored["weight"]) + stored["bias"])))
    running = open_bundle(bundle.path)
    found = [running.step(w, u).prestimulus for w, u in zip(trials.windows, trials.usable, strict=True)]
    tolerance = manifest.precisions[running.precision].probability_tolerance
    assert np.abs(found - expected).max() < 2 * tolerance
    assert balanced_accuracy(trials.perceived, np.array(found) > stored["prevalence"]) > 0.6


def test_each_precision_says_what_it_decodes(line: Path):
    bundle = find_bundle(line / "repository", "mine")
    manifest = verify(bundle).manifest
    assert list(manifest.precisions) == ["float32", "float16", "bfloat16", "int8"]
    tested = metrics(line)["probe"]
    for name, one in manifest.precisions.items():
        found = one.metrics["prestimulus"]
        assert found["trials"] == tested["trials"]
        assert abs(found["balanced_accuracy"] - tested["balanced_accuracy"]) < 0.05
        assert one.emulated == (name == "bfloat16")
        if not one.emulated:
            assert open_bundle(bundle, precision=name).precision == name
    assert "| float16 | " in (bundle / "card.md").read_text()


def test_large_weights_lie_beside_the_model_and_decode_the_same(
    line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As the paper's encoder is exported."""
    monkeypatch.setattr("training.export.LARGEST", 100_000)
    bundle = export_bundle(line / "run", line / "probes", tmp_path, "mine", "tester")
    manifest = verify(bundle).manifest
    assert {name: one.weights for name, one in manifest.precisions.items()} == {
        "float32": "model.weights",
        "float16": "model.float16.weights",
        "bfloat16": "model.bfloat16.weights",
        "int8": "model.int8.weights",
    }
    whole = find_bundle(line / "repository", "mine")
    trials = gather(open_sessions([line / "data"], line)[0], "prestimulus", 128)
    for precision in RUNS["cpu"]:
        one, other = open_bundle(bundle, precision=precision), open_bundle(whole, precision=precision)
        for window, usable in zip(trials.windows[:5], trials.usable[:5], strict=True):
            assert one.step(window, usable).prestimulus == other.step(window, usable).prestimulus
    model = verify(bundle).files["model.onnx"]
    assert len(model) < 0.5 * len(verify(whole).files["model.onnx"])
    assert set(weights_of(model)) == {"prestimulus", "evoked"}, "probes stay in the model, so that they can be replaced"


def test_a_precision_that_decodes_worse_is_left_out_and_said(
    line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def backwards(model: bytes, *_: object) -> bytes:
        return replace_heads(model, {name: (-weight, 0.0) for name, weight in weights_of(model).items()})

    monkeypatch.setattr("training.export.quantize_int8", backwards)
    export(line / "run", line / "probes", tmp_path, "mine", "tester")
    assert "int8 is not written: on 80 held-out trials its prestimulus probe differs" in capsys.readouterr().out
    manifest = verify(find_bundle(tmp_path, "mine")).manifest
    assert list(manifest.precisions) == ["float32", "float16", "bfloat16"]
    assert "held-out trials" in manifest.provenance["precisions_not_written"]["int8"]
    assert open_bundle(find_bundle(tmp_path, "mine")).precision == "float32"
    with pytest.raises(OperatorFault, match="has no int8 model; it has bfloat16, float16, float32"):
        open_bundle(find_bundle(tmp_path, "mine"), precision="int8")


def test_probes_without_held_out_trials_are_refused(line: Path, tmp_path: Path):
    shutil.copytree(line / "probes", tmp_path / "probes")
    (tmp_path / "probes" / "held_out.npz").unlink()
    with pytest.raises(OperatorFault, match="held-out trials that each precision is judged by"):
        export(line / "run", tmp_path / "probes", tmp_path / "repository", "mine", "tester")


def test_golden_windows_lose_channels_one_after_the_other(line: Path):
    golden = verify(find_bundle(line / "repository", "mine")).golden()
    assert golden.usable.all(axis=1).any()
    assert not golden.usable.all()


def test_channels_that_were_mostly_not_usable_are_masked(line: Path, tmp_path: Path):
    sessions = open_sessions([line / "data"], line)
    assert rarely_usable(sessions) == []
    lost = np.array(sessions[0].usable)  # 80 s of it, and as much of the other session
    lost[:, 2] = lost[:, 5] = False
    first = replace(sessions[0], usable=lost)
    assert rarely_usable([first, sessions[1]]) == []  # just half
    less = np.array(sessions[1].usable)
    less[:100, 2] = False
    assert rarely_usable([first, replace(sessions[1], usable=less)]) == [3]
    less[:60_000] = False  # a pause counts against no channel
    assert rarely_usable([replace(sessions[1], usable=less)]) == []
    shutil.copytree(line / "probes", tmp_path / "probes")
    stored = json.loads((tmp_path / "probes" / "probes.json").read_text())
    assert stored["masked"] == []
    (tmp_path / "probes" / "probes.json").write_text(json.dumps(stored | {"masked": [3, 6]}))
    export(line / "run", tmp_path / "probes", tmp_path / "repository", "mine", "tester")
    assert verify(find_bundle(tmp_path / "repository", "mine")).manifest.array.masked == (3, 6)


def test_an_older_bundle_is_scored_on_the_same_trials(line: Path):
    """The bundle of these very probes: nothing is won over it."""
    encoder, _ = load_encoder(line / "run")
    with np.load(line / "probes" / "pooling.npz") as pooling:
        embedder = Embedder(encoder, Slow.of(dict(pooling))).eval()
    older = open_bundle(find_bundle(line / "repository", "mine"), precision="float32")
    fitted = fit_probes(embedder, open_sessions([line / "data"], line), {}, None, older)
    for one in fitted.values():
        found = one.metrics[SAME_SESSIONS]
        assert found["older"]["brier"] == pytest.approx(found["probe"]["brier"], abs=1e-4)
        assert found["gain_over_older"]["balanced_accuracy"] == pytest.approx(0, abs=0.02)


def test_a_tenth_of_the_electrodes_is_ten_of_96_others_in_each_trial():
    fewer = fewer_electrodes(np.ones((50, 96), bool))
    assert (fewer.sum(axis=1) == 86).all()
    assert len({row.tobytes() for row in fewer}) == 50


def test_the_paper_s_pooling_is_a_matter_of_asking(line: Path, tmp_path: Path):
    probe(line / "run", [line / "data"], tmp_path / "probes", pooling="mean")
    export(line / "run", tmp_path / "probes", tmp_path / "repository", "plain", "tester")
    bundle = verify(find_bundle(tmp_path / "repository", "plain"))
    assert (bundle.manifest.read, bundle.manifest.embedding_size) == (None, NETWORK.width)
    encoder, _ = load_encoder(line / "run")
    golden = bundle.golden()
    with torch.no_grad():
        mean = pool(*encoder(torch.from_numpy(golden.windows), torch.from_numpy(golden.usable))).numpy()
    np.testing.assert_allclose(golden.embedding, mean, atol=1e-5)
    # what follows the slow directions in the other bundle is the same mean
    slow = verify(find_bundle(line / "repository", "mine")).golden()
    np.testing.assert_allclose(slow.embedding[:, 4:], mean, atol=1e-5)
    stored = json.loads((tmp_path / "probes" / "probes.json").read_text())["probes"]["prestimulus"]["metrics"]
    assert "statistics" not in stored[SAME_SESSIONS]  # it, too, would have to be learned from rest


def test_without_rest_there_is_nothing_slow_to_learn(line: Path, tmp_path: Path):
    with pytest.raises(OperatorFault, match="found 0 s of rest, expected at least 30 s"):
        probe(line / "run", [line / "data"], tmp_path)  # a stimulation every 0.4 s
    with pytest.raises(OperatorFault, match="no pooling 'fast'; there are: slow, mean"):
        probe(line / "run", [line / "data"], tmp_path, pooling="fast")
    shutil.copytree(line / "probes", tmp_path / "probes")
    (tmp_path / "probes" / "pooling.npz").unlink()
    with pytest.raises(OperatorFault, match="does not hold the output"):
        export(line / "run", tmp_path / "probes", tmp_path, "mine", "tester")


def test_next_export_is_the_next_version(line: Path):
    export(line / "run", line / "probes", line / "repository", "again", "tester")
    export(line / "run", line / "probes", line / "repository", "again", "tester")
    assert find_bundle(line / "repository", "again").name == "2"


def test_whose_bundle_is_not_up_for_choice(line: Path, tmp_path: Path):
    with pytest.raises(OperatorFault, match="fitted to participant 'tester', not 'somebody'"):
        export(line / "run", line / "probes", tmp_path, "mine", "somebody")
    with pytest.raises(OperatorFault, match="does not hold the output"):
        export(line / "run", tmp_path, tmp_path, "mine", "tester")
    train(open_sessions([line / "data"], line), tmp_path / "other", NETWORK, replace(QUICK, steps=1, seed=1))
    with pytest.raises(OperatorFault, match="another checkpoint"):
        export(tmp_path / "other", line / "probes", tmp_path, "mine", "tester")


def test_probes_of_another_participant_are_refused(line: Path, tmp_path: Path):
    small_session(tmp_path, trials=50, participant="another")
    with pytest.raises(OperatorFault, match="participant another"):
        probe(line / "run", [tmp_path], tmp_path / "probes")


def test_too_few_trials_are_refused(line: Path, tmp_path: Path):
    small_session(tmp_path / "rest")
    with pytest.raises(OperatorFault, match="no session has a trials table"):
        probe(line / "run", [tmp_path / "rest"], tmp_path / "probes")
    small_session(tmp_path / "few", trials=12)
    with pytest.raises(OperatorFault, match="a probe needs 40"):
        probe(line / "run", [tmp_path / "few"], tmp_path / "probes", pooling="mean")


def test_trials_over_lost_bins_are_rejected_and_counted(tmp_path: Path):
    session = small_session(tmp_path, trials=20)
    first = session.trial_bins("prestimulus", 128)
    usable = np.array(session.usable)
    usable[first[3] + 10] = False
    usable[first[5] : first[5] + 128, : CHANNELS // 2] = False
    trials = gather(replace(session, usable=usable), "prestimulus", 128)
    assert trials.rejected == 2
    assert len(trials) == 18


def test_prestimulus_windows_end_before_the_artifact(tmp_path: Path):
    session = small_session(tmp_path, trials=20)
    onsets = np.array([trial.onset_s for trial in session.header.trials])
    ends = session.trial_bins("prestimulus", 128) + 128
    assert (ends / 1000 <= onsets - 0.0005 + 1e-9).all()
    assert (ends / 1000 > onsets - 0.0016).all()
    assert np.array_equal(session.trial_bins("evoked", 128), np.rint(onsets * 1000) + 170)
