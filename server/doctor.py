"""Is this machine fit to serve? One line per finding; what is wrong says how to mend it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time

import numpy as np

from models.errors import Fault
from models.manifest import ProviderName
from server.bundles import Bundles
from server.settings import PACKAGED
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings

PACKAGES = ("phosphene", "numpy", "scipy", "numba", "onnxruntime", "onnxruntime-gpu", "pylsl", "fastapi", "uvicorn")


def doctor(provider: ProviderName = "cpu") -> bool:
    """Print the findings; True when nothing is wrong. Each bundle is opened on `provider`."""
    sound = True

    def say(good: bool, what: str, found: str) -> None:
        nonlocal sound
        sound &= good
        print(f"{'ok   ' if good else 'WRONG'}  {what:<16} {found}")

    good = sys.version_info >= (3, 11)
    say(good, "Python", platform.python_version() + ("" if good else "; expected 3.11 or newer"))
    say(True, "system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    say(cores >= 2, "cores", f"{cores}" + ("" if cores >= 2 else "; expected 2: one for the signal, one for clients"))
    for name in PACKAGES:
        version = _version(name)
        if version is not None:
            say(True, name, version)
    try:
        import pylsl

        say(True, "liblsl", f"{pylsl.library_version() / 100:.2f}")
    except (ImportError, RuntimeError, OSError) as error:
        say(False, "liblsl", f"{str(error).splitlines()[0]}; install liblsl, or set PYLSL_LIB to it")
    try:
        from models.runtime import ort

        say(True, "providers", ", ".join(ort.get_available_providers()))
    except ImportError:
        say(False, "providers", "ONNX Runtime is not installed; pip install 'phosphene[cpu]' (or [gpu])")
        return False
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        say(False, "onnxruntime", "both onnxruntime and onnxruntime-gpu are installed; uninstall both, install one")
    say(True, "signal chain", f"compiled; {_chain_us():.1f} µs for a millisecond of 96 channels at 30 kHz")
    bundles = Bundles(PACKAGED, provider)
    names = [entry["name"] for entry in bundles.list()]
    if not names:
        say(False, "bundle", f"none in {PACKAGED}; install Phosphene again, or export one")
    for name in names:
        try:
            say(True, "bundle", f"{name} on {provider}, {bundles.open(name).choice}")
        except Fault as fault:
            say(False, "bundle", str(fault))
    return sound


def _chain_us() -> float:
    """Median microseconds; the first call compiles, which a new installation has to do once."""
    chain = SignalChain(ChainSettings(), 30_000, 96)
    samples = np.random.default_rng(0).standard_normal((30, 96)).astype(np.float32)
    taken = []
    for _ in range(2000):
        started = time.perf_counter()
        chain.push(samples, chain.next_sample)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e6


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
