"""What can be chosen for pretraining, and the TOML file that holds it: tables [network], [training], [normaliser]."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from models.errors import OperatorFault
from models.networks.masked_autoencoder import PRESETS, MaeConfig
from streaming.signal.settings import NormaliserKind, NormaliserSettings
from training.cross_session import EMBEDDINGS, NORMS
from training.losses import CORRELATED
from training.masks import MASKINGS

TABLES = ("network", "training", "normaliser")  # of a settings file
PRECISIONS = ("32-true", "bf16-mixed")
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class PretrainSettings:
    """Defaults are the paper's. Learning rate: linear warm-up, then a cosine down to `final_rate`."""

    steps: int = 1_000_000
    batch: int = 32  # windows a step, over all processes
    micro_batch: int = 0  # windows that a process holds in memory at once; 0: all of its share
    rate: float = 1e-4
    final_rate: float = 1e-5
    warmup_steps: int = 5_000
    optimizer: str = "adamw"  # or "muon", for the matrices of the blocks (docs/decisions/muon.md)
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05  # of matrices; never of norms, biases, embeddings, tokens and the loss's scalars
    clip_norm: float = 1.0
    mask_ratio: float = 0.75
    masking: str = "random"  # or "tubes" (whole electrodes), "blocks" (the same stretch of time on all electrodes)
    electrode_dropout: float = 0.0  # how often an electrode that works is hidden from the encoder all the same
    correlation_weight: float = 0.1
    correlation_over: str = "channel"  # or "masked", "window"
    cross_session_weight: float = 0.01
    cross_session_norm: str = "siglip"  # or "mean", "balanced"
    cross_session_embedding: str = "pooled"  # or "projector", "register"
    cross_session_neighbours: int = 0  # pull together only windows that were doing alike; 0: all of different sessions
    sessions_per_batch: int = 8  # at most; a batch is spread evenly over so many, 0: windows from anywhere
    session_dropout: float = 0.1  # how often a window's session is the unknown one
    pretrain_mix: float = 0.0  # share of the windows that lie around stimulation, of the trials that train probes
    shuffle_time: bool = False  # a control: every window is made of bins from anywhere in its session
    precision: str = "bf16-mixed"
    compile: bool = False  # torch.compile: a minute or more before the first step, faster ones after
    deterministic: bool = False  # to the bit on a GPU too, at some cost; a CPU is so anyway
    validate_every: int = 5_000
    validation_windows: int = 2_048
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("masking", MASKINGS),
            ("correlation_over", CORRELATED),
            ("cross_session_norm", NORMS),
            ("cross_session_embedding", EMBEDDINGS),
            ("precision", PRECISIONS),
            ("optimizer", OPTIMIZERS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"found {name} = {getattr(self, name)!r}, expected one of: {', '.join(known)}")
        for name in ("steps", "batch", "validate_every", "validation_windows"):
            if getattr(self, name) < 1:
                raise ValueError(f"found {name} = {getattr(self, name)}, expected 1 or more")
        for name in ("mask_ratio", "electrode_dropout", "session_dropout", "pretrain_mix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"found {name} = {getattr(self, name)}, expected a share between 0 and 1")
        if self.cross_session_neighbours < 0:
            raise ValueError(f"found cross_session_neighbours = {self.cross_session_neighbours}, expected 0 or more")
        if self.cross_session_weight and self.sessions_per_batch < 2:
            raise ValueError(
                f"found sessions_per_batch = {self.sessions_per_batch}, expected 2 or more with a "
                "cross_session_weight: it compares sessions; or set that to 0"
            )


_PAPER = PretrainSettings()
_TINY = replace(
    _PAPER,
    steps=20_000,
    optimizer="muon",
    rate=3e-3,
    final_rate=2e-5,
    warmup_steps=20,
    validate_every=200,
    validation_windows=512,
)
# Those that a rig trains from a few recordings of its own do without the cross-session loss, which needs many days.
_FEW_DAYS = replace(_TINY, steps=4_000, cross_session_weight=0.0, sessions_per_batch=0)
SETTINGS: dict[str, PretrainSettings] = {
    "paper": _PAPER,
    "base": _PAPER,
    "small": replace(_PAPER, rate=5e-4, steps=200_000, validate_every=2_000),
    "tiny": _TINY,
    "micro": _FEW_DAYS,
    "live": _FEW_DAYS,
    "ci": replace(_TINY, steps=400, validate_every=100, validation_windows=128),
    "nano": replace(_FEW_DAYS, steps=200, batch=16, validate_every=50, validation_windows=64),
    "pico": _FEW_DAYS,
}
# Where and how fast a run goes on, not what it computes: these may change when it is resumed.
FREE = ("micro_batch", "compile", "deterministic")


def read_settings(file: Path, known: tuple[str, ...] = TABLES) -> dict[str, Any]:
    """The tables of a settings file, of which there may be those `known`.

    Raises:
        OperatorFault: not TOML, or a table that is not one of ours.
    """
    try:
        chosen = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise OperatorFault(f"{file} is not a settings file: {error}") from error
    if unknown := chosen.keys() - set(known):
        raise OperatorFault(f"{file}: found {', '.join(sorted(unknown))}, expected tables of {', '.join(known)}")
    return chosen


def asked_for(
    preset: str, out: Path, file: Path | None, resume: bool, known: tuple[str, ...] = TABLES
) -> dict[str, Any]:
    """What overrides `preset`: the tables of `file`, or those of the run in `out` where that is to be gone on with and
    no file is named.

    Raises:
        OperatorFault: no such preset, or what `read_settings` refuses.
    """
    if preset not in PRESETS:
        raise OperatorFault(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    if file is None and resume and (out / "settings.toml").exists():
        file = out / "settings.toml"
    return read_settings(file, known) if file else {}


def chosen_normaliser(chosen: dict[str, Any]) -> NormaliserSettings | None:
    """The normaliser that the settings ask for; None where they do not say.

    Raises:
        OperatorFault: an unknown kind or setting, or a number that is none.
    """
    if "normaliser" not in chosen:
        return None
    found = override(NormaliserSettings(), chosen["normaliser"], "normaliser")
    if found.kind not in get_args(NormaliserKind):
        raise OperatorFault(f"[normaliser]: no kind {found.kind!r}; there are: {', '.join(get_args(NormaliserKind))}")
    for name in ("window_s", "min_history_s", "floor_uv"):
        value = getattr(found, name)
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise OperatorFault(f"[normaliser]: found {name} = {value!r}, expected a number above 0")
    return found


def override(settings: Any, changes: dict[str, Any], table: str) -> Any:
    """The settings with these fields changed.

    Raises:
        OperatorFault: no such field, a value of another type, or one that the settings refuse.
    """
    for name, value in changes.items():
        default = getattr(settings, name, value)
        number = isinstance(default, float) and type(value) is int
        if type(value) is not type(default) and not number:
            raise OperatorFault(f"[{table}]: found {name} = {value!r}, expected a {type(default).__name__}")
    try:
        return replace(settings, **changes)
    except (TypeError, ValueError) as error:
        raise OperatorFault(f"[{table}]: {error}") from error


def to_toml(network: MaeConfig, settings: Any, normaliser: dict[str, Any], table: str = "training") -> str:
    """Numbers and plain strings only, so a JSON scalar is a TOML scalar. The default normaliser goes unsaid."""
    tables = {"network": asdict(network), table: asdict(settings)}
    if normaliser != asdict(NormaliserSettings()):
        tables["normaliser"] = normaliser
    return "\n".join(
        f"[{table}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        for table, values in tables.items()
    )


def refuse_other_settings(file: Path, text: str) -> None:
    """Raises OperatorFault where the run of settings `file` chose otherwise than `text`, naming what. What an older
    version could not choose yet counts as the default."""
    new = tomllib.loads(text)
    old = read_settings(file, (*TABLES, *new))
    defaults = {"network": asdict(MaeConfig()), "training": asdict(PretrainSettings())}
    for table in (*TABLES, *(new.keys() - set(TABLES))):
        was, wished = (defaults.get(table, {}) | one.get(table, {}) for one in (old, new))
        for name in sorted((was.keys() | wished.keys()) - set(FREE)):
            if was.get(name) != wished.get(name):
                raise OperatorFault(
                    f"{file.parent} holds a run with other settings or sessions: found [{table}] {name} = "
                    f"{was.get(name)!r}, asked for {wished.get(name)!r}; continue it as its settings.toml says"
                )
