"""The command line as a user meets it: exit status, one line per error, and an end within 3 s of Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import uuid
import wave
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import psutil
import pylsl
import pytest

from models.errors import Fault, OperatorFault
from server.cli import EXTRAS, LSL_LOOKS_IN, LSL_SETTINGS, offline, quieten_lsl, run, serving
from server.journal.writer import Journal
from server.settings import Settings
from server.wiring import listen, open_source
from streaming.sinks.broadband_outlet import broadband_stream_info
from tests.server.fakes import STREAM
from tests.streaming.sources.files import counts, write_xdf
from tests.streaming.sources.test_xdf import chunks, header

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["serve", "--prot", "1"], 2, "--prot"),
        (["serve", "--port", "many"], 2, "--port"),
        (["nothing"], 2, "nothing"),
        (["serve", "--host", "0.0.0.0"], 2, "this machine only"),
        (["serve", "--config", "/nowhere/rig.toml"], 2, "rig.toml"),
        (["serve", "--model", "other", "--port", "0"], 2, "other"),
        (["serve", "--source", "/nowhere/file.nwb", "--port", "0"], 2, "file.nwb"),
        (["decode", "/nowhere/file.nwb", "--out", "/nowhere/out.parquet"], 2, "file.nwb"),
    ],
)
def test_called_wrongly_is_one_line(arguments, status, word, capsys):
    assert run(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("phosphene: ")]
    assert len(lines) == 1
    assert word in lines[0]


def test_liblsl_is_quiet_unless_somebody_has_settings_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("server.cli.LSL_LOOKS_IN", LSL_LOOKS_IN[:2])
    monkeypatch.setenv("LSLAPICFG", "")  # so that it is put back afterwards
    monkeypatch.delenv("LSLAPICFG")
    (tmp_path / "lsl_api.cfg").write_text("[log]\nlevel = 4\n")
    quieten_lsl()
    assert "LSLAPICFG" not in os.environ
    (tmp_path / "lsl_api.cfg").unlink()
    quieten_lsl()
    assert os.environ["LSLAPICFG"] == str(LSL_SETTINGS)
    script = "import pylsl; pylsl.library_version(); pylsl.local_clock(); pylsl.resolve_streams(0.1)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")
    monkeypatch.setenv("LSLAPICFG", "mine.cfg")
    quieten_lsl()
    assert os.environ["LSLAPICFG"] == "mine.cfg"


def test_serve_opens_what_a_recording_does_not_say(tmp_path):
    path = tmp_path / "counts.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(30_000)
        file.writeframes(bytes(4 * 30_000))
    with pytest.raises(Fault, match="--scale-uv"):
        open_source(Settings(source=str(path)))
    assert open_source(Settings(source=str(path), scale_uv=0.25)).info.n_channels == 2
    for live in ("lsl:name='UtahArray'", "simulate"):
        with pytest.raises(OperatorFault, match="found a scale_uv, expected none"):
            open_source(Settings(source=live, scale_uv=0.25))
        with pytest.raises(OperatorFault, match="found a stream, expected none"):
            open_source(Settings(source=live, stream="raw"))


def test_a_session_in_a_file_ends_by_its_minutes(tmp_path, capsys):
    assert run(["simulate", "--out", str(tmp_path / "data"), "--seconds", "600"]) == 2
    assert "of sessions in files say --minutes" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_port_in_use_is_one_line(capsys):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "--port", str(port)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"phosphene: port {port} cannot be had (Address already in use); choose another with --port"
    ]


def test_a_second_engine_on_one_journal_is_one_line(tmp_path, capsys):
    path = tmp_path / "a.journal"
    first = Journal(path)
    assert run(["serve", "--port", "0", "--journal", str(path)]) == 1
    first.close()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
    assert "another engine writes it" in line


@pytest.mark.parametrize("command", [[], *([one.__name__] for one in (*serving.COMMANDS, *offline.COMMANDS))])
def test_every_command_has_help(command, capsys):
    assert run([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "--help" in out
    assert len(out.splitlines()[2].split()) > 3, "what it does"
    assert err == ""


def test_the_help_names_every_network():
    pytest.importorskip("torch")
    from models.networks.masked_autoencoder import PRESETS

    assert set(re.findall(r"\w+", offline.PRESETS)) - {"or"} == set(PRESETS)


@pytest.mark.parametrize("command", ["decode", "replay"])
@pytest.mark.parametrize(
    ("chosen", "word"), [([], "choose one with --stream"), (["--stream", "Third"], "no stream 'Third'; it holds")]
)
def test_a_file_of_several_streams_wants_one_that_is_there(command, chosen, word, tmp_path, capsys):
    part = chunks(counts(3000, 2), 0.0)
    second = header().replace(">UtahArray<", ">Second<")
    path = write_xdf(tmp_path / "two.xdf", [(header(), "int16", part), (second, "int16", part)])
    out = ["--out", str(tmp_path / "out.parquet")] if command == "decode" else []
    assert run([command, str(path), *out, *chosen]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
    assert word in line
    assert "Second" in line
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("module", ["server.app", "server.wiring", "server.cli"])
def test_serving_imports_no_training(module):
    heavy = {"torch", "lightning", "sklearn", "matplotlib", "pynwb", "neo", "pyxdf", "pyarrow", "onnx"}
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("threadpoolctl", ["calibrate", "a.nwb", "--out", "b"], "calibrate"),
        ("h5py", ["simulate", "--out", "b"], "files"),
    ],
)
def test_a_library_that_is_missing_is_one_line_with_its_extra(missing, arguments, extra):
    code = f"import sys; sys.modules[{missing!r}] = None; from server.cli import run; sys.exit(run({arguments}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    said = f"this command needs {missing}; install it with: pip install 'phosphene[{extra}]'"
    assert done.stderr == f"phosphene: {said}\n"


def test_an_extra_brings_what_it_is_named_for():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    comes_with = {"threadpoolctl": "scikit-learn", "h5py": "pynwb", "hdmf": "pynwb"}
    distributions = metadata.packages_distributions()
    for package, extra in EXTRAS.items():
        named = {re.split("[>=]", one)[0] for one in extras[extra]}
        assert named & {*distributions[package], comes_with.get(package)}, package


def test_doctor(capsys):
    assert run(["doctor"]) == 0
    assert "golden vectors hold here" in capsys.readouterr().out


@contextmanager
def command(*arguments):
    """A command in a process of its own, and the address that it says it serves on."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "server.cli", *arguments], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+?:\d+", line):
                break
        else:
            raise AssertionError("it ended before it served")
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def get(address):
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(address, wanted, deadline_s):
    end = time.monotonic() + deadline_s
    while True:
        status, body = get(address)
        if wanted(status, body):
            return body
        assert time.monotonic() < end, (status, body)
        time.sleep(0.05)


def interrupt(process, number=signal.SIGINT):
    began = time.monotonic()
    process.send_signal(number)
    status = process.wait(10)
    return status, time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_waits_for_a_stream_and_ends_when_told(number):
    with command("serve", "--port", "0", "--source", "lsl:name='NoSuchStream'") as (process, address):
        until(f"{address}/v1/status", lambda _, body: body.get("state") == "waiting", 60)
        status, problem = get(f"{address}/readyz")
        assert status == 503
        assert "looking for an LSL stream with name='NoSuchStream'" in problem["detail"]
        assert get(f"{address}/healthz") == (200, {"alive": True})
        status, seconds = interrupt(process, number)
    assert status == 0
    assert seconds < 3.0


def test_serve_hears_the_event_stream_that_it_is_told(monkeypatch):
    served = []
    monkeypatch.setattr("server.wiring.serve", served.append)
    assert run(["serve", "--events", "name='Mine'"]) == run(["serve"]) == 0
    assert [settings.events for settings in served] == ["name='Mine'", "name='StimEvents'"]


def test_two_streams_of_one_name_are_named_and_neither_is_taken():
    name = f"Two{uuid.uuid4().hex[:12]}"
    outlets = [
        pylsl.StreamOutlet(broadband_stream_info(STREAM, name, f"{name}-{k}", "int16", 0.25)) for k in ("a", "b")
    ]
    with command("serve", "--port", "0", "--source", f"lsl:name='{name}'") as (_, address):
        body = until(f"{address}/readyz", lambda _, body: "2 streams match" in body.get("detail", ""), 30)
        assert f"{name}-a" in body["detail"]
        assert f"{name}-b" in body["detail"]
        status = get(f"{address}/v1/status")[1]
        assert (status["state"], status["stream"], status["ready"]) == ("waiting", None, False)
        outlets.pop()
        until(f"{address}/readyz", lambda status, body: status == 503 and "silent" in body["detail"], 30)  # the other


def test_the_demonstration():
    with command("demo", "--port", "0") as (process, address):
        body = until(f"{address}/v1/status", lambda _, body: body.get("predictions", 0) > 10, 120)
        assert body["stream"]["source"] == "simulated"
        (participant,) = psutil.Process(process.pid).children()
        status, seconds = interrupt(process)
        assert not participant.is_running()
    assert status == 0
    assert seconds < 3.0
