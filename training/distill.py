"""A large teacher's embedding from a network that is small enough to serve live, learnt on resting windows, no labels.

The student is an encoder with a projection to the width of the teacher's embedding, which it keeps: what it serves is
an estimate of what the teacher would have served (docs/decisions/distillation.md). Its run is one like pretraining's:
`probe`, `evaluate` and `export` take its checkpoint as any other. Beside the files of `loop`, OUT holds the teacher's
embeddings, `teacher-….npy`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.errors import OperatorFault
from models.networks.flops import flops
from models.networks.masked_autoencoder import PRESETS, Encoder, MaeConfig
from streaming.signal.settings import NormaliserSettings
from training.checkpoints import BEST, load_encoder
from training.data import Session, open_sessions
from training.distill_settings import TABLES, DistillSettings
from training.frozen import freeze, read
from training.loop import refuse_other_run, run
from training.pretrain import identity
from training.probe import refuse_other_origin
from training.processes import launch
from training.pupil import Lessons, Pupil
from training.sampler import evenly, split
from training.settings import asked_for, override, to_toml
from training.targets import targets


def distill(
    teacher: Path,
    data: list[Path],
    out: Path,
    preset: str = "live",
    steps: int | None = None,
    settings_file: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    accelerator: str = "auto",
) -> None:
    """Trains a student of `preset` on recordings of rest, and leaves checkpoints in `out`. Sessions are normalised as
    the teacher's were, by its frozen statistics where it has some.

    `settings_file` is TOML with tables [network] and [distillation] that override the preset.

    Raises:
        OperatorFault: no such teacher or preset, sessions of another array, participant or chain than its own, an
            unknown setting, or `out` holds a run that this call would not continue.
        RigFault: a recording cannot be used.
    """
    chosen = asked_for(preset, out, settings_file, resume, (*TABLES, "normaliser"))
    encoder, about = load_encoder(teacher)
    settings = override(DistillSettings(seed=seed), chosen.get("distillation", {}), "distillation")
    settings = replace(settings, steps=steps or settings.steps, teacher=digest(teacher))
    sessions = open_sessions(data, out / "cache", NormaliserSettings(**about["sessions"]["chain"]["normaliser"]))
    refuse_other_origin(about, sessions)
    fitting = {"channels": encoder.config.channels, "bins": encoder.config.bins, "sessions": len(sessions)}
    network = override(PRESETS[preset], fitting | chosen.get("network", {}), "network")
    train_student(encoder, about, sessions, out, network, settings, resume, fabric=launch(settings, accelerator))


def train_student(
    teacher: Encoder,
    about: dict[str, Any],
    sessions: list[Session],
    out: Path,
    network: MaeConfig,
    settings: DistillSettings,
    resume: bool = False,
    stop_at: int | None = None,
    fabric: Any = None,
) -> None:
    """The run itself, of a teacher whose checkpoint says `about` of itself. Validation is on the sessions of the last
    dates, as in pretraining."""
    fabric = launch(settings) if fabric is None else fabric
    network = replace(network, embedding=teacher.config.latent_width)
    _refuse_other_window(teacher.config, network)
    text = to_toml(network, settings, sessions[0].header.chain["normaliser"], "distillation")
    refuse_other_run(out, text, resume)
    training, held_out = split(sessions, network.bins)
    sessions = freeze(sessions, {}, read(about["sessions"].get("frozen")))
    lessons, exam = (
        Lessons(sessions, targets(teacher, settings.teacher, sessions, each, out, fabric), network.bins, settings)
        for each in (evenly(training, settings.windows), evenly(held_out, settings.validation_windows))
    )
    told = {
        "network": asdict(network),
        "training": about["training"],  # how its teacher was trained, and how a control of its size would be
        "distillation": asdict(settings),
        "teacher": {"network": about["network"], "step": about["step"], "flops": flops(teacher.config)},
        "flops": flops(network),
        "sessions": _seen(about["sessions"], identity(sessions)),
    }
    pupil = Pupil(fabric, network, settings, lessons.targets)
    run("distill", pupil, lessons.from_step, exam.all(), out, text, told, settings, fabric, stop_at)


def digest(checkpoint: Path) -> str:
    """Of the weights, in a run's folder or as a file."""
    return hashlib.sha256((checkpoint / BEST if checkpoint.is_dir() else checkpoint).read_bytes()).hexdigest()


def _seen(teachers: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What the student has seen, its teacher's sessions among it: it is to be evaluated on none of them, nor on dates
    between theirs."""
    names = own["names"] + [name for name in teachers["names"] if name not in own["names"]]
    return own | {"names": names, "dates": sorted({*own["dates"], *teachers.get("dates", [])})}


def _refuse_other_window(teacher: MaeConfig, student: MaeConfig) -> None:
    for name in ("channels", "bins"):
        if (found := getattr(student, name)) != (expected := getattr(teacher, name)):
            raise OperatorFault(
                f"[network]: found {name} = {found}, expected the teacher's {expected}: both read the same windows"
            )
