"""The pictures of docs/real-recordings.md, from the recordings themselves.

    PHOSPHENE_DATA=FOLDER python -m training.real_pictures --out docs/pictures

Only envelopes, spectra and correlations are drawn: the recordings may not be passed on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from streaming.chunk import EndOfRecording
from streaming.signal import kernel as kn
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from streaming.sources.recording import open_recording
from training.surrogate import SCALE_UV, surrogate

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

STARLING_SCALE_UV = 0.05  # ours: a noise σ of 185 counts becomes 9 µV
INK, RED, BLUE, GREY = "#222222", "#c8452f", "#2f6fc8", "#9a9a9a"


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording through the chain. `raw_uv` (samples, channels) without its pauses; `envelope_uv` and `z`
    (bins, channels), NaN where the chain does not vouch for them."""

    raw_uv: NDArray[np.float32]
    envelope_uv: NDArray[np.float32]
    z: NDArray[np.float32]
    labels: tuple[str, ...]
    rate_hz: float


def hear(path: Path, scale_uv: float | None = None) -> Heard:
    source = open_recording(path, pace=None, chunk_s=0.25, scale_uv=scale_uv)
    chain = SignalChain(ChainSettings(), source.info.rate_hz, source.info.n_channels)
    raw, planes = [], {}
    with suppress(EndOfRecording):
        while (chunk := source.read(0.0)) is not None:
            raw.append(chunk.samples_uv.copy())
            bins = chain.push(chunk.samples_uv, chunk.first_sample)
            fine = bins.valid[:, None]
            history = chain.rings.reasons(bins.first_bin, bins.end_bin)[:, None] & kn.REASON_HISTORY == 0
            planes[bins.first_bin] = (
                np.where(fine, bins.envelope_uv, np.nan),
                np.where(fine & history, bins.z, np.nan),
            )
    source.close()
    found = np.full((2, chain.next_bin, source.info.n_channels), np.nan, np.float32)
    for first, (envelope, z) in planes.items():
        found[0, first : first + len(envelope)], found[1, first : first + len(z)] = envelope, z
    return Heard(np.concatenate(raw), found[0], found[1], source.info.array.labels, source.info.rate_hz)


def pooled(values: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Means of `bins` bins, (n, channels); NaN where one of them is."""
    n = len(values) // bins
    return values[: n * bins].reshape(n, bins, -1).mean(axis=1)


def heat(axis: Axes, z: NDArray[np.float32], pool: int, labels: tuple[str, ...] | None = None) -> None:
    """z by time and channel; grey where nothing is vouched for."""
    shown = pooled(z, pool)
    axis.set_facecolor("#dddddd")
    image = axis.imshow(
        shown.T,
        aspect="auto",
        cmap="RdBu_r",
        vmin=-2,
        vmax=2,
        extent=(0, len(shown) * pool / 1e3, z.shape[1] + 0.5, 0.5),
        interpolation="nearest",
    )
    if labels:
        axis.set_yticks(range(1, len(labels) + 1), labels)
    axis.set_xlabel("seconds")
    plt.colorbar(image, ax=axis, label=f"z, mean over {pool} ms", pad=0.01)


def neuralynx(data: Path, out: Path) -> None:
    heard = hear(data / "neuralynx_32k" / "cheetah_5.7.4")
    figure, ((top, spectrum), (traces, bars)) = plt.subplots(
        2, 2, figsize=(11, 6), width_ratios=(3, 1), layout="constrained"
    )
    heat(top, heard.z, 100, heard.labels)
    top.set_title("normalised MUA; grey: recording paused, start and settling")
    smooth = pooled(heard.envelope_uv, 100)
    for channel, label in enumerate(heard.labels):
        shade = RED if label == "CSC3" else plt.cm.viridis(0.15 + 0.18 * channel)
        traces.plot(np.arange(len(smooth)) / 10, smooth[:, channel], color=shade, lw=0.8, label=label)
        frequencies, power = welch(heard.raw_uv[:, channel], heard.rate_hz, nperseg=8192)
        spectrum.loglog(frequencies[1:], np.sqrt(power[1:]), color=shade, lw=0.8)
    traces.set(xlabel="seconds", ylabel="envelope, µV (100 ms means)", ylim=(0, 20))
    traces.legend(ncols=5, fontsize=8, loc="upper right")
    spectrum.axvspan(500, 5000, color="#f0e6c8", zorder=0)
    spectrum.set(xlabel="Hz", ylabel="µV / √Hz", title="spectra; shaded: the band", xlim=(5, 16000))
    median = np.nanmedian(heard.envelope_uv, axis=0)
    bars.bar(heard.labels, median, color=[RED if label == "CSC3" else GREY for label in heard.labels])
    bars.set(ylabel="median envelope, µV")
    figure.savefig(out / "real-neuralynx.png", dpi=80)


def openephys(data: Path, out: Path) -> None:
    many = hear(data / "openephys" / "binary_30k_32ch")
    two = hear(data / "openephys" / "legacy_40k_2ch")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    centred = many.raw_uv - many.raw_uv.mean(axis=1, keepdims=True)
    for samples, colour, label in ((many.raw_uv, GREY, "as recorded"), (centred, BLUE, "minus the mean of all")):
        frequencies, power = welch(samples, many.rate_hz, nperseg=8192, axis=0)
        left.loglog(frequencies[1:], np.sqrt(np.median(power[1:], axis=1)), color=colour, lw=1, label=label)
    left.axvspan(500, 5000, color="#f0e6c8", zorder=0)
    left.legend(fontsize=8)
    left.set(xlabel="Hz", ylabel="µV / √Hz, median channel", title="32 channels, 30 kHz", xlim=(4, 15000))
    off = ~np.eye(32, dtype=bool)
    bins = np.linspace(-1, 1, 81)
    envelope = many.envelope_uv[np.isfinite(many.envelope_uv).all(axis=1)]
    middle.hist(np.corrcoef(many.raw_uv.T)[off], bins, color=GREY, label="raw")
    middle.hist(np.corrcoef(envelope.T)[off], bins, color=BLUE, alpha=0.8, label="MUA envelope")
    middle.legend(fontsize=8)
    middle.set(xlabel="correlation of two channels", ylabel="pairs", title="common noise goes", yscale="log")
    at = slice(3000, 4500)
    for channel, (colour, style) in enumerate(((INK, "-"), (RED, "--"))):
        right.plot(np.arange(3000, 4500) / 1e3, two.envelope_uv[at, channel], style, color=colour, lw=0.8)
    right.set(xlabel="seconds", ylabel="envelope, µV", title="2 channels, 40 kHz: one envelope")
    figure.savefig(out / "real-openephys.png", dpi=80)


def starling(data: Path, out: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(2.2, 1), layout="constrained")
    lags = np.arange(-20, 41)
    around = []
    for trial in (1, 2, 3):
        name = f"st11_1_2_A8_{trial}"
        folder = data / "starling_raw_stim"
        heard = hear(folder / f"{name}.wav", STARLING_SCALE_UV)
        said = json.loads((folder / f"{name}.json").read_text())
        smooth = pooled(heard.envelope_uv, 50)[:, 0]
        left.plot((np.arange(len(smooth)) + 0.5) / 20, smooth + 6 * (trial - 1), lw=0.8, color=BLUE)
        spikes = np.array(said["sorted_unit_spike_times_s"])
        left.plot(spikes, np.full(len(spikes), 5.0 + 6 * (trial - 1)), "|", color=RED, ms=5)
        places = np.round(spikes * 1e3).astype(int)
        places = places[(places > 100) & (places < len(heard.envelope_uv) - 50)]
        around.append(heard.envelope_uv[places[:, None] + lags, 0])
    for moment in (said["stimulus_on_s"], said["stimulus_off_s"]):
        left.axvline(moment, color=GREY, lw=1)
    left.set(
        xlabel="seconds (grey lines: song on and off)",
        ylabel="envelope, scaled counts; trials shifted",
        title="the same song three times; red: sorted spikes as published",
    )
    mean = np.nanmean(np.concatenate(around), axis=0)
    right.plot(lags, mean, color=BLUE)
    right.axvline(0, color=GREY, lw=1)
    peak = int(lags[mean.argmax()])
    right.set(xlabel="ms from a sorted spike", ylabel="mean envelope", title=f"peak in the bin {peak} ms behind")
    figure.savefig(out / "real-starling.png", dpi=80)


def stacked(data: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "surrogate.nwb"
        facts = surrogate(data / "n1_broadband" / "wav", path)
        heard = hear(path)
    with (data / "n1_broadband" / "index.csv").open() as lines:
        noise = np.array([float(row["mad_500_5000_counts"]) for row in csv.DictReader(lines)])[:96] * SCALE_UV
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=(2.4, 1), layout="constrained")
    heat(left, heard.z, 50)
    left.set(
        ylabel="channel", title="96 electrodes that never met; grey: the start, and the breaks that the file states"
    )
    first = heard.envelope_uv[: facts["samples_per_tile"] * 1000 // facts["rate_hz"]]
    right.loglog(noise, np.nanmedian(first, axis=0), "o", ms=3, color=BLUE)
    ends = np.array([noise.min(), noise.max()])
    right.loglog(ends, ends * 0.798, color=GREY, lw=1, label="Gaussian noise: mean |x| = 0.798 σ")
    right.legend(fontsize=8)
    right.set(xlabel="noise σ of the file, scaled µV", ylabel="median envelope of its channel, µV")
    figure.savefig(out / "real-surrogate.png", dpi=80)


PICTURES: tuple[Callable[[Path, Path], None], ...] = (neuralynx, openephys, starling, stacked)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    out = parser.parse_args().out
    folder = os.environ.get("PHOSPHENE_DATA")
    if folder is None:
        raise SystemExit("PHOSPHENE_DATA is not set; it names the folder that holds the recordings")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for draw in PICTURES:
        draw(Path(folder), out)


if __name__ == "__main__":
    main()
