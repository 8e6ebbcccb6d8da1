"""What the input usually is, and how far it strays by itself: the reference that `streaming/drift.py` holds it against.

The recordings are cut into parts. Each part in turn is held against a profile of the others, as a session to come would
be; the limit is twice the farthest of all these distances (docs/decisions/drift.md has what that is worth).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.manifest import DriftReference, Profile
from streaming.drift import EVERY_BINS, Means, Usual
from streaming.signal.settings import BIN_RATE_HZ
from training.readout import FOLDS

if TYPE_CHECKING:
    from models.decoder import Decoder
    from training.sessions import Session

OVER_S = 30.0
LEAST_PARTS = 4  # below them nobody knows how far the input strays
LEAST_S = FOLDS * 2 * OVER_S  # of one recording, so that each part outlasts the running mean by as much again
ROOM = 2.0  # beyond the farthest distance that was seen

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Walk:
    """The running means of one part, from the moment on at which they mean something: (looks, components). `known`:
    which components are, (looks, components)."""

    values: Array
    known: NDArray[np.bool_]


def drift_reference(decoder: Decoder, sessions: list[Session], masked: list[int]) -> DriftReference | None:
    """The reference for a decoder, from sessions that its normaliser has normalised, without the channels `masked`
    (1-based). None where they are too short: a part must outlast OVER_S by as much again."""
    cuts = math.ceil(FOLDS / len(sessions))
    walks = [
        walk for session in sessions for part in range(cuts) if (walk := _walk(decoder, session, masked, part, cuts))
    ]
    if len(walks) < LEAST_PARTS:
        return None
    mua, embedding = (_profile([walk[which] for walk in walks]) for which in (0, 1))
    seconds = sum(len(walk[0].values) for walk in walks) * EVERY_BINS / BIN_RATE_HZ
    found = {"parts": len(walks), "seconds": seconds, "mua": mua[1], "embedding": embedding[1]}
    return DriftReference(over_s=OVER_S, mua=mua[0], embedding=embedding[0], found=found)


def _walk(decoder: Decoder, session: Session, masked: list[int], part: int, of: int) -> tuple[Walk, Walk] | None:
    """The running means over a part of a session, as the service would have them."""
    length, bins = decoder.n_bins, len(session.usable)
    first, end = bins * part // of, bins * (part + 1) // of
    if end - first < 2 * OVER_S * BIN_RATE_HZ:
        return None
    history = round(session.header.chain["normaliser"]["window_s"] * BIN_RATE_HZ)
    starts = np.arange(-(-max(first, history) // EVERY_BINS) * EVERY_BINS, end - length + 1, EVERY_BINS)
    starts = starts[session.allowed(length).contains(starts)]
    means = Means(session.usable.shape[1], length, decoder.manifest.embedding_size, OVER_S)
    roughs, knowns, embeddings = [], [], []
    for start in starts:
        windows, usables = session.windows(np.array([start]), length)
        window, usable = windows[0], usables[0]
        usable[[channel - 1 for channel in masked]] = False
        if not usable.any():
            continue
        means.push(int(start) + length - 1, window, usable, decoder.step(window, usable).embedding)
        if means.looks >= means.enough:
            roughs.append(means.log_rough(np.empty(len(usable))))
            knowns.append(usable)
            embeddings.append(means.embedding.copy())
    if not roughs:
        return None
    everything = np.ones((len(embeddings), decoder.manifest.embedding_size), bool)
    return Walk(np.array(roughs), np.array(knowns)), Walk(np.array(embeddings), everything)


def _profile(walks: list[Walk]) -> tuple[Profile, dict[str, float]]:
    """The profile of all parts, with the limit; and how far each part was from the others."""
    farthest = []
    for one in walks:
        usual = Usual(_usual([other for other in walks if other is not one]))
        farthest.append(max(usual.share(off.copy(), known) for off, known in zip(one.values, one.known, strict=True)))
    limit = ROOM * max(farthest)
    return _usual(walks).model_copy(update={"limit": limit}), {
        "median": float(np.median(farthest)),
        "most": max(farthest),
    }


def _usual(walks: list[Walk]) -> Profile:
    """Mean and spread of each component, where it was known; those that never were count nowhere."""
    values, known = (np.concatenate([getattr(walk, name) for walk in walks]) for name in ("values", "known"))
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count)
    there = spread[spread > 0]
    usual = np.median(there) if len(there) else 1.0
    spread = np.where(spread > 0, np.hypot(spread, usual), 1.0)  # one that was small in a few recordings need not be
    return Profile(mean=tuple(mean), spread=tuple(spread), limit=1.0)
