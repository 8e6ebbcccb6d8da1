"""Two public sets of spike counts as the files that `phosphene pretrain` takes, and what was seen or done beside them.

m1_contdata95: 95 channels of monkey motor cortex in bins of 100 ms, with the hand (nickmatton/NeuralSignalDecoding).
v1_image_sequences: sorted units of macaque V1, one count for each image (Hénaff, Bai et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BIN_S = 0.1  # of m1: its velocity is its position's difference over exactly this
ONSET_S = 0.3  # of v1: 200 ms of image, 100 ms of nothing
CONTRAST, LEVELS = 2, 10  # the category of the contrast series, and its frames
NEVER = -1


@dataclass(frozen=True, eq=False)
class Hand:
    """`counts` (bins, channels), `velocity` (bins, 2), `trial` (bins,) which trial a bin is of, from 0, and `first`
    (bins,) whether it is that trial's first.

    The file calls itself continuous. It is a thousand trials of two seconds one behind the other: at their seams the
    hand jumps, its velocity is 0 by construction, and the population forgets itself from one bin to the next
    (correlation 0.01, elsewhere 0.32). So no window may lie across a seam."""

    counts: NDArray[np.uint8]
    velocity: NDArray[np.float32]
    trial: NDArray[np.int64]
    first: NDArray[np.bool_]

    def part(self, trials: slice) -> Hand:
        inside = np.isin(self.trial, np.unique(self.trial)[trials])
        return Hand(self.counts[inside], self.velocity[inside], self.trial[inside], self.first[inside])


def hand(file: Path) -> Hand:
    with np.load(file) as stored:
        counts, kinematics = stored["counts"], stored["kin"].astype(np.float64)
    moved = np.diff(kinematics[:, :2], axis=0) / BIN_S
    seam = np.abs(moved - kinematics[1:, 2:]).max(axis=1) > 0.01
    first = np.concatenate([[True], seam])
    return Hand(counts, kinematics[:, 2:].astype(np.float32), np.cumsum(first) - 1, first)


@dataclass(frozen=True, eq=False)
class Images:
    """Presentations in order of time: `counts` (n, units), below 0 where a unit was not there; `contrast` (n,) level 0
    to 9 of the contrast series, else -1; `movie` (n,); `image` (n,), a number for each image."""

    name: str
    counts: NDArray[np.int16]
    contrast: NDArray[np.int64]
    movie: NDArray[np.int64]
    image: NDArray[np.int64]

    def part(self, rows: slice) -> Images:
        return Images(self.name, *(one[rows] for one in (self.counts, self.contrast, self.movie, self.image)))


def images(file: Path) -> Images:
    """The k-th time that an image is shown is its repeat k."""
    with np.load(file) as stored:
        counts, table, order = stored["counts"], stored["stimulus_table"], stored["stimulus_id_order"]
    places = {int(row[0]): tuple(map(int, row[1:])) for row in table}
    shown: dict[int, int] = {}
    rows, told = [], []
    for image in map(int, order):
        repeat = shown[image] = shown.get(image, NEVER) + 1
        if image in places:
            rows.append(counts[places[image]][:, repeat])
            told.append((image, *places[image]))
    image, _, category, movie, frame = np.array(told, np.int64).T
    contrast = np.where((category == CONTRAST) & (frame < LEVELS), frame, NEVER)
    return Images(file.stem, np.array(rows), contrast, movie, image)


def signal_share(session: Images, seed: int | None = None) -> float:
    """The median unit's share of variance that hangs on which image it was: variance of the images' means less that
    which noise gives them, over itself and the noise's. With a `seed` the images are shuffled first."""
    image = session.image if seed is None else np.random.default_rng(seed).permutation(session.image)
    order = np.argsort(image, kind="stable")
    counts = session.counts[order].astype(np.float64)
    counts[counts < 0] = np.nan
    repeats = counts.reshape(len(np.unique(image)), -1, counts.shape[1])  # every image is shown as often
    n = np.sum(np.isfinite(repeats), axis=1)
    means, variances = np.nanmean(repeats, axis=1), np.nanvar(repeats, axis=1, ddof=1)
    noise = np.nanmean(variances, axis=0)
    signal = np.nanvar(means, axis=0, ddof=1) - np.nanmean(variances / n, axis=0)
    return float(np.median(signal / (signal + noise)))


def neighbours_alike(session: Images) -> float:
    """How the units' mean, less what the image alone gives, correlates from one presentation to the next: cortex
    drifts, so that it does wherever the order is that of time."""
    counts = np.where(session.counts < 0, np.nan, session.counts)
    _, image = np.unique(session.image, return_inverse=True)
    usual = np.array([np.nanmean(counts[image == k], axis=0) for k in range(image.max() + 1)])
    left = np.nanmean(counts - usual[image], axis=1)
    return float(np.corrcoef(left[1:], left[:-1])[0, 1])


def write_counts(
    file: Path, counts: NDArray[np.integer], bin_s: float, date: str, not_in: NDArray[np.bool_] | None = None
) -> Path:
    """A file of counts; the bins `not_in` (bins,) are in no window."""
    more = {} if not_in is None else {"usable": np.repeat(~not_in[:, None], counts.shape[1], axis=1)}
    np.savez(file, counts=counts, bin_s=bin_s, date=date, **more)
    return file
