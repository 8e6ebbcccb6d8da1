"""Where training runs: device, precision, processes; and how it is asked to end."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from models.errors import OperatorFault
from training.settings import PretrainSettings


def launch(settings: PretrainSettings, accelerator: str = "auto", devices: int = 1, nodes: int = 1) -> Any:
    """A Lightning Fabric. With more than one process this very command is started once for each other device of the
    node. torchrun and SLURM start all of them themselves, and each finds its place; torchrun says how many they are.

    Raises:
        OperatorFault: no such devices here.
    """
    from lightning.fabric import Fabric  # takes seconds to load

    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "torch.distributed.nn.functional.all_gather is deprecated")  # Fabric's own call
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=settings.precision)
        fabric.launch()
    except (RuntimeError, ValueError, TypeError) as error:  # Lightning's own are among them
        raise OperatorFault(f"--accelerator {accelerator} --devices {devices} --nodes {nodes}: {error}") from error
    if settings.batch % fabric.world_size:
        raise OperatorFault(
            f"found a batch of {settings.batch} windows for {fabric.world_size} processes, expected a multiple; "
            "change batch in [training] or the number of devices"
        )
    return fabric


def own_rows(fabric: Any, batch: int) -> slice:
    """The rows of a batch that are this process's."""
    share = batch // fabric.world_size
    return slice(share * fabric.global_rank, share * (fabric.global_rank + 1))


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM are noted instead of raised, so that a step that has begun is finished and saved; a second
    one is raised at once. Yields what says whether there was one."""
    asked = threading.Event()

    def note(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in signals}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
