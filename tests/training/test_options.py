"""The authors' future work, from recordings to what the service says: longer windows, stimulation mixed into rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.bundle import find_bundle
from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS
from models.onnx_decoder import OnnxDecoder, open_bundle
from server.bundles import Bundles
from streaming.chunk import ArrayMap, StreamInfo
from streaming.events import Stimulation
from streaming.live import LiveDecoder
from streaming.live_status import LiveSettings
from streaming.predictions import Mode, Prediction
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from tests.streaming.fakes import RATE, ListSource, chunks
from tests.streaming.signal.test_chain import broadband
from tests.training.sessions import CHANNELS, small_session
from training.data import open_sessions, write_session
from training.export import export
from training.pretrain import load_encoder, pretrain
from training.probe import SAME_SESSIONS, probe
from training.trials import training_ends

SETTINGS = """
[training]
steps = 60
batch = 16
rate = 3e-3
warmup_steps = 20
validate_every = 30
validation_windows = 16
precision = "32-true"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rest/ of two days, stimulated/ of a third."""
    folder = tmp_path_factory.mktemp("options")
    for k in range(2):
        small_session(folder / "rest", f"r{k}", date=f"2031-01-0{k + 1}", seconds=30, seed=k)
    small_session(folder / "stimulated", "t0", "2031-02-01", seconds=160, trials=200, seed=7, odds_per_state=5.0)
    return folder


def walked(data: Path, out: Path, chosen: str, sessions: list[Path]) -> Path:
    """Pretraining, probes and bundle by the commands' functions; the bundle's directory."""
    out.mkdir()
    (out / "settings.toml").write_text(chosen)
    pretrain(sessions, out / "run", preset="nano", settings_file=out / "settings.toml")
    probe(out / "run", [data / "stimulated"], out / "probes", pooling="mean")  # no second of rest between these trials
    export(out / "run", out / "probes", out / "bundles", "mine", "tester")
    return find_bundle(out / "bundles", "mine")


def live(
    decoder: OnnxDecoder, samples_uv: np.ndarray, mode: Mode, *trials: tuple[int, Stimulation]
) -> list[Prediction]:
    """What the running line says of these samples, each stimulation told with the chunk that it begins in."""
    items: list = chunks(samples_uv, list(range(0, len(samples_uv), 3000)))
    for onset, stimulation in reversed(trials):
        items.insert(onset // 3000, (onset, stimulation))
    labels = tuple(f"elec{k + 1}" for k in range(CHANNELS))
    info = StreamInfo("live", "fake", float(RATE), ArrayMap(labels), "tester")
    said: list[Prediction] = []
    settings = LiveSettings(mode, hop_s=0.1)  # a window a chunk: none is skipped
    running = LiveDecoder(ListSource(items, info), decoder, settings, [said.append], clock=lambda: 0.0)
    running.start()
    running.join()
    assert running.status().state == "ended"
    return said


@pytest.mark.parametrize(("bins", "patch"), [(256, 64), (512, 128)])
def test_longer_windows_from_recordings_to_the_service(data: Path, tmp_path: Path, bins: int, patch: int):
    chosen = SETTINGS + f"[network]\nbins = {bins}\npatch_bins = {patch}\n"
    path = walked(data, tmp_path / "walk", chosen, [data / "rest"])
    decoder = Bundles(path.parents[1], precision="float32").open("mine")
    assert decoder.n_bins == bins
    probes = decoder.manifest.probes
    assert probes["prestimulus"].window == (-bins, 0)  # before the blank of the train, however long
    assert probes["evoked"].window == (170, 170 + bins)
    assert probes["prestimulus"].metrics[SAME_SESSIONS]["probe"]["interval"][0] > 0.55

    samples_uv = broadband(4.0, CHANNELS)
    *_, last = live(decoder, samples_uv, "continuous")
    chain = SignalChain(ChainSettings.from_dict(decoder.manifest.chain), RATE, CHANNELS)
    chain.push(samples_uv, 0)
    end = (last.last_sample + 1) * 1000 // RATE
    window = np.ascontiguousarray(chain.rings.z(end - bins, end).T)
    expected = decoder.step(window.astype(np.float32), np.ones(CHANNELS, bool))
    assert last.flags == ()
    assert last.probability == pytest.approx(expected.prestimulus, abs=1e-6)
    assert np.allclose(last.embedding, expected.embedding, atol=1e-6)

    train = Stimulation(3, 2, 20.0, 0.167, 50, 170.0, 60.0, 300.0)
    onset = 2 * RATE
    (answer,) = live(decoder, samples_uv, "evoked", (onset, train))
    assert (answer.trial, answer.flags) == (3, ())
    assert answer.last_sample == onset + (170 + bins) * RATE // 1000 - 1  # it is told so much later
    after = [p for p in live(decoder, samples_uv, "continuous", (onset, train)) if p.last_sample > onset + RATE // 4]
    first = next(p for p in after if not p.flags)
    blank_ends = onset + round((train.last_pulse_end_s + 0.0015) * RATE)
    assert first.last_sample >= blank_ends + bins * RATE // 1000  # and nothing is said so much longer after a train


def test_stimulation_mixed_into_rest_and_probed(data: Path, tmp_path: Path):
    chosen = SETTINGS + "pretrain_mix = 0.25\n"
    path = walked(data, tmp_path / "walk", chosen, [data / "rest", data / "stimulated"])
    decoder = open_bundle(path, precision="float32")
    assert decoder.manifest.probes["prestimulus"].metrics[SAME_SESSIONS]["probe"]["interval"][0] > 0.55
    _, about = load_encoder(tmp_path / "walk" / "run")
    assert about["training"]["pretrain_mix"] == 0.25
    assert about["sessions"]["names"] == ["r0", "r1", "t0"]
    assert live(decoder, broadband(2.0, CHANNELS), "continuous")[-1].flags == ()


def test_no_mixed_window_reaches_what_probes_are_tested_on(data: Path, tmp_path: Path):
    """The stretch behind the training part is spoiled; pretraining that never reads it gives the same weights."""
    (tmp_path / "settings.toml").write_text(SETTINGS.replace("steps = 60", "steps = 10") + "pretrain_mix = 0.5\n")
    whole = open_sessions([data / "stimulated"], tmp_path)[0]
    end = training_ends([whole], 128)[0]
    z = np.array(whole.stored)
    z[end:] = np.random.default_rng(0).standard_normal(z[end:].shape) * 50
    write_session(tmp_path / "spoiled", whole.header, z, np.asarray(whole.usable))
    runs = []
    for stimulated in (data / "stimulated", tmp_path / "spoiled"):
        out = tmp_path / f"run{len(runs)}"
        pretrain([data / "rest", stimulated], out, preset="nano", settings_file=tmp_path / "settings.toml")
        runs.append(load_encoder(out)[0])
    for ours, theirs in zip(runs[0].parameters(), runs[1].parameters(), strict=True):
        assert (ours == theirs).all()


def test_patches_that_do_not_fill_the_window_are_refused(data: Path, tmp_path: Path):
    (tmp_path / "settings.toml").write_text("[network]\nbins = 300\n")
    with pytest.raises(OperatorFault, match="patch_bins 64 does not divide the window's 300 bins"):
        pretrain([data / "rest"], tmp_path / "run", preset="nano", settings_file=tmp_path / "settings.toml")
    assert replace(PRESETS["nano"], bins=320).patches == 5
