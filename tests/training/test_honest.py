"""What must be true of a masked autoencoder that is worth its name, at sizes that a test can bear: that it holds at all
is asked here, how well is `phosphene evaluate`'s. Parameter counts, one batch learnt by heart, what the
cross-session loss takes out, parity, causality and artifacts have tests of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from models.networks.masked_autoencoder import PRESETS
from tests.training.sessions import small_session
from training.data import Session, read_session, write_session
from training.evaluation import subject
from training.evaluation.main import evaluate_simulated
from training.evaluation.rows import WORDS
from training.evaluation.settings import Measures, Simulated, Stimulation
from training.fill_in import Seen, Task, filled_in, hide_tokens
from training.pretrain import SETTINGS, train
from training.report.rebuilt import load_autoencoder


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


# What is hidden, from what is seen -----------------------------------------------------------------------------------

BINS = 16
PATTERNS, DWELL = 12, 64  # patterns over channels, one after the other; bins that each lasts
CONFIG = replace(PRESETS["nano"], channels=32, bins=BINS, patch_bins=BINS, sessions=6)


def session_of_patterns(folder: Path, k: int) -> Session:
    """One of 24 patterns of ±1 over 32 channels is there at a time, in noise. A quarter of the channels tells which;
    no linear guess can use that, since the patterns span nearly as many dimensions as there are channels."""
    pattern = np.random.default_rng(7).choice([-1.0, 1.0], (PATTERNS, CONFIG.channels))
    rng = np.random.default_rng((8, k))
    z = np.repeat(pattern[rng.integers(0, PATTERNS, 400)], DWELL, axis=0)
    z = (z + 0.5 * rng.standard_normal(z.shape)).astype(np.float32)
    like = small_session(folder / "like", seconds=2.0).header
    labels = tuple(f"elec{i + 1}" for i in range(CONFIG.channels))
    header = replace(like, name=f"patterns-{k}", date=f"2031-02-0{k + 1}", labels=labels)
    return read_session(write_session(folder, header, z, np.ones(z.shape, bool)))


def windows_of(sessions: list[Session], n: int) -> tuple[Seen, np.ndarray]:
    """Windows that lie within one pattern, and the session of each."""
    each = [np.stack([one.z[b : b + BINS].T for b in range(0, n * DWELL, DWELL)]) for one in sessions]
    windows = np.concatenate(each).astype(np.float32)
    return (windows, np.ones(windows.shape[:2], bool)), np.repeat(np.arange(len(each)), n)


def test_what_is_hidden_is_rebuilt_better_than_by_anything_linear(tmp_path: Path) -> None:
    """The rivals are the mean of the channels that are seen, a line between them (a token is as long as the window, so
    there is no time to draw one over), and probabilistic PCA: the conditional mean of a Gaussian, which is what a ridge
    from the seen patches to the hidden would learn. On the simulated participant, of which `phosphene evaluate` reports
    the first two, one is no worse than a network of an hour of rest (docs/decisions/muon.md)."""
    sessions = [session_of_patterns(tmp_path, k) for k in range(6)]
    settings = replace(SETTINGS["nano"], steps=400, batch=64, precision="32-true", validation_windows=64)
    train(sessions, tmp_path / "run", CONFIG, settings)
    training, _ = windows_of(sessions[:2], 400)
    test, _ = windows_of(sessions[2:], 100)
    tasks = {"hidden": Task(lambda shape: hide_tokens(shape, 0.75, BINS), line_axis=1)}
    network = load_autoencoder(tmp_path / "run" / "best.safetensors")
    ways = filled_in(network, training, test, np.arange(len(test[0])), tasks)["hidden"]["ways"]
    for other in ("mean", "interpolation", "pca"):  # the components: as many as fill in best, up to all of them
        assert ways[other]["mae_ahead_interval"][0] > 0


# What is decoded, of a participant whose state is only in the size of a travelling wave ------------------------------

ROWS = (
    "raw_mua", "pca", "mae", "mae_place_slow", "electrodes_removed_place_slow",
    "mae_served", "electrodes_removed_served",
)  # fmt: skip
STUDY = Simulated(
    seeds=(611,),
    control_seeds=(),
    codes=("power",),
    preset="ci",
    network={},
    training={"validation_windows": 64},
    steps=250,
    rest_days=6,
    rest_sessions=12,
    rest_s=60,
    many=Stimulation(learning=3, trials=120, new=2, new_trials=250, days=1),
)
MEASURES = Measures(labels=(200,), draws=2, components=128, rest_windows=6000, held_out_windows=60)


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that was measured of *would it be perceived now?*"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "WORDS", {name: WORDS[name] for name in ROWS})
        found = evaluate_simulated(tmp_path_factory.mktemp("honest"), STUDY, MEASURES, cores=1)
    assert found is not None
    return found["participants"]["power-611"]["questions"]["threshold"]["prestimulus"]


@pytest.mark.timeout(900)
def test_it_reads_what_nothing_linear_can_also_with_few_labels(now: dict[str, Any]) -> None:
    rows = now["rows"]["new sessions"]
    for linear in ("raw_mua", "pca"):
        assert rows[linear]["interval"][0] <= 0.5  # chance
        for compared in (now["compared"]["new sessions"], now["compared_few"][200]):
            assert compared[f"mae_place_slow - {linear}"]["interval"][0] > 0


@pytest.mark.timeout(900)
def test_it_sees_a_good_part_of_what_the_ideal_observer_sees(now: dict[str, Any]) -> None:
    """With 360 labels, 250 steps and twelve minutes of rest: the figures are in docs/evaluation.md."""
    for row, least in (("mae_place_slow", 0.35), ("mae_served", 0.5)):
        share = now["rows"]["new sessions"][row]["efficiency"]
        assert share["value"] > least
        assert share["interval"][0] < 1.0


@pytest.mark.timeout(900)
def test_ten_lost_electrodes_cost_little(now: dict[str, Any]) -> None:
    for reading in ("place_slow", "served"):
        lost = now["compared"]["new sessions"][f"electrodes_removed_{reading} - mae_{reading}"]
        assert lost["balanced_accuracy"] > -0.02
