"""Everything that can be configured, from flags, environment (PHOSPHENE__…), a TOML file and defaults, in that order.

PHOSPHENE__PORT=8001 PHOSPHENE__HOP_S=0.02 phosphene serve --config rig.toml --port 8002      # listens on 8002
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from models.errors import OperatorFault
from models.manifest import PrecisionName, ProviderName
from server.array_settings import ArraySettings, check_arrays
from server.trigger_settings import PlanSettings, Thresholds

PREFIX = "PHOSPHENE__"
LOOPBACK = ("127.0.0.1", "localhost")
Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$")]
TRIGGER = ("limits", "stimulator", "journal", "thresholds", "plan")
PACKAGED = Path(__file__).resolve().parent.parent / "models" / "bundles"


class Settings(ArraySettings, BaseSettings):
    """What `phosphene serve` needs to know: of the first array, and of the service."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, protected_namespaces=())

    arrays: dict[str, ArraySettings] = Field({}, description="further arrays, each a table [arrays.NAME]")
    bundles: Path = Field(PACKAGED, description="folder of bundles, NAME/VERSION")
    provider: ProviderName = Field("cpu", description="what runs the bundle: cpu, cuda or tensorrt; this or nothing")
    precision: Literal["auto"] | PrecisionName = Field(
        "auto", description="float32, float16, bfloat16 or int8; auto: int8 where its golden vectors hold, else float32"
    )
    keep_warm_s: float = Field(
        0.02, ge=0, le=10, description="a GPU that has idled so long computes one window for nothing; 0: never"
    )

    limits: Path | None = Field(None, description="TOML file of what may ever be asked for; without it, nothing")
    stimulator: str = Field("none", description="none, lsl, serial:PORT, udp:HOST:PORT or simulated, with ?options")
    journal: Path | None = Field(None, description="where triggers are written down; by default one per participant")
    thresholds: Thresholds = Field(default_factory=Thresholds, description="when a state counts as favourable")
    plan: PlanSettings | None = Field(None, description="arms, trials_per_arm, …; without it favourable moments only")

    host: str = Field("127.0.0.1", description="any other needs TLS and tokens (docs/security.md)")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0: any that is free")
    tls_cert: Path | None = Field(None, description="PEM file: the certificate, then those that vouch for it")
    tls_key: Path | None = Field(None, description="PEM file of its key, without a password")
    tokens: Literal["none"] | Path | None = Field(
        None, description="file of `phosphene token`; by default the user's, where it is there; none: ask for none"
    )
    origins: tuple[Origin, ...] = Field((), max_length=16, description="whose pages may speak to it, beside its own")
    log: Literal["text", "json"] = Field("text", description="for people, or one JSON object a line")
    outlet: bool = Field(True, description="whether predictions also go out on LSL")
    subscribers: int = Field(64, ge=1, le=1024, description="most WebSocket clients at once")
    depth: int = Field(64, ge=1, le=10_000, description="messages that a client may fall behind before the oldest go")
    hold_s: float = Field(600.0, gt=0, le=3600, description="how long predictions can be asked for again")
    deadline_s: float = Field(0.05, gt=0, description="newest sample to prediction; kept by 99 % or not ready")

    @field_validator("arrays")
    @classmethod
    def _told_apart(cls, arrays: dict[str, ArraySettings], told: ValidationInfo) -> dict[str, ArraySettings]:
        check_arrays(arrays, told.data.get("source", ""))
        return arrays

    @model_validator(mode="after")
    def _closed_to_others(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: found one of them, expected both or neither")
        if self.host not in LOOPBACK and (self.tls_cert is None or self.tokens == "none"):
            raise ValueError(
                f"host: found {self.host!r}, expected 127.0.0.1: without tls_cert, tls_key and tokens "
                "(docs/security.md) the service listens on this machine only; from elsewhere, forward the port "
                "(ssh -L 8000:127.0.0.1:8000 RIG)"
            )
        return self

    def of(self, name: str) -> Settings:
        """Those of a further array: what its table says, and the service's, but for the trigger's: the first array
        alone has one."""
        own = {key: getattr(self.arrays[name], key) for key in ArraySettings.model_fields}
        return self.model_copy(update={**own, "limits": None, "stimulator": "none", "journal": None, "plan": None})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(config: Path | None = None, **flags: Any) -> Settings:
    """Settings of flags (those that are not None) over environment over `config` over defaults.

    Raises:
        OperatorFault: a file that is not there or not TOML, an unknown key, or a value out of its range.
    """
    if config is not None:
        _check_toml(config)
    for name in os.environ:
        if name.startswith(PREFIX) and name[len(PREFIX) :].lower() not in _known():
            raise OperatorFault(f"{name}: found an unknown setting, expected one of {', '.join(_known())}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return FromFile(**{key: value for key, value in flags.items() if value is not None})
    except ValidationError as error:
        raise OperatorFault("; ".join(_sentence(dict(entry)) for entry in error.errors())) from None


def _check_toml(config: Path) -> None:
    try:
        tomllib.loads(config.read_text())
    except OSError as error:
        raise OperatorFault(f"{config}: {error.strerror}; --config takes a TOML file") from None
    except ValueError as error:
        raise OperatorFault(f"{config}: {error}; --config takes a TOML file") from None


def _sentence(entry: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in entry["loc"])
    if not name:  # of several settings together: the sentence names them
        return str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        return f"{name}: {_unknown(*entry['loc'])}"
    return f"{name}: {entry['msg'].removeprefix('Value error, ')}"


def _unknown(*where: str) -> str:
    key = where[-1]
    if where[0] != "arrays" or len(where) < 3:
        return f"found an unknown setting, expected one of {', '.join(Settings.model_fields)}"
    if key in TRIGGER:
        return (
            f"found {key} with a further array, expected it at the top of the file: only the first array may "
            "stimulate, since two triggers would each spend the participant's whole budget"
        )
    if key in Settings.model_fields:
        return (
            f"found a setting of the whole service, expected it at the top of the file, before any [arrays.{where[1]}]"
        )
    return f"found an unknown setting, expected one of {', '.join(ArraySettings.model_fields)}"


def _known() -> list[str]:
    """To the environment, where no table can stand."""
    return [name for name in Settings.model_fields if name != "arrays"]
