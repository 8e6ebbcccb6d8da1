"""A recorded session as the predictions that the service would have made of it: broadband, or MUA in NWB."""

from __future__ import annotations

import hashlib
import math
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from models.decoder import Decoder
from models.errors import OperatorFault, RigFault
from streaming.chunk import StreamInfo
from streaming.events import Report, Stimulation
from streaming.matching import decoding_settings, why_not_calibrated
from streaming.offline import predictions
from streaming.predictions import Flag, Latency, Prediction
from streaming.signal.settings import BIN_RATE_HZ
from streaming.sources.recording import open_recording
from training.closed_loop import mean_odds
from training.data import Session, Trial, cached, needs_statistics, read_session

MUA = "processing/ecephys/MUA"
BROADBAND = "acquisition"
STANDARD_TRAIN_S = 0.167


@dataclass(frozen=True, eq=False)
class Decoded:
    """A recording's predictions, every hop, and its answered trials, times in seconds from its first sample."""

    path: Path
    sha256: str
    session: str
    rate_hz: float
    hop_s: float
    seconds: float
    blank_before_s: float
    predictions: list[Prediction]
    trials: list[Trial]

    def before_trials(self, smoothing_s: float) -> list[tuple[float | None, Trial]]:
        """Each trial with the probability of the last window that ended before its artifact, smoothed as the trigger
        would; None where that window was not whole."""
        ends = np.array([(one.last_sample + 1) / self.rate_hz for one in self.predictions])
        seen = [(end, one.probability) for end, one in zip(ends.tolist(), self.predictions, strict=True)]
        means = [mean for _, mean in mean_odds(seen, smoothing_s)]
        found: list[tuple[float | None, Trial]] = []
        for trial in self.trials:
            last = int(np.searchsorted(ends, trial.onset_s - self.blank_before_s + 1e-9, side="right")) - 1
            near = last >= 0 and trial.onset_s - ends[last] <= self.hop_s + self.blank_before_s + 1e-6
            mean = means[last] if near else None
            found.append((None if mean is None else 1 / (1 + math.exp(-mean)), trial))
        return found


def decode_recording(path: Path, decoder: Decoder, hop_s: float, participant: str | None) -> Decoded:
    """Raises OperatorFault: not there, or the bundle was not fitted to whom it is of. RigFault: cannot be read."""
    if not path.is_file():
        raise OperatorFault(f"{path}: no such file; name recorded sessions (broadband, or MUA as NWB)")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if path.suffix.lower() == ".nwb" and _holds_only_mua(path):
        return _from_mua(path, sha256, decoder, hop_s, participant)
    return _from_broadband(path, sha256, decoder, hop_s, participant)


def _holds_only_mua(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return MUA in file and not len(file.get(BROADBAND, ()))
    except OSError as error:
        raise RigFault(f"{path}: not an NWB file, or cut short ({error}); copy it again") from error


def _refuse(path: Path, decoder: Decoder, info: StreamInfo, participant: str | None) -> None:
    reason = why_not_calibrated(decoder.manifest, info, participant)
    if reason:
        raise OperatorFault(
            f"{path}: {reason}; probabilities would mean nothing, name the bundle that was fitted to it"
        )


def _from_broadband(path: Path, sha256: str, decoder: Decoder, hop_s: float, participant: str | None) -> Decoded:
    source = open_recording(path, pace=None)
    try:
        _refuse(path, decoder, source.info, participant)
        rate_hz, markers = source.info.rate_hz, source.recording.markers
        found = list(predictions(source, decoder, "continuous", hop_s, participant))
        session = source.info.session or path.stem
    finally:
        source.close()
    trials: list[Trial] = []
    open_ones: dict[int | None, tuple[int, Stimulation]] = {}
    for at, marker in markers:
        if isinstance(marker, Stimulation):
            open_ones[marker.trial] = at, marker
        elif isinstance(marker, Report) and marker.trial in open_ones:
            onset, one = open_ones.pop(marker.trial)
            trials.append(Trial(onset / rate_hz, one.electrode or 0, one.current_ua or 0.0, marker.perceived))
    seconds = (found[-1].last_sample + 1) / rate_hz if found else 0.0
    blank_s = float(decoder.manifest.chain["blank_before_s"])
    return Decoded(path, sha256, session, rate_hz, hop_s, seconds, blank_s, found, trials)


def _from_mua(path: Path, sha256: str, decoder: Decoder, hop_s: float, participant: str | None) -> Decoded:
    """The envelope through the normaliser that serves (training/data.py), window by window."""
    with tempfile.TemporaryDirectory(prefix="phosphene-", ignore_cleanup_errors=True) as folder:
        session = read_session(cached(path, Path(folder)))
        header = session.header
        info = StreamInfo("replay", path.name, header.rate_hz, header.array, header.participant, recorded=True)
        _refuse(path, decoder, info, participant)
        if header.chain != decoder.manifest.chain:
            raise OperatorFault(
                f"{path} was made by another signal chain than {decoder.name} serves with; run `phosphene mua` again"
            )
        if needs_statistics(header.chain):
            raise OperatorFault(f"{path}: its normaliser needs stored statistics; name the broadband recording instead")
        found = _windows(path, session, info, decoder, hop_s, participant)
        seconds = len(session.usable) / BIN_RATE_HZ
    return Decoded(
        path, sha256, header.name.rsplit("-", 1)[0], header.rate_hz, hop_s, seconds, header.chain["blank_before_s"],
        found, list(header.trials),
    )  # fmt: skip


def _windows(
    path: Path, session: Session, info: StreamInfo, decoder: Decoder, hop_s: float, participant: str | None
) -> list[Prediction]:
    settings = decoding_settings(decoder.manifest, info, hop_s=hop_s, participant=participant)
    mask = np.ones(settings.n_channels, bool) if settings.mask is None else settings.mask
    chain, hop, length = settings.chain, settings.hop_bins, settings.n_bins
    blanked = _blanked(path, session, chain.blank_before_s, chain.blank_after_s + chain.blank_settle_s)
    history = round(chain.normaliser.window_s * BIN_RATE_HZ)
    z, usable, seq = session.z, session.usable, count()
    found = []
    for end in range(hop, len(usable) + 1, hop):
        first = end - length
        window = usable[max(0, first) : end].all(axis=0) & mask
        flags: tuple[Flag, ...] = ()
        if blanked[max(0, first) : end].any():
            flags = ("blanking",)
        elif first < 0 or not usable[first:end].any(axis=1).all():
            flags = ("settling",)
        elif window.sum() < settings.min_usable_channels:
            flags = ("channels",)
        probability = None
        if not flags:
            probability = decoder.step(np.ascontiguousarray(z[first:end].T), window).prestimulus
        last_sample = -(-end * round(info.rate_hz) // BIN_RATE_HZ) - 1  # bin k: floor(1000 i / rate) = k
        found.append(
            Prediction(
                seq=next(seq),
                source="replay",
                sample_time=end / BIN_RATE_HZ,
                last_sample=last_sample,
                epoch=0,
                mode="continuous",
                trial=None,
                model=decoder.name,
                probability=probability,
                embedding=None,
                usable_channels=int(window.sum()),
                flags=flags,
                latency_ms=Latency(0.0, 0.0, 0.0, 0.0),
                full_history=end >= history,
            )
        )
    return found


def _blanked(path: Path, session: Session, before_s: float, after_s: float) -> NDArray[np.bool_]:
    """Bins that a train touches, by the trials table: a file of level A has no invalid times of its own."""
    found = np.zeros(len(session.usable), bool)
    try:
        with h5py.File(path, "r") as file:
            lasted = np.asarray(file["intervals/trials/stim_duration"][:], float)
    except (KeyError, OSError):
        lasted = np.full(len(session.header.trials), STANDARD_TRAIN_S)
    for trial, duration_s in zip(session.header.trials, lasted, strict=False):
        first, end = (trial.onset_s - before_s) * BIN_RATE_HZ, (trial.onset_s + duration_s + after_s) * BIN_RATE_HZ
        found[max(0, int(first)) : math.ceil(end)] = True
    return found
