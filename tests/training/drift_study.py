"""How often the drift measure is wrong, and how soon right: on sessions of the simulated participant, by hand.

    python -m training.default_bundle --out RUNS      # or its first stages: the sessions are what is needed
    python -m tests.training.drift_study RUNS/full

The reference is of four minutes of each of five sessions of day 0, as `phosphene calibrate` would write it for the
bundle that ships. Held against it: the other sessions of that day and of later days (`--whole`: all of each, and not
four minutes), and what must be noticed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import find_bundle
from models.onnx_decoder import open_bundle
from server.settings import PACKAGED
from streaming.drift import Drift
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.signal.settings import ChainSettings
from training.default_bundle import _through_the_chain
from training.drift_reference import drift_reference
from training.normalise import normalise
from training.sessions import Session, read_session

FIRST_BIN, PART_S, OTHERS_S = 100_000, 240, 90
LOST = (10, 24, 48)
GAINS = (0.7, 1.5, 2.0)
SIZE = 5.0  # of a resting envelope, in its own standard deviations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    decoder = open_bundle(find_bundle(PACKAGED, "default"), "cpu", arguments.precision)
    print(f"{decoder.name}, {decoder.precision}")
    whole = [read_session(path) for path in sorted((arguments.runs / "fitting").iterdir())]
    day, held_out = [cut(session) for session in whole], whole[5:]
    held_out += [read_session(path) for path in sorted((arguments.runs / "later").iterdir())]
    if not arguments.whole:
        held_out = [cut(session) for session in held_out]
    began = time.monotonic()
    reference = drift_reference(open_bundle(decoder_path(), "cpu", "float32"), day[:5], [])
    assert reference is not None
    print(f"reference in {time.monotonic() - began:.0f} s: {reference.found}, limits {reference.mua.limit:.2f}, "
          f"{reference.embedding.limit:.2f}")  # fmt: skip

    def show(what: str, z: Any, usable: Any, from_s: float = 0.0) -> None:
        drift, flagged, shares = Drift(reference, decoder.n_bins), [], []
        for last in range(10_000, len(z), 100):  # the normaliser has its history
            window = np.ascontiguousarray(z[last + 1 - decoder.n_bins : last + 1].T)
            seen = usable[last + 1 - decoder.n_bins : last + 1].all(axis=0)
            if not seen.any():
                continue
            drift.look(last, window, seen, decoder.step(window, seen).embedding)
            status = drift.status()
            flagged.append((last / 1000, status.drifts))
            shares.append((status.mua, status.embedding))
        mua, embedding = np.nanmax(shares, axis=0)
        late = [at for at, drifts in flagged if drifts and at >= from_s]
        when = f"after {late[0] - from_s:.0f} s, for {0.1 * len(late):.0f} s" if late else "never"
        print(
            f"{what:28} {len(z) / 1000:4.0f} s  most of limit: mua {mua:.2f} embedding {embedding:.2f}; said {when}",
            flush=True,
        )

    for session in held_out:
        show(session.header.name, session.stored, np.asarray(session.usable))
    z, usable = np.array(day[-1].stored), np.asarray(day[-1].usable)
    draw, half = np.random.default_rng(0), len(z) // 2
    for lost in LOST:
        noise = draw.standard_normal((len(z) - half, lost)).astype(np.float32)
        spoilt = z.copy()
        spoilt[half:, draw.permutation(z.shape[1])[:lost]] = smooth(noise)
        show(f"{lost} electrodes hear noise", spoilt, usable, half / 1000)
    for gain in GAINS:
        envelope = (SIZE + z).astype(np.float32)
        envelope[half:] *= np.float32(gain)
        stepped = normalise(envelope, np.ones(len(z), bool), usable, ChainSettings())
        show(f"gain steps to {gain:g}", stepped, usable, half / 1000)
    mixed = z.copy()
    mixed[half:] = z[half:, draw.permutation(z.shape[1])]
    show("channels in another order", mixed, usable, half / 1000)
    resting = ParticipantSettings(session=301)
    show("rest, day 0", *_through_the_chain(Participant(resting), ChainSettings(), "rest", OTHERS_S))
    for seed in (1, 2, 3):
        other = Participant(ParticipantSettings(seed=seed, session=300))
        show(f"participant {seed}", *_through_the_chain(other, ChainSettings(), "threshold", OTHERS_S))


def decoder_path() -> Path:
    return find_bundle(PACKAGED, "default")


def cut(session: Session) -> Session:
    bins = slice(FIRST_BIN, FIRST_BIN + 1000 * PART_S)
    return replace(session, stored=session.stored[bins], usable=np.asarray(session.usable[bins]))


def smooth(noise: Any) -> Any:
    """As the chain's low-pass leaves it: neighbours alike by about a half, of unit size."""
    shared = noise[1:] + noise[:-1]
    return np.concatenate([noise[:1], shared / shared.std(axis=0)])


if __name__ == "__main__":
    main()
