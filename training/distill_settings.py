"""What can be chosen for distillation; in settings.toml the table [distillation]."""

from __future__ import annotations

from dataclasses import dataclass

from training.settings import OPTIMIZERS, PRECISIONS

TABLES = ("network", "distillation")  # of a settings file


@dataclass(frozen=True)
class DistillSettings:
    """Learning rate as in pretraining: linear warm-up, then a cosine down to `final_rate`. The teacher reads `windows`
    once and `validation_windows` of the held-out sessions; steps draw from those."""

    steps: int = 6_000
    batch: int = 64
    windows: int = 32_768
    validation_windows: int = 1_024
    validate_every: int = 200
    rate: float = 2e-3
    final_rate: float = 2e-5
    warmup_steps: int = 100
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    electrode_dropout: float = 0.0  # how often an electrode that works is hidden from the student, not the teacher
    precision: str = "32-true"  # students are small
    compile: bool = False
    deterministic: bool = False
    seed: int = 0
    teacher: str = ""  # sha256 of its weights; filled in

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"found {name} = {getattr(self, name)!r}, expected one of: {', '.join(known)}")
        for name in ("steps", "batch", "windows", "validation_windows", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"found {name} = {getattr(self, name)}, expected 1 or more")
        if not 0 <= self.electrode_dropout < 1:
            raise ValueError(f"found electrode_dropout = {self.electrode_dropout}, expected a share below 1")
