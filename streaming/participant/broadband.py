"""Level B: what the amplifier would send. 96 channels of spikes, hash, field, hum and artifacts, as ADC counts.

The hash (300-6000 Hz) is Gaussian noise whose size follows the latent drive: that, with the spikes, is what the chain's
envelope recovers. It runs 60 times faster than real time on one core. Blocks are 20 ms: a stimulation that falls
into the block at hand costs 0.3 ms to make it again, and none takes a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from streaming.participant import draws
from streaming.participant.artifact import artifact
from streaming.participant.background import Background
from streaming.participant.blocks import BlockStream
from streaming.participant.latent import BLOCK_BINS as BACKGROUND_BINS
from streaming.participant.mains import MainsState, mains
from streaming.participant.mixing import mix_and_digitise
from streaming.participant.participant import Participant
from streaming.participant.settings import N_ELECTRODES
from streaming.participant.units import SILENT_S, TEMPLATE_S, fire, units

BLOCK_BINS = 20
KEEP_EVERY = 15_000  # blocks between kept states: 5 minutes, at 22 kB each
COUNT_UV = 0.25
RAIL_COUNTS = 32_764  # ±8191 µV
HASH_PER_ENVELOPE = 1.4  # hash rms that gives, after the chain (band-pass, |x|, spikes added), an envelope of 1
THERMAL_UV = (4.0, 6.0)
ANALOG_HZ = (0.3, 7500.0)
HASH_HZ = (300.0, 6000.0)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BroadbandBlock:
    """20 ms: counts (n, 96) int16, and the spikes that they hold (absolute fractional samples, unit indices)."""

    counts: NDArray[np.int16]
    spike_samples: NDArray[np.float64]
    spike_units: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BroadbandState:
    """What a block leaves to the next one."""

    filters: Floats  # (states, 96) of the hash's and the amplifier's filters
    spill: Floats  # (template, 96) waveforms that reach into the next block
    last_spike_s: NDArray[np.float64]  # by unit
    field: Floats  # (96,) the last point of the 1 kHz background
    mains: MainsState


class Broadband:
    """Reads the participant's broadband signal, sample after sample."""

    def __init__(self, participant: Participant) -> None:
        settings, a = participant.settings, participant.anatomy
        self.participant = participant
        self.position = 0  # the next sample
        self.units = units(settings, a)
        self._path = (settings.seed, settings.day, settings.session, "broadband")
        self._background = Background(participant)
        self._block_samples = BLOCK_BINS * settings.samples_per_bin
        self._template = round(TEMPLATE_S * settings.rate_hz)
        rng = draws.at(settings.seed, "amplifier")
        self._thermal = (a.truth.floor * rng.uniform(*THERMAL_UV, N_ELECTRODES)).astype(np.float32)
        self._mains_gain = (10 * np.exp(0.4 * rng.standard_normal(N_ELECTRODES))).clip(5, 20).astype(np.float32)
        self._hash = (HASH_PER_ENVELOPE * a.resting_uv).astype(np.float32)
        self._hash_slope = (a.scale_uv / a.resting_uv).astype(np.float32)
        self._sections, self._slow = _filters(settings.rate_hz)
        self._contact = np.ones(N_ELECTRODES, np.float32)
        self._shorted: list[tuple[int, int]] = []  # 0-based
        if settings.faults:
            self._break_electrodes()
        self._artifacts: dict[int, tuple[Floats, Floats]] = {}
        self._seen = 0
        first = BroadbandState(
            filters=np.zeros((2 * len(self._sections) + 1, N_ELECTRODES), np.float32),
            spill=np.zeros((self._template, N_ELECTRODES), np.float32),
            last_spike_s=np.full(len(self.units.electrode), SILENT_S),
            field=self._contact * self._background.block(0)[0],
            mains=MainsState(0.0, 0.0),
        )
        self._blocks = BlockStream[BroadbandBlock, BroadbandState](first, self._make, KEEP_EVERY)

    def seek(self, sample: int) -> None:
        """Read from `sample` next, forward or back."""
        self.position = sample

    def read_counts(self, n_samples: int) -> NDArray[np.int16]:
        """The next samples as ADC counts of 0.25 µV, (n_samples, 96) int16."""
        self._notice_stimulations()
        out = np.empty((n_samples, N_ELECTRODES), dtype=np.int16)
        done = 0
        while done < n_samples:
            index, offset = divmod(self.position + done, self._block_samples)
            part = self._blocks.block(index).counts[offset : offset + n_samples - done]
            out[done : done + len(part)] = part
            done += len(part)
        self.position += n_samples
        self.participant.handed_out(self.position)
        return out

    def read(self, n_samples: int) -> Floats:
        """The next samples in microvolts, (n_samples, 96) float32."""
        return self.read_counts(n_samples) * np.float32(COUNT_UV)

    def block(self, index: int) -> BroadbandBlock:
        """Block `index` of 20 ms with its true spikes; does not move the reader."""
        return self._blocks.block(index)

    def _notice_stimulations(self) -> None:
        """Stimulations lie beyond all samples handed out, so at most the blocks at hand must be made again."""
        for delivered in self.participant.delivered[self._seen :]:
            self._blocks.forget_from(delivered.onset_sample // self._block_samples)
        self._seen = len(self.participant.delivered)

    def _make(self, index: int, state: BroadbandState) -> tuple[BroadbandBlock, BroadbandState]:
        n, bins = self._block_samples, BLOCK_BINS
        first_bin, first_sample = index * bins, index * n
        drive = self.participant.drive(first_bin, bins)
        potential = np.zeros((n + self._template, N_ELECTRODES), dtype=np.float32)
        potential[: self._template] = state.spill
        last_spike_s = state.last_spike_s.copy()
        spikes, which = fire(
            draws.word(*self._path, "spikes"), first_bin, self.units.rates_hz(drive),
            self.participant.settings.samples_per_bin, last_spike_s, self.units.electrode, self.units.template_uv,
            potential,
        )  # fmt: skip
        spill = potential[n:].copy()
        self._add_artifacts(potential, first_sample)
        hum, mains_after = mains(state.mains, self._path, index, n, self.participant.settings.rate_hz)
        offset = first_bin % BACKGROUND_BINS
        field = self._contact * self._background.block(first_bin // BACKGROUND_BINS)[offset : offset + bins]
        white = np.empty((2, n, N_ELECTRODES), dtype=np.float32)
        draws.fill_normal(draws.word(*self._path, "white", index), white.reshape(-1), draws.QUANTILES)
        size = self._hash * np.maximum(1 + self._hash_slope * drive, np.float32(0.05))
        filters = state.filters.copy()
        counts = mix_and_digitise(
            potential[:n], white, size, self._thermal, state.field, field, hum, self._mains_gain,
            self._sections, self._slow, filters, np.float32(1 / COUNT_UV), np.float32(RAIL_COUNTS),
        )  # fmt: skip
        for one, other in self._shorted:
            counts[:, [one, other]] = ((counts[:, one].astype(np.int32) + counts[:, other]) // 2)[:, None]
        after = BroadbandState(filters, spill, last_spike_s, field[-1].copy(), mains_after)
        return BroadbandBlock(counts, spikes, which), after

    def _add_artifacts(self, potential: Floats, first_sample: int) -> None:
        """Add to the block's rows what each recent train does to the amplifiers."""
        if not self.participant.settings.artifacts:
            return
        n, bins = self._block_samples, BLOCK_BINS
        felt = self.participant.within(first_sample // self.participant.settings.samples_per_bin, bins)
        self._artifacts = {d.number: self._artifacts[d.number] for d in felt if d.number in self._artifacts}
        for delivered in felt:
            if delivered.number not in self._artifacts:
                made = artifact(self.participant.settings, self.participant.anatomy, delivered)
                self._artifacts[delivered.number] = made
            wave, size = self._artifacts[delivered.number]
            start = delivered.onset_sample - first_sample
            lo, hi = max(0, start), min(n, start + len(wave))
            if lo < hi:
                potential[lo:hi] += wave[lo - start : hi - start] @ size

    def _break_electrodes(self) -> None:
        """Electrodes without contact pick up the mains and nothing else; one pair is shorted and shows its mean."""
        dead = ~self.participant.anatomy.truth.connected
        one, other = draws.at(self.participant.settings.seed, "short").choice(np.flatnonzero(~dead), 2, replace=False)
        self._shorted = [(int(one), int(other))]
        self._contact[dead] = 0
        self._hash[dead] = 0
        self._mains_gain[dead] *= 20
        self.units.template_uv[dead[self.units.electrode]] = 0


def _filters(rate_hz: int) -> tuple[Floats, np.float32]:
    """Second-order sections (hash high-pass and low-pass, analog low-pass), and the analog high-pass's coefficient."""
    top = 0.4 * rate_hz  # a slow converter's own anti-alias filter comes first
    sections = np.vstack([  # the hash pair is scaled below, so that unit white noise leaves it with unit rms
        butter(2, HASH_HZ[0], "highpass", fs=rate_hz, output="sos"),
        butter(2, min(HASH_HZ[1], top), "lowpass", fs=rate_hz, output="sos"),
        butter(2, min(ANALOG_HZ[1], top), "lowpass", fs=rate_hz, output="sos"),
    ])  # fmt: skip
    impulse = np.zeros(4096)
    impulse[0] = 1.0
    sections[0, :3] /= np.sqrt(np.sum(sosfilt(sections[:2], impulse) ** 2))
    return sections.astype(np.float32), np.float32(-np.expm1(-2 * np.pi * ANALOG_HZ[0] / rate_hz))
