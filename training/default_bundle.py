"""The recipe of the shipped bundle: `python -m training.default_bundle`, half an hour on two cores.

One simulated participant throughout. Resting sessions of the weeks before pretrain the encoder, at level A (the
envelope, written directly) or B (broadband, through the chain that serves); hours of stimulation at level B give the
probes their trials. The pooling is learned from both, without answers: from rest, and from between the stimulations.
Later days at level B, never fitted to, are what the model card reports, with the bundle that ships now beside the new
one on the same trials.
Every stage leaves its result under OUT and is skipped when that stands, so a kill loses one session or a few hundred
steps.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from models.bundle import find_bundle, verify, versions
from models.networks.masked_autoencoder import PRESETS
from models.networks.slow_pooling import Embedder
from models.onnx_decoder import open_bundle
from streaming.ahead import trains_ahead
from streaming.chunk import Chunk
from streaming.participant.broadband import COUNT_UV, Broadband
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.session import Event
from streaming.participant.session import Session as SimulatedSession
from streaming.participant.settings import BIN_RATE_HZ, N_ELECTRODES, ParticipantSettings
from streaming.participant.stimulation import percept_probability
from streaming.participant.trials import Protocol
from streaming.participant.window_observer import WINDOW_BINS, WindowObserver
from streaming.pipeline import EVOKED_START_BINS
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings
from training.data import Session, SessionHeader, Trial, normalise, read_session, settled, write_session
from training.export import export_bundle
from training.precisions import HELD_OUT
from training.pretrain import SETTINGS, PretrainSettings, load_encoder, train
from training.probe import ROWS, SAME_SESSIONS, fit_probes, percent, write_probes
from training.slow_pooling import learn, resting
from training.trials import training_ends

PARTICIPANT = "simulated"
LATER_DAYS = "later days"
PAIRED = (
    "electrodes_lost",
    "older",
    "tokens",
    "statistics",
    "mean_pooling",
    "untrained_encoder",
    "principal_components",
    "stimulus_only",
)
SHIPPED = Path(__file__).parents[1] / "models" / "bundles"
FIRST_DAY = np.datetime64("2026-01-05")


@dataclass(frozen=True)
class Recipe:
    """How much of everything. Session numbers keep clear of 0, which the demo shows."""

    rest_sessions: int = 40
    rest_days: int = 20  # the last of them the day of the stimulations, day 0
    rest_s: int = 210
    rest_level: str = "A"
    preset: str = "ci"
    cross_session: float | None = None  # weight of the cross-session loss; None: the preset's
    steps: int = 3_000
    fitting_sessions: int = 9
    fitting_s: int = 1_200
    later_days: tuple[int, ...] = (1, 3, 7)
    later_s: int = 2_400


QUICK = Recipe(
    rest_sessions=4,
    rest_days=2,
    rest_s=60,
    steps=60,
    fitting_sessions=2,
    fitting_s=240,
    later_days=(1,),
    later_s=240,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/default_bundle"), help="working folder")
    parser.add_argument("--quick", action="store_true", help="the whole recipe in two minutes, installed nowhere")
    parser.add_argument("--threads", type=int, default=2, help="cores to use")
    parser.add_argument("--rest-level", choices=("A", "B"), default="A", help="B is installed nowhere")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="ci", help="another is installed nowhere")
    parser.add_argument("--cross-session", type=float, help="weight of that loss; another is installed nowhere")
    arguments = parser.parse_args()
    recipe = replace(
        QUICK if arguments.quick else Recipe(),
        rest_level=arguments.rest_level,
        preset=arguments.preset,
        cross_session=arguments.cross_session,
    )
    torch.set_num_threads(arguments.threads)
    bundle = make(arguments.out / ("quick" if arguments.quick else "full"), recipe, arguments.threads)
    if recipe == Recipe():
        bundle = _ship(bundle)
    print(bundle)


def make(out: Path, recipe: Recipe, workers: int) -> Path:
    """All stages; returns the bundle's directory."""
    console = Console()
    took: dict[str, float] = json.loads(_read(out / "took.json", "{}"))

    def stage(name: str, *jobs: Any) -> list[Session]:
        started = time.monotonic()
        sessions = _make_sessions(out / name, list(jobs), workers, console)
        took[name] = took.get(name, 0.0) + time.monotonic() - started
        _write(out / "took.json", json.dumps(took))
        return sessions

    days = [1 - recipe.rest_days + k * recipe.rest_days // recipe.rest_sessions for k in range(recipe.rest_sessions)]
    rest = stage("rest", *(_Job(recipe.rest_level, day, 100 + k, recipe.rest_s, "rest") for k, day in enumerate(days)))
    fitting = stage("fitting", *(_Job("B", 0, 200 + k, recipe.fitting_s) for k in range(recipe.fitting_sessions)))
    later = stage("later", *(_Job("B", day, 300, recipe.later_s, observed=True) for day in recipe.later_days))
    started = time.monotonic()
    _pretrain(rest, out / "pretrain", recipe)
    took["pretrain"] = took.get("pretrain", 0.0) + time.monotonic() - started
    _write(out / "took.json", json.dumps(took))

    encoder, about = load_encoder(out / "pretrain")
    if not all((out / "probes" / name).exists() for name in ("probes.json", HELD_OUT)):
        started = time.monotonic()
        console.print("fitting probes and baselines")
        by_day = {f"day {day}": [session] for day, session in zip(recipe.later_days, later, strict=True)}
        everything = rest + fitting
        seen = resting(everything, training_ends(everything, encoder.config.bins), encoder.config)
        embedder = Embedder(encoder, learn(encoder, seen)).eval()
        older = open_bundle(find_bundle(SHIPPED, "default"), "cpu", "float32")
        fitted = fit_probes(embedder, fitting, {LATER_DAYS: later} | by_day, seen, older)
        write_probes(out / "probes", out / "pretrain", fitting, embedder, fitted)
        took["probes"] = time.monotonic() - started
        _write(out / "took.json", json.dumps(took))
    probes = json.loads((out / "probes" / "probes.json").read_text())["probes"]

    shutil.rmtree(out / "repository", ignore_errors=True)
    version = versions(SHIPPED, "default")[-1] + 1
    bundle = export_bundle(
        out / "pretrain",
        out / "probes",
        out / "repository",
        "default",
        PARTICIPANT,
        card=_card(recipe, about, probes, took, version),
        provenance={"recipe": vars(recipe), "minutes": {name: seconds / 60 for name, seconds in took.items()}},
        version=version,
    )
    verify(find_bundle(out / "repository", "default"))
    return bundle


# Sessions ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    level: str
    day: int
    session: int
    seconds: int
    protocol: Protocol = "threshold"
    observed: bool = False  # with the ideal observer of each trial's windows

    @property
    def name(self) -> str:
        return f"day-{self.day:02d}_session-{self.session}_{self.level}_{self.seconds}s"


def _make_sessions(folder: Path, jobs: list[_Job], workers: int, console: Console) -> list[Session]:
    missing = [job for job in jobs if not (folder / job.name / "session.json").exists()]
    if missing:
        with ProcessPoolExecutor(workers) as pool:
            for job, _ in zip(missing, pool.map(_make_session, [folder] * len(missing), missing), strict=True):
                console.print(f"{folder.name}: {job.name}")
    return [read_session(folder / job.name) for job in jobs]


def _make_session(folder: Path, job: _Job) -> Path:
    settings, chain = ParticipantSettings(day=job.day, session=job.session), ChainSettings()
    participant = Participant(settings)
    array = participant.anatomy.map
    if job.level == "A":
        envelope = LevelA(participant).read(job.seconds * BIN_RATE_HZ)
        usable = np.broadcast_to(participant.anatomy.truth.connected, envelope.shape)
        z = normalise(envelope, np.ones(len(envelope), bool), usable, chain)
    else:
        z, usable = _through_the_chain(participant, chain, job.protocol, job.seconds)
    observed = _window_observers(participant) if job.observed else [{}] * len(participant.delivered)
    header = SessionHeader(
        name=job.name,
        date=str(FIRST_DAY + job.day),
        participant=PARTICIPANT,
        labels=array.labels,
        positions=array.positions,
        rate_hz=float(settings.rate_hz),
        chain=chain.to_dict(),
        trials=tuple(
            Trial(
                onset_s=one.onset_sample / settings.rate_hz,
                electrode=one.stimulation.electrode or 0,
                current_ua=one.stimulation.current_ua or 0.0,
                perceived=one.perceived,
                observers={"state": one.probability} | seen,
            )
            for one, seen in zip(participant.delivered, observed, strict=True)
        ),
    )
    return write_session(folder, header, z, settled(usable, chain))


def _through_the_chain(
    participant: Participant, chain_settings: ChainSettings, protocol: Protocol, seconds: int
) -> tuple[Any, Any]:
    """A session of broadband, a second at a time, through the chain that serves."""
    rate = participant.settings.rate_hz
    session = SimulatedSession(participant, protocol, seconds)
    broadband, chain = Broadband(participant), SignalChain(chain_settings, rate, N_ELECTRODES)
    z = np.zeros((seconds * BIN_RATE_HZ, N_ELECTRODES), np.float32)
    usable = np.zeros(z.shape, bool)

    def heard() -> Iterator[tuple[Chunk, list[Event]]]:
        for second in range(seconds):
            events = session.advance(rate)  # before the samples that it changes are read
            samples_uv = broadband.read_counts(rate) * np.float32(COUNT_UV)
            yield Chunk(samples_uv, second * rate, second + 1.0, second + 1.0), events

    for chunk, trains in trains_ahead(heard()):
        for sample, stimulation in trains:
            chain.stimulation(sample, stimulation.last_pulse_end_s)
        bins = chain.push(chunk.samples_uv, chunk.first_sample)
        z[bins.first_bin : bins.end_bin] = bins.z
        usable[bins.first_bin : bins.end_bin] = bins.usable
    return z, usable


def _window_observers(participant: Participant) -> list[dict[str, float]]:
    """What the ideal observer makes of each trial's windows, read at level A: no amplifier, no chain."""
    settings, anatomy, delivered = participant.settings, participant.anatomy, participant.delivered
    observer, envelope = WindowObserver(settings, anatomy), LevelA(participant)

    def windows(offset: int) -> Any:
        read = []
        for one in delivered:
            envelope.seek(one.onset_bin + offset)
            read.append(envelope.read(WINDOW_BINS))
        return np.stack(read)

    state = observer.state_estimate(windows(-WINDOW_BINS)) + anatomy.truth.state_offset
    current = np.array([one.stimulation.current_ua for one in delivered])
    threshold = anatomy.threshold_ua[[(one.stimulation.electrode or 1) - 1 for one in delivered]]
    before = percept_probability(settings, current, threshold, state)
    after = observer.probability(windows(EVOKED_START_BINS), delivered)
    return [{"prestimulus": float(p), "evoked": float(q)} for p, q in zip(before, after, strict=True)]


# Stages --------------------------------------------------------------------------------------------------------------


def _pretrain(sessions: list[Session], out: Path, recipe: Recipe) -> None:
    network = replace(PRESETS[recipe.preset], sessions=len(sessions))
    settings: PretrainSettings = replace(
        SETTINGS[recipe.preset], steps=recipe.steps, validate_every=max(20, recipe.steps // 20)
    )
    if (weight := recipe.cross_session) is not None:
        per_batch = PretrainSettings.sessions_per_batch if weight else 0
        settings = replace(settings, cross_session_weight=weight, sessions_per_batch=per_batch)
    train(sessions, out, network, settings, resume=True)


def _ship(bundle: Path) -> Path:
    """In place of the version that ships: a repository need not carry both."""
    target = SHIPPED / "default" / bundle.name
    shutil.copytree(bundle, target)
    for version in versions(SHIPPED, "default"):
        if str(version) != bundle.name:
            shutil.rmtree(SHIPPED / "default" / str(version))
    return target


# The card ------------------------------------------------------------------------------------------------------------


def _card(recipe: Recipe, about: dict[str, Any], probes: dict[str, Any], took: dict[str, float], version: int) -> str:
    settings = ParticipantSettings()
    rest_h, fitting_h = recipe.rest_sessions * recipe.rest_s / 3600, recipe.fitting_sessions * recipe.fitting_s / 3600
    lines = [
        f"# default, version {version}",
        "",
        "Reads 128 ms of normalised MUA of 96 channels and says how probable it is that a stimulation is perceived.",
        f"Fitted to the simulated participant (seed {settings.seed}, state code `{settings.state_code}`): on any",
        "person's array its embeddings are of unknown worth and its probabilities are withheld.",
        "",
        "## How it was made",
        "",
        f"- Pretraining: {rest_h:.1f} h of rest at level {recipe.rest_level} in {recipe.rest_sessions} sessions of the "
        f"{recipe.rest_days} days up to day 0; preset `{recipe.preset}`, "
        f"best step {about['step']} of {recipe.steps}, held-out reconstruction {about['held_out']:.4f} z².",
        f"- Probes: {fitting_h:.1f} h of threshold trials at level B in {recipe.fitting_sessions} sessions of day 0, "
        f"through the live chain (sha256 {ChainSettings().sha256()[:12]}).",
        "- Read: two slow directions of the tokens (mean, spread, places and their power) and two of statistics of "
        "the window (means, ln variances, lagged covariances), learned without answers from windows of the resting "
        "sessions and from between the stimulations. The probes read these four numbers, which stand first in the "
        "embedding.",
        f"- Later days {', '.join(map(str, recipe.later_days))}: {recipe.later_s / 60:g} min each at level B. Nothing "
        "is fitted to them; preset and reading were compared on them (docs/decisions/served-embedding.md).",
        "- Minutes: " + ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in took.items()) + ".",
        "- Again: `python -m training.default_bundle`.",
        "",
    ]
    for name, one in probes.items():
        metrics = one["metrics"]
        same, later = metrics[SAME_SESSIONS], metrics[LATER_DAYS]
        lines += [
            f"## Probe `{name}`",
            "",
            f"{one['trials']} trials fitted, {same['probe']['trials']} later ones of the same sessions and "
            f"{later['probe']['trials']} of later days tested. Balanced accuracy in %, 95 % bootstrap intervals over "
            "trials (for permuted labels: over permutations; differences in pairs, on the same trials):",
            "",
            f"| | {SAME_SESSIONS} | {LATER_DAYS} |",
            "|---|---|---|",
        ]
        lines += [f"| {ROWS[row]} | {percent(same.get(row))} | {percent(later.get(row))} |" for row in ROWS]
        lines += [
            f"| probe less {ROWS[row]} | {percent(same[gain])} | {percent(later[gain])} |"
            for row in PAIRED
            if (gain := f"gain_over_{row}") in later
        ]
        lines += [f"| probe, {key} | | {percent(metrics[key]['probe'])} |" for key in metrics if "day " in key]
        lines += [
            "",
            f"Area under the curve {same['probe']['auc']:.3f}, later days {later['probe']['auc']:.3f}; calibration "
            f"error {same['probe']['calibration_error']:.3f}, later days {later['probe']['calibration_error']:.3f}.",
            "",
        ]
    return "\n".join(lines)


def _read(file: Path, otherwise: str) -> str:
    return file.read_text() if file.exists() else otherwise


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    os.replace(draft, file)


if __name__ == "__main__":
    main()
