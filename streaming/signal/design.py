"""Coefficients of the chain's filters, in the forms that the kernel runs.

Band-pass. `butter(4, band)` has its eight zeros at z = ±1, so each of its four biquads can be written with numerator
1 − z⁻² and one gain for all: three operations a sample where a general biquad needs five, and no output at DC.

Low-pass and pooling. Only one low-pass value in `rate / 1000` is kept, so the low-pass never runs sample by sample.
Written in state space (modal form, two rotations), the state after a bin of L samples and the mean of its L outputs are

    s' = A^L s + Σ_j A^(L-1-j) B u_j              m = c·s + Σ_j h_j u_j

which is five weighted sums over the bin's samples, and one small step of the state a bin, in float64. The same numbers
as filtering and averaging, half the work, and no float32 recursion with poles next to the unit circle.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from models.errors import RigFault
from streaming.signal.settings import BIN_RATE_HZ, ChainSettings

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 15_000.0, 40_000.0


@dataclass(frozen=True, slots=True)
class BinGrid:
    """Bin k holds the samples i with ⌊1000·i/rate⌋ = k (CONTRACT), in exact integers: rate = numerator/denominator."""

    numerator: int
    denominator: int

    @classmethod
    def of(cls, rate_hz: float) -> BinGrid:
        """The grid of a sampling rate.

        Raises:
            RigFault: a rate outside 15 to 40 kHz.
        """
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise RigFault(
                f"sampling rate: found {rate_hz:g} Hz, expected {LOWEST_RATE_HZ:g} to {HIGHEST_RATE_HZ:g} Hz; "
                "set the amplifier to a broadband rate"
            )
        exact = Fraction(rate_hz).limit_denominator(10_000)
        return cls(exact.numerator, exact.denominator)

    def first_sample(self, bin_index: int) -> int:
        """The first sample of a bin."""
        step = BIN_RATE_HZ * self.denominator
        return -(-bin_index * self.numerator // step)

    def bin_of(self, sample: int) -> int:
        """The bin that a sample falls in."""
        return sample * BIN_RATE_HZ * self.denominator // self.numerator


@dataclass(frozen=True, slots=True)
class FilterDesign:
    """`feedback` float32 (4, 2): a1, a2 of each band-pass biquad. For bins of each of the two lengths `lengths`:
    `sums` float32 (2, longest, 5): what a rectified sample adds to the four states and to the bin's mean, the
    band-pass gain folded in; `step` float64 (2, 4, 4): A^L; `carry` float64 (2, 4): c."""

    feedback: NDArray[np.float32]
    lengths: tuple[int, int]
    sums: NDArray[np.float32]
    step: NDArray[np.float64]
    carry: NDArray[np.float64]


def design(settings: ChainSettings, rate_hz: float) -> FilterDesign:
    """The filters of the chain at one sampling rate.

    Raises:
        RigFault: a rate outside 15 to 40 kHz, or a band that does not fit below half of it.
    """
    grid = BinGrid.of(rate_hz)
    if settings.band_hz[1] >= rate_hz / 2:
        raise RigFault(
            f"sampling rate: found {rate_hz:g} Hz, expected more than twice the band's {settings.band_hz[1]:g} Hz"
        )
    feedback, gain = _band_pass(settings, rate_hz)
    shortest = grid.numerator // (BIN_RATE_HZ * grid.denominator)
    lengths = (shortest, shortest + 1)
    state, into, out, through = _low_pass_modes(settings, rate_hz)
    sums = np.zeros((2, lengths[1], 5))
    step = np.zeros((2, 4, 4))
    carry = np.zeros((2, 4))
    for which, length in enumerate(lengths):
        powers = [np.linalg.matrix_power(state, n) for n in range(length + 1)]
        step[which] = powers[length]
        carry[which] = sum(out @ powers[m] for m in range(length)) / length
        for j in range(length):
            later = sum((out @ powers[m] @ into for m in range(length - 1 - j)), 0.0)
            sums[which, j, :4] = powers[length - 1 - j] @ into
            sums[which, j, 4] = (through + later) / length
    return FilterDesign(
        feedback=feedback.astype(np.float32),
        lengths=lengths,
        sums=np.ascontiguousarray(sums * gain, np.float32),
        step=step,
        carry=carry,
    )


def _band_pass(settings: ChainSettings, rate_hz: float) -> tuple[NDArray[np.float64], float]:
    """a1, a2 of the four biquads (4, 2), the most damped first so that nothing rings into the next, and the gain."""
    if settings.band_order != 4:
        raise RigFault(f"band-pass order: found {settings.band_order}, expected 4, as butter(4, band) takes it")
    _, poles, gain = signal.butter(settings.band_order, settings.band_hz, "bandpass", fs=rate_hz, output="zpk")
    upper = sorted((p for p in poles if p.imag > 0), key=abs)
    real = sorted(p.real for p in poles if p.imag == 0)  # wide bands at low rates have real poles too
    rows = [(-2 * p.real, abs(p) ** 2) for p in upper]
    rows += [(-(a + b), a * b) for a, b in zip(real[::2], real[1::2], strict=True)]
    return np.array(rows), float(gain)


def _low_pass_modes(
    settings: ChainSettings, rate_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """The low-pass as x' = A x + B u, y = C x + D u with A made of one 2 × 2 rotation for each pole pair.

    Partial fractions H(z) = D + Σ r/(z − p); a pair r, p gives A = |p|·rotation, B = (1, 0), C = 2 (Re r, −Im r).
    """
    if settings.lowpass_order != 4:
        raise RigFault(f"low-pass order: found {settings.lowpass_order}, expected 4, as butter(4, corner) takes it")
    zeros, poles, gain = signal.butter(settings.lowpass_order, settings.lowpass_hz, fs=rate_hz, output="zpk")
    state, into, out = np.zeros((4, 4)), np.zeros(4), np.zeros(4)
    for row, pole in enumerate(p for p in poles if p.imag > 0):
        others = [q for q in poles if q != pole]
        residue = gain * np.prod(pole - zeros) / np.prod([pole - q for q in others])
        at = slice(2 * row, 2 * row + 2)
        state[at, at] = [[pole.real, -pole.imag], [pole.imag, pole.real]]
        into[2 * row] = 1.0
        out[at] = 2 * residue.real, -2 * residue.imag
    return state, into, out, float(gain)


def signal_delay_s(settings: ChainSettings, rate_hz: float) -> float:
    """How long the chain delays the envelope, in seconds: band-pass group delay averaged over its power response, plus
    the low-pass at DC (Σ Re(−1/pole)/2π·corner), plus half a bin."""
    sections = signal.butter(settings.band_order, settings.band_hz, "bandpass", fs=rate_hz, output="ba")
    hertz = np.linspace(settings.band_hz[0] / 2, min(settings.band_hz[1] * 1.2, rate_hz / 2 * 0.99), 400)
    _, response = signal.freqz(*sections, worN=hertz, fs=rate_hz)
    phase = np.unwrap(np.angle(response))
    delay = -np.gradient(phase, hertz) / (2 * np.pi)
    band = float(np.average(delay, weights=np.abs(response) ** 2))
    _, poles, _ = signal.butter(settings.lowpass_order, 1.0, analog=True, output="zpk")
    low = float(np.sum(np.real(-1 / poles)) / (2 * np.pi * settings.lowpass_hz))
    return band + low + 0.5 / BIN_RATE_HZ
