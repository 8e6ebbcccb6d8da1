"""Options that several commands take, in the words that all of them use, and the Ctrl-C that ends what runs."""

from __future__ import annotations

import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="TOML file of settings; flags and PHOSPHENE__… come before it.")]
Model = Annotated[str | None, typer.Option(help="NAME[@VERSION] of a bundle.")]
Participant = Annotated[str | None, typer.Option(help="Who is connected, where the stream does not say.")]
Recording = Annotated[Path, typer.Argument(help="NWB, .ns5/.ns6, XDF, .wav, or a folder of Neuralynx or Open Ephys.")]
Scale = Annotated[float | None, typer.Option(help="Microvolts per count of a .wav, which does not say.")]
Session = Annotated[str | None, typer.Option(help="Name of the session, where the stream does not say.")]
Stream = Annotated[str | None, typer.Option(help="Which signal, where the file holds several.")]


class Mode(StrEnum):
    """The words of streaming.predictions.Mode."""

    continuous = "continuous"
    evoked = "evoked"


class Provider(StrEnum):
    """The words of models.manifest.ProviderName."""

    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class Precision(StrEnum):
    """The words of server.settings.Settings.precision."""

    auto = "auto"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


def set_at_signal(stop: threading.Event) -> None:
    """From now on Ctrl-C and SIGTERM set `stop`."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: stop.set())
