"""Calibration: the probes that are written are those that were fitted, scored on trials they never saw, or nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from models.bundle import find_bundle, verify, versions
from models.errors import OperatorFault, RigFault
from models.onnx_decoder import open_bundle
from server.bundles import Bundles
from server.cli import EXTRAS, run
from streaming.chunk import ArrayMap, StreamInfo
from streaming.events import Marker, Report, Stimulation
from streaming.signal.settings import ChainSettings
from tests.models.bundles import CHANNELS, small_bundle
from tests.training.sessions import small_session
from training.calibrate import BLOCKS, LATER, calibrate
from training.calibration_table import show
from training.data import cached, read_session
from training.heads import weights_of
from training.mua_file import DATA, finish, lay_out
from training.readout import fit
from training.trials import gather

LABELS = tuple(f"elec{i + 1}" for i in range(CHANNELS))
CHAIN = ChainSettings()


@dataclass
class Made:
    """As much of a recording as the writer of MUA asks for."""

    info: StreamInfo
    markers: list[tuple[int, Marker]]
    began: datetime
    start_s: float = 0.0
    trials: Any = None
    stretches: list[Any] = field(default_factory=list)


def recording(
    folder: Path,
    name: str = "a",
    trials: int = 100,
    seed: int = 0,
    told: bool | None = None,
    participant: str | None = "tester",
    labels: tuple[str, ...] = LABELS,
    rate_hz: float = 30000.0,
    chain: ChainSettings = CHAIN,
) -> Path:
    """NWB of MUA: 12 channels that hear a state, and trials that depend on it. `told` is everybody's answer."""
    session = small_session(folder / "cache", name, seconds=10 + 0.4 * trials, trials=trials, seed=seed)
    markers: list[tuple[int, Marker]] = []
    for k, one in enumerate(session.header.trials):
        at = round(one.onset_s * rate_hz)
        markers.append((at, Stimulation(k, one.electrode, one.current_ua, 0.01)))
        markers.append((at + 3000, Report(k, one.perceived if told is None else told)))
    info = StreamInfo("live", "UtahArray", rate_hz, ArrayMap(labels), participant, name)
    path = folder / f"{name}.nwb"
    lay_out(path, path, Made(info, markers, datetime(2031, 1, 1, 9, tzinfo=UTC)), len(session.z), chain)  # type: ignore[arg-type]
    with h5py.File(path, "r+") as file:
        file[DATA][:] = 20 + 4 * session.z
    finish(path, 0.0, [(0, 50)], np.ones(CHANNELS))
    return path


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with small@1: random encoder, random probes, fitted to somebody else."""
    folder = tmp_path_factory.mktemp("bundles")
    small_bundle(folder, participant="another", chain=CHAIN.to_dict(), chain_sha256=CHAIN.sha256())
    return folder


def test_how_the_input_usually_is_travels_in_the_bundle(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = recording(tmp_path, trials=50)
    found = calibrate([one], "small", parent, tmp_path / "out")
    assert found.drift is None
    assert verify(found.bundle).manifest.drift is None
    show(found)
    assert "drift: not measured" in capsys.readouterr().out
    monkeypatch.setattr("training.drift_reference.OVER_S", 1.0)
    found = calibrate([one], "small", parent, tmp_path / "long")
    kept = verify(found.bundle).manifest.drift
    assert kept is not None
    assert kept == found.drift
    assert (len(kept.mua.mean), len(kept.embedding.mean)) == (CHANNELS, 64)


def test_new_probes_read_what_the_old_ones_read(tmp_path: Path) -> None:
    small_bundle(tmp_path / "bundles", chain=CHAIN.to_dict(), chain_sha256=CHAIN.sha256(), read=32)
    found = calibrate([recording(tmp_path, trials=300)], "small", tmp_path / "bundles", tmp_path / "out")
    bundle = verify(found.bundle)
    assert (bundle.manifest.read, bundle.manifest.embedding_size) == (32, 64)
    weights = weights_of(bundle.files["model.onnx"])
    assert set(weights) == {"prestimulus", "evoked"}
    for weight in weights.values():
        assert weight[:32].all()
        assert not weight[32:].any()


def test_many_trials_end_to_end(parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, trials=300)
    found = calibrate([path], "small", parent, tmp_path / "out")
    assert found.bundle == tmp_path / "out" / "small" / "2"
    assert find_bundle(tmp_path / "out", "small") == found.bundle
    manifest = Bundles(tmp_path / "out").open("small@2").manifest
    assert (manifest.participant, manifest.array.labels) == ("tester", LABELS)
    assert manifest.probes["prestimulus"].window == (-128, 0)
    assert manifest.probes["evoked"].window == (170, 298)
    assert manifest.provenance["calibrated_from"]["manifest_sha256"] == found.parent.manifest_sha256
    assert [one["file"] for one in manifest.provenance["recordings"]] == ["a.nwb"]
    assert found.probes["prestimulus"].how == LATER

    metrics = found.probes["prestimulus"].metrics
    assert metrics["probe"]["interval"][0] > 0.5
    assert metrics["probe"]["trials"] == metrics["parent"]["trials"] == metrics["stimulus_only"]["trials"] == 59
    assert metrics["chance"]["interval"][0] < 0.5 < metrics["chance"]["interval"][1]
    assert metrics["gain_over_parent"]["balanced_accuracy"] == pytest.approx(
        metrics["probe"]["balanced_accuracy"] - metrics["parent"]["balanced_accuracy"]
    )

    # the running bundle gives what was fitted, on the encoder that was there
    old, new = open_bundle(find_bundle(parent, "small"), precision="float32"), open_bundle(found.bundle)
    exact = open_bundle(found.bundle, precision="float32")
    trials = gather(read_session(cached(path, tmp_path / "cache")), "prestimulus", 128)
    for window, usable in zip(trials.windows[:20], trials.usable[:20], strict=True):
        before, now = old.step(window, usable), exact.step(window, usable)
        np.testing.assert_array_equal(before.embedding, now.embedding)
        fitted = found.probes["prestimulus"].readout.probability(before.embedding.astype(np.float64)[None])
        assert now.prestimulus == pytest.approx(float(fitted[0]), abs=1e-5)
        assert new.step(window, usable).prestimulus == pytest.approx(float(fitted[0]), abs=0.05)
    assert "new probe" in (found.bundle / "card.md").read_text()

    # and once more from the command line, on top of it
    assert run(["calibrate", str(path), "--model", "small", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "small@2 was itself fitted to some of these trials" in out
    assert "POST /v1/models/small@3/activate" in out
    assert versions(tmp_path / "out", "small") == [2, 3]


def test_few_trials_are_scored_in_blocks_of_time(parent: Path, tmp_path: Path) -> None:
    """Two recordings of a morning, which do not say whose it was; the operator does."""
    paths = [recording(tmp_path, name, trials=26, seed=k, participant=None) for k, name in enumerate("ab")]
    found = calibrate(paths, "small@1", parent, tmp_path / "out", "P7")
    assert {one.how for one in found.probes.values()} == {BLOCKS}
    metrics = found.probes["prestimulus"].metrics
    assert metrics["probe"]["trials"] == len(found.probes["prestimulus"].trials) == 48
    assert metrics["rejected_trials"] == 4  # the normaliser had not heard enough yet
    assert open_bundle(found.bundle).manifest.participant == "P7"
    assert not found.seen_before


def test_an_anchor_is_kept_where_trials_are_few_and_left_where_they_are_many() -> None:
    rng = np.random.default_rng(0)
    truth, other = np.eye(40)[:2]
    scale = np.linspace(0.5, 3, 40)
    z = rng.standard_normal((1500, 40))
    labels = rng.random(1500) < 1 / (1 + np.exp(-2 * z[:, 0]))

    def towards_truth(n: int, anchor: np.ndarray | None) -> float:
        weight = fit(z[:n] * scale, labels[:n], anchor=anchor).weight * scale
        return float(weight[0] / np.linalg.norm(weight))

    assert towards_truth(50, truth) > 0.95
    assert towards_truth(50, None) < 0.8
    assert towards_truth(1500, other) > 0.9


@dataclass(frozen=True)
class Bad:
    word: str
    make: Any
    participant: str | None = None


BAD = {
    "too few": Bad("11 trials with a whole window", lambda f: [recording(f, trials=12)]),
    "one answer": Bad("98 of them perceived", lambda f: [recording(f, told=True)]),
    "no trials": Bad("0 trials with a whole window", lambda f: [recording(f, trials=0)]),
    "not there": Bad("no such file", lambda f: [f / "none.nwb"]),
    "twice": Bad("named twice", lambda f: [recording(f)] * 2),
    "participants": Bad(
        "another array or participant", lambda f: [recording(f), recording(f, "b", seed=1, participant="P2")]
    ),
    "arrays": Bad(
        "another array or participant", lambda f: [recording(f), recording(f, "b", seed=1, labels=LABELS[::-1])]
    ),
    "map": Bad("channels of its array", lambda f: [recording(f, labels=LABELS[::-1])]),
    "rate": Bad("fitted at 30000 Hz", lambda f: [recording(f, rate_hz=24000.0)]),
    "nobody": Bad("say --participant", lambda f: [recording(f, participant=None)]),
    "somebody else": Bad("of participant 'tester', not of 'P2'", lambda f: [recording(f)], "P2"),
    "chain": Bad("another signal chain", lambda f: [recording(f, chain=replace(CHAIN, band_order=3))]),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_does_not_do_writes_nothing(bad: Bad, parent: Path, tmp_path: Path) -> None:
    paths = bad.make(tmp_path)
    with pytest.raises(OperatorFault, match=bad.word) as fault:
        calibrate(paths, "small", parent, tmp_path / "out", bad.participant)
    assert "\n" not in str(fault.value)
    assert not (tmp_path / "out").exists()


def test_a_file_without_mua_is_the_rigs_and_no_bundle_the_operators(parent: Path, tmp_path: Path) -> None:
    (tmp_path / "a.nwb").write_bytes(b"no HDF5")
    with pytest.raises(RigFault, match="not an NWB file"):
        calibrate([tmp_path / "a.nwb"], "small", parent, tmp_path / "out")
    with pytest.raises(OperatorFault, match="no bundle 'other'"):
        calibrate([tmp_path / "a.nwb"], "other", parent, tmp_path / "out")


def test_no_torch_is_needed() -> None:
    only_to_train = {name for name, extra in EXTRAS.items() if extra == "train"}
    modules = "training.calibrate, training.calibration_table, training.record, training.record_file"
    code = f"import sys, {modules}; print({only_to_train} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
