"""Level A has the statistics that were asked for; level B, through the chain that serves, follows the same rates."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d
from scipy.signal import welch

from streaming.participant.broadband import Broadband
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.participant.stimulation import train
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings

SECONDS = 12
DELAY_BINS = 3  # of the causal chain


def through_the_chain(reader: Broadband, seconds: int, trains: tuple = ()) -> tuple[np.ndarray, np.ndarray]:
    """Envelope in µV and z, (bins, 96)."""
    chain = SignalChain(ChainSettings(), 30_000, 96)
    for onset, stimulation in trains:
        chain.stimulation(onset, stimulation.last_pulse_end_s)
    envelope, z = [], []
    for k in range(10 * seconds):
        bins = chain.push(reader.read(3000), 3000 * k)
        envelope.append(bins.envelope_uv.copy())
        z.append(bins.z.copy())
    return np.concatenate(envelope), np.concatenate(z)


@pytest.fixture(scope="module")
def rest() -> tuple[Participant, np.ndarray, np.ndarray]:
    participant = Participant()
    reader = Broadband(participant)
    samples = reader.read(30_000 * 2)
    reader.seek(0)
    return participant, samples, through_the_chain(reader, SECONDS)[0]


def test_shares_of_the_latent_part_in_level_a():
    participant = Participant()
    envelope = LevelA(participant).read(60_000)
    latent = participant.drive(0, 60_000) * participant.anatomy.scale_uv
    assert 0.15 < np.median(latent.var(0) / envelope.var(0)) < 0.30
    mean = {k: x[: 60_000 // 128 * 128].reshape(-1, 128, 96).mean(1) for k, x in (("m", envelope), ("l", latent))}
    assert 0.60 < np.median(mean["l"].var(0) / mean["m"].var(0)) < 0.80


def test_level_b_follows_the_latent_rate(rest):
    participant, _, envelope = rest
    rate = participant.drive(500, len(envelope) - 500 - DELAY_BINS)
    found = [
        np.corrcoef(uniform_filter1d(a, 20), uniform_filter1d(b, 20))[0, 1]
        for a, b in zip(envelope[500 + DELAY_BINS :].T, rate.T, strict=True)
    ]
    assert np.mean(found) >= 0.5
    assert np.mean(np.array(found) > 0.4) > 0.9


def test_level_b_has_the_size_of_level_a(rest):
    participant, _, envelope = rest
    level_a = LevelA(participant).read(10_000)
    assert np.median(envelope[500:].mean(0)) == pytest.approx(np.median(level_a.mean(0)), rel=0.1)
    assert np.median(envelope[500:].std(0)) == pytest.approx(np.median(level_a.std(0)), rel=0.25)


def test_the_spectrum_holds_hum_field_and_hash(rest):
    _, samples, _ = rest
    frequency, power = welch(samples, 30_000, nperseg=30_000, axis=0)
    power = np.median(power, axis=1)

    def at(low: float, high: float) -> float:
        return float(power[(frequency >= low) & (frequency <= high)].mean())

    assert at(50, 50) > 5 * at(60, 90)
    assert at(2, 8) > 10 * at(60, 90) > 100 * at(1000, 4000)
    assert 4 * at(12_000, 14_500) < at(1000, 4000)
    spike_band = np.sqrt(power[(frequency > 300) & (frequency < 6000)].sum())
    assert 8 < spike_band < 20


def test_true_spikes_stand_in_the_signal():
    reader = Broadband(Participant())
    samples, times, which = reader.read(30_000), [], []
    for k in range(49):
        times.append(reader.block(k).spike_samples)
        which.append(reader.block(k).spike_units)
    times, which = np.concatenate(times), np.concatenate(which)
    largest = np.argsort(-np.abs(reader.units.template_uv).max(axis=(1, 2)))[:20]
    troughs = []
    for unit in largest:
        starts = np.ceil(times[which == unit]).astype(int)
        seen = [samples[s : s + 48, reader.units.electrode[unit]] for s in starts]
        if len(seen) >= 5:
            shape = np.mean(seen, axis=0)
            troughs.append(abs(int(np.argmin(shape - shape.mean())) - round(0.45e-3 * 30_000)) <= 2)
            intervals = np.diff(times[which == unit])
            assert intervals.min() >= 0.002 * 30_000 - 1e-6
    assert len(troughs) >= 5
    assert np.mean(troughs) > 0.8


def test_an_artifact_alone_does_not_reach_the_decoding_window():
    """Equal noise with and without 81 µA artifacts: what they add to |z| in [170, 298) ms, on every electrode."""
    trains = tuple((30_000 * (2 + k) + 7 * k, train(e, 81.0)) for k, e in enumerate((6, 25, 53, 65)))
    z = {}
    for artifacts in (False, True):
        participant = Participant(ParticipantSettings(evoked=False, artifacts=artifacts))
        for onset, stimulation in trains:
            participant.stimulate(stimulation, onset)
        z[artifacts] = through_the_chain(Broadband(participant), 6, trains)[1]
    for onset, _ in trains:
        window = slice(onset // 30 + 170, onset // 30 + 298)
        assert np.abs(z[True][window] - z[False][window]).max() < 3


def test_artifacts_saturate_the_stimulated_electrode_and_spare_the_time_before():
    participant = Participant()
    participant.stimulate(train(34, 60.0), 3000)
    counts = Broadband(participant).read_counts(6000)
    assert np.abs(counts[3000:3020, 33]).max() == 32_764
    assert np.abs(counts[:3000]).max() < 4000
    others = np.delete(np.abs(counts[3000:6000]).max(0), 33) * 0.25
    assert np.median(others) > 100


def test_the_response_is_strongest_at_the_electrode_and_fades():
    participant = Participant()
    quiet = LevelA(Participant()).read(1500)
    participant.stimulate(train(34, 60.0), 30 * 500)
    evoked = LevelA(participant).read(1500) - quiet
    assert np.abs(evoked[:660]).max() < 1e-3
    assert evoked[670].argmax() == 33
    assert evoked[670, 33] > 1
    assert evoked[740, 33] < 0  # suppression follows


def test_dead_electrodes_hear_only_the_mains():
    participant = Participant(ParticipantSettings(day=40, faults=True))
    dead = np.flatnonzero(~participant.anatomy.truth.connected)
    assert len(dead) >= 2
    samples = Broadband(participant).read(30_000)
    frequency, power = welch(samples[:, dead[0]], 30_000, nperseg=15_000)
    assert power[frequency == 50] > 100 * power[frequency < 40].max()
    alike = np.corrcoef(np.delete(samples, dead, axis=1)[5000:], rowvar=False) - np.eye(96 - len(dead))
    assert np.sum(alike > 0.9999) == 2  # one shorted pair
