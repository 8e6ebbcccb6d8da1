"""Ctrl-C while a long command works: it ends within 3 s, says at most one line, and leaves nothing half made."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from server.cli import INTERRUPTED, _interrupt_again
from server.demo import LIMITS
from tests.streaming.sources.files import write_nsx
from tests.training.sessions import small_session
from training.simulate import write_dataset

END_S = 3.0
DEADLINE_S = 120.0  # for a machine that has all else to do, and a kernel to compile


class Command:
    """A command in a process of its own; what it says on standard error goes to a file."""

    def __init__(self, said: Path, *arguments: object) -> None:
        self.said = said
        quiet = said.with_name("lsl_api.cfg")
        quiet.write_text("[ports]\nPortRange = 400\n[log]\nlevel = -3\n")
        with said.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server.cli", *map(str, arguments)],
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=os.environ | {"LSLAPICFG": str(quiet)},
                process_group=0,
            )

    def until(self, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not true():
            assert self.process.poll() is None, f"it ended before: {self.said.read_text()}"
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.01)

    def interrupt(self, everyone: bool = False, by: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C; returns the exit status. `everyone`: its children hear it too, as in a terminal."""
        began, before = time.monotonic(), self.lines()
        (os.killpg if everyone else os.kill)(self.process.pid, by)
        status = self.process.wait(20)
        assert time.monotonic() - began < END_S, "it took too long to end"
        after = self.lines()[len(before) :]
        assert "Traceback" not in self.said.read_text()
        assert status == 0 or len(after) <= 1, after
        return status

    def lines(self) -> list[str]:
        return self.said.read_text().splitlines()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def command(said: Path, *arguments: object) -> Iterator[Command]:
    one = Command(said, *arguments)
    try:
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)  # whatever it began, too
        one.process.wait()


def test_where_python_loses_it_it_comes_again(monkeypatch: pytest.MonkeyPatch):
    """What a weak reference's callback raises is only reported: the command would go on, deaf."""
    monkeypatch.setattr(sys, "unraisablehook", _interrupt_again)

    def ctrl_c(_: object) -> None:
        raise KeyboardInterrupt

    def watched() -> None: ...

    kept = weakref.ref(watched, ctrl_c)
    del watched  # here it is lost
    assert kept() is None
    with pytest.raises(KeyboardInterrupt):
        threading.Event().wait(END_S)


def long_recording(path: Path, channels: int = 96, minutes: int = 20) -> Path:
    """A file of silence that takes no room on the disk."""
    write_nsx(path, [(0, np.zeros((0, channels), np.int16))], [f"e{k + 1}" for k in range(channels)])
    header, samples = path.stat().st_size, minutes * 60 * 30_000
    with path.open("r+b") as file:
        file.seek(header - 4)
        file.write(struct.pack("<I", samples))
        file.truncate(header + 2 * channels * samples)
    return path


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["mua", "decode", "replay"])
def test_while_the_recording_is_opened(tmp_path: Path, name: str):
    """It is read from a pipe here, into which nobody writes."""
    pipe, writer = tmp_path / "a.wav", []
    os.mkfifo(pipe)

    def has_a_reader() -> bool:
        with contextlib.suppress(OSError):  # nobody reads yet
            writer.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writer)

    flags = [] if name == "replay" else ["--out", tmp_path / "out"]
    with command(tmp_path / "said", name, pipe, "--scale-uv", "0.25", *flags) as running:
        running.until(has_a_reader)
        assert running.interrupt() == INTERRUPTED
    os.close(writer[0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["mua", "decode"])
def test_no_output_that_is_not_whole(tmp_path: Path, name: str):
    recording, out = long_recording(tmp_path / "a.ns6"), tmp_path / "out"
    out.mkdir()
    file = out / {"mua": "mua.nwb", "decode": "predictions.parquet"}[name]
    with command(tmp_path / "said", name, recording, "--out", file) as running:
        running.until(lambda: any(path.stat().st_size > 1000 for path in out.iterdir()))
        assert running.interrupt() == INTERRUPTED
    assert left(out) == set()


def test_simulated_recordings_are_whole_or_not_there(tmp_path: Path):
    out = tmp_path / "data"
    with command(tmp_path / "said", "simulate", "--out", out, "--minutes", "10", "--level", "B") as running:
        running.until(lambda: out.is_dir() and any(path.stat().st_size > 1e6 for path in out.iterdir()))
        assert running.interrupt() == INTERRUPTED
    assert left(out) == set()


def test_pretraining_goes_on_where_it_was_interrupted(tmp_path: Path):
    for k in range(2):
        small_session(tmp_path / "data", f"s{k}", seed=k)
    (tmp_path / "settings.toml").write_text(
        '[training]\nsteps = 1000000\nbatch = 4\nvalidate_every = 5\nvalidation_windows = 8\nprecision = "32-true"\n'
    )
    arguments = ["pretrain", tmp_path / "data", "--out", tmp_path / "run", "--preset", "nano"]
    metrics = tmp_path / "run" / "metrics.jsonl"

    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in metrics.read_text().splitlines()] if metrics.exists() else []

    with command(tmp_path / "said", *arguments, "--settings", tmp_path / "settings.toml") as running:
        running.until(lambda: len(steps()) >= 2)
        assert running.interrupt() == INTERRUPTED
    before = steps()
    with command(tmp_path / "said", *arguments, "--resume") as running:
        running.until(lambda: len(steps()) >= len(before) + 2)
        assert running.interrupt() == INTERRUPTED
    assert steps()[len(before)] - before[-1] in (0, 5)  # the last line may be of a step that was not saved any more
    assert {"last.safetensors", "best.safetensors"} <= left(tmp_path / "run")


@pytest.mark.parametrize("wait", [False, True])
def test_replay(tmp_path: Path, wait: bool):
    recording = long_recording(tmp_path / "a.ns6", channels=4)
    flags = ["--wait"] if wait else []
    name = f"Replayed{os.getpid()}"
    with command(
        tmp_path / "said", "replay", recording, "--name", name, "--events", f"{name}Events", *flags
    ) as running:
        running.until(lambda: _on_the_network(name))
        if not wait:
            running.until(lambda: "sample 0" in (tmp_path / "said").read_text())
        assert running.interrupt() == (INTERRUPTED if wait else 0)


def test_simulate(tmp_path: Path):
    name = f"Simulated{os.getpid()}"
    with command(tmp_path / "said", "simulate", "--name", name, "--events", f"{name}Events") as running:
        running.until(lambda: _on_the_network(name))
        assert running.interrupt() == 0


@pytest.mark.parametrize(("cores", "word"), [(1, "calibrating"), (2, "written down")])
def test_an_experiment(tmp_path: Path, cores: int, word: str):
    flags = ["--calibration-minutes", "1", "--cores", cores]
    with command(tmp_path / "said", "experiment", "--out", tmp_path / "out", *flags) as running:
        running.until(lambda: any(word in line for line in running.lines()))
        running.until(lambda: cores == 1 or len(running.children()) >= cores)
        children = running.children()
        assert running.interrupt(everyone=True) == INTERRUPTED
    assert not psutil.wait_procs(children, END_S)[1]
    assert left(tmp_path) == {"said", "lsl_api.cfg"}


@pytest.mark.parametrize(("everyone", "by"), [(True, signal.SIGINT), (False, signal.SIGTERM)])
def test_a_live_experiment_ends_its_processes_and_leaves_no_folder(tmp_path: Path, everyone: bool, by: signal.Signals):
    flags = ["--live", "--minutes", "2", "--calibration-minutes", "1"]
    with command(tmp_path / "said", "experiment", "--out", tmp_path / "out", *flags) as running:
        running.until(lambda: any("armed" in line for line in running.lines()))
        children = running.children()
        assert {"simulate", "serve"} <= {word for child in children for word in child.cmdline()}
        assert running.interrupt(everyone, by) == INTERRUPTED
    assert not psutil.wait_procs(children, END_S)[1]
    assert left(tmp_path) == {"said", "lsl_api.cfg"}


def test_evaluating_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("TMPDIR", str(cache))
    (recording,) = write_dataset(tmp_path / "data", "threshold", minutes=1, level="A")
    flags = ["--limits", LIMITS, "--hop-s", "0.001", "--out", tmp_path / "out"]
    with command(tmp_path / "said", "evaluate-policy", recording, *flags) as running:
        running.until(lambda: list(cache.glob("phosphene-*/*")))
        assert running.interrupt() == INTERRUPTED
    assert not (tmp_path / "out").exists()
    assert not list(cache.glob("phosphene-*"))


def _on_the_network(name: str) -> bool:
    import pylsl

    # a known peer is asked half a second after the multicast group
    return bool(pylsl.resolve_byprop("name", name, timeout=2.0))


def test_serve_while_it_waits_and_while_it_reconnects(tmp_path: Path):
    name = f"Lost{os.getpid()}"
    source = ["--source", f"lsl:name='{name}'", "--port", "0"]
    with command(tmp_path / "waits", "serve", *source) as waits, command(tmp_path / "lost", "serve", *source) as loses:
        waits.until(lambda: _state(waits) == "waiting")
        assert waits.interrupt() == 0
        with command(tmp_path / "rig", "simulate", "--name", name, "--events", f"{name}Events") as rig:
            loses.until(lambda: _state(loses) == "running")
            rig.process.kill()
        loses.until(lambda: _state(loses) != "running")
        assert loses.interrupt() == 0


def _state(running: Command) -> str | None:
    found = re.search(r"http://\S+?:\d+", running.said.read_text())
    if found is None:
        return None
    with urllib.request.urlopen(f"{found[0]}/v1/status", timeout=10) as answer:
        return json.load(answer)["state"]
