"""The training line on two public recordings: what its encoder is worth there beside simple rivals, losses included.

    python -m training.real_encoder $PHOSPHENE_DATA --out runs/real-encoder --json docs/results/real-encoder.json

Each recording becomes files of counts, its last part kept away; `pretrain` runs on the first part as by the command
line, and everything that is fitted or chosen is fitted and chosen there. Then, on the last part: channels and bins are
hidden and filled in, and what was seen or done is read from frozen features. About ten minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors import safe_open
from sklearn.decomposition import PCA

from models.networks.masked_autoencoder import Encoder, MaeConfig, MaskedAutoencoder, build, pool
from training import real_data
from training.data import open_sessions
from training.fill_in import Components, explained, hide, interpolated, rebuilt
from training.pretrain import pretrain
from training.real_readout import contrast_score, velocity_score

TRAINING_PART = 0.8  # of the trials; of presentations, as in the release's own reference, 0.7
IMAGES_PART = 0.7
COMPONENTS = (2, 4, 8, 16, 32, 64, 128)  # of which the training part's last fifth chooses, for filling in
HAND = """
[network]
bins = 10
patch_bins = 2
[training]
steps = 1500
batch = 32
validate_every = 100
validation_windows = 512
precision = "32-true"
"""
IMAGES = """
[network]
bins = 1
patch_bins = 1
[training]
steps = 1500
batch = 64
mask_ratio = 0.5
correlation_weight = 0.0
validate_every = 100
validation_windows = 2048
precision = "32-true"
"""
Pairs = tuple[NDArray[np.float32], NDArray[np.bool_]]  # windows (n, channels, bins) and usable (n, channels)


# The encoder ---------------------------------------------------------------------------------------------------------


def trained(counts: list[Path], run: Path, settings: str) -> MaskedAutoencoder:
    """`phosphene pretrain COUNTS --out RUN --preset nano --settings …`, unless that stands."""
    run.mkdir(parents=True, exist_ok=True)
    toml = run / "asked.toml"
    toml.write_text(settings)
    pretrain(counts, run, "nano", settings_file=toml, resume=True)
    with safe_open(run / "best.safetensors", framework="pt") as stored:
        about = json.loads(stored.metadata()["json"])
        network = build(MaeConfig(**about["network"]))
        network.load_state_dict({name: stored.get_tensor(name) for name in network.state_dict()})
    return network.eval()


@torch.no_grad()
def embedded(encoder: Encoder, windows: Pairs) -> NDArray[np.float32]:
    """The mean of all tokens, as in the paper, (n, width)."""
    parts = [slice(k, k + 512) for k in range(0, len(windows[0]), 512)]
    return np.concatenate([pool(*encoder(*(torch.from_numpy(part[at]) for part in windows))).numpy() for at in parts])


def untrained(encoder: Encoder) -> Encoder:
    torch.manual_seed(0)
    return build(encoder.config).encoder.eval()


def features(encoder: Encoder, training: Pairs) -> dict[str, Callable[[Pairs], NDArray[np.float32]]]:
    """What a readout is given: frozen embeddings, as many principal components, the windows themselves."""

    def flat(windows: Pairs) -> NDArray[np.float32]:
        return np.where(windows[1][:, :, None], windows[0], 0).reshape(len(windows[0]), -1)

    components = PCA(min(encoder.config.latent_width, flat(training).shape[1]), random_state=0).fit(flat(training))
    fresh = untrained(encoder)
    return {
        "mae": lambda windows: embedded(encoder, windows),
        "untrained": lambda windows: embedded(fresh, windows),
        "pca": lambda windows: components.transform(flat(windows)),
        "counts": flat,
    }


def filled_in(
    network: MaskedAutoencoder, training: Pairs, test: Pairs, groups: NDArray[np.int64], channels: int, bins: int
) -> dict[str, Any]:
    """Hidden channels or bins of the test windows, by each way."""
    patch_bins = network.encoder.config.patch_bins
    cut = 4 * len(training[0]) // 5
    early, late = (tuple(part[at] for part in training) for at in (slice(cut), slice(cut, None)))
    late = tuple(part[:: max(1, len(late[0]) // 500)] for part in late)
    trial = hide(late[0].shape, channels, bins, patch_bins, seed=1)
    wrong = {
        k: float(((Components.fit(*early, k).fill(*late, trial) - late[0]) ** 2)[trial & late[1][:, :, None]].mean())
        for k in COMPONENTS
        if k < np.prod(early[0].shape[1:])
    }
    k = min(wrong, key=wrong.__getitem__)
    windows, usable = test
    hidden = hide(windows.shape, channels, bins, patch_bins)
    counted = training[1][:, :, None]
    mean = (training[0] * counted).sum(axis=(0, 2)) / (counted.sum(axis=0)[:, 0] * windows.shape[2]).clip(min=1)
    filled = {
        "mae": rebuilt(network, windows, usable, hidden),
        "mean": np.broadcast_to(mean[:, None].astype(np.float32), windows.shape),
        "interpolation": interpolated(windows, usable, hidden, axis=2 if bins else 1),
        "pca": Components.fit(*training, k).fill(windows, usable, hidden),
    }
    return {"components": k, "windows": len(windows)} | explained(windows, usable, hidden, filled, groups)


# The hand ------------------------------------------------------------------------------------------------------------


def hand(data: Path, work: Path) -> dict[str, Any]:
    recording = real_data.hand(data / "m1_contdata95" / "dev.npz")
    trials = int(recording.trial[-1]) + 1
    cut = round(TRAINING_PART * trials)
    parts = {"training": recording.part(slice(0, cut)), "test": recording.part(slice(cut, None))}
    work.mkdir(parents=True, exist_ok=True)
    files = {
        name: real_data.write_counts(work / f"hand-{name}.npz", one.counts, real_data.BIN_S, "2000-01-01", one.first)
        for name, one in parts.items()
    }
    network = trained([files["training"]], work / "hand-run", HAND)
    length = network.encoder.config.bins
    sessions = {name: open_sessions([file], work / "cache")[0] for name, file in files.items()}
    firsts = {name: np.asarray(session.allowed(length)) for name, session in sessions.items()}
    windows = {name: sessions[name].windows(firsts[name], length) for name in parts}
    moved = {name: one.velocity[firsts[name] + length - 1] for name, one in parts.items()}
    trial = parts["test"].trial[firsts["test"]]
    found: dict[str, Any] = {
        "trials": trials,
        "training_trials": cut,
        "bins": len(recording.counts),
        "channels": recording.counts.shape[1],
        "windows": {name: len(one) for name, one in firsts.items()},
        "velocity": paired(
            features(network.encoder, windows["training"]),
            windows,
            lambda training, test: velocity_score(training, moved["training"], test, moved["test"], trial),
        ),
    }
    some = slice(None, None, 3)
    test = tuple(part[some] for part in windows["test"])
    for name, channels, bins in (("hidden_channels", 10, 0), ("hidden_bins", 0, 4)):
        found[name] = filled_in(network, windows["training"], test, trial[some], channels, bins)
    return found


def paired(see: dict[str, Any], windows: dict[str, Pairs], score: Callable[..., Any]) -> dict[str, Any]:
    """Each kind of features scored, and by how much the masked autoencoder is ahead, on the same resamples."""
    scored = {name: score(one(windows["training"]), one(windows["test"])) for name, one in see.items()}
    first = scored["mae"][1]
    return {
        name: told | {"mae_ahead_interval": np.percentile(first - resampled, [2.5, 97.5]).tolist()}
        for name, (told, resampled) in scored.items()
    }


# Images --------------------------------------------------------------------------------------------------------------


def images(data: Path, work: Path) -> dict[str, Any]:
    """Session by session, and each session by the other five."""
    work.mkdir(parents=True, exist_ok=True)
    files = sorted((data / "v1_image_sequences").glob("*.npz"))
    sessions = [real_data.images(file) for file in files]
    found: dict[str, Any] = {one.name: image_session(one, work) for one in sessions}
    return found


def image_session(one: real_data.Images, work: Path) -> dict[str, Any]:
    cut = round(IMAGES_PART * len(one.counts))
    parts = {"training": one.part(slice(0, cut)), "test": one.part(slice(cut, None))}
    files = {
        name: real_data.write_counts(work / f"{one.name}-{name}.npz", part.counts, real_data.ONSET_S, "2000-01-01")
        for name, part in parts.items()
    }
    network = trained([files["training"]], work / f"{one.name}-run", IMAGES)
    opened = {name: open_sessions([file], work / "cache")[0] for name, file in files.items()}
    windows, contrast, rows = {}, {}, {}
    for name, session in opened.items():
        rows[name] = np.asarray(session.allowed(1))
        windows[name] = session.windows(rows[name], 1)
        contrast[name] = parts[name].contrast[rows[name]]
    shown = {name: tuple(part[contrast[name] >= 0] for part in windows[name]) for name in parts}
    levels = {name: one[one >= 0] for name, one in contrast.items()}
    shares = [real_data.signal_share(one, seed) for seed in range(20)]
    return {
        "units": one.counts.shape[1],
        "presentations": len(one.counts),
        "missing": float((one.counts < 0).mean()),
        "signal_share": real_data.signal_share(one),
        "signal_share_by_chance": np.percentile(shares, [2.5, 97.5]).tolist(),
        "contrast": paired(
            features(network.encoder, windows["training"]),
            shown,
            lambda training, test: contrast_score(training, levels["training"], test, levels["test"]),
        ),
        "hidden_channels": filled_in(
            network,
            windows["training"],
            tuple(part[::3] for part in windows["test"]),
            np.arange(len(windows["test"][0][::3])),
            max(1, one.counts.shape[1] // 5),
            0,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder a recording")
    parser.add_argument("--out", type=Path, default=Path("runs/real-encoder"))
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    started = time.monotonic()
    found = {"hand": hand(asked.data, asked.out), "images": images(asked.data, asked.out)}
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "minutes": (time.monotonic() - started) / 60,
        "processor_minutes": time.process_time() / 60,
        "torch": torch.__version__,
    }
    Console().print_json(json.dumps(about | found))
    if asked.json is not None:
        asked.json.write_text(json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
