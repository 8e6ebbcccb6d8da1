"""The examples run as they stand, against the real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.server import seen
from tests.server.test_real_server import Running

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
JAVASCRIPT = EXAMPLES / "javascript"


@pytest.fixture
def port():
    """Of a service that says ten predictions every tenth of a second, one in five of them not vouched for."""
    running, ending = Running(), threading.Event()

    def say() -> None:
        while not ending.wait(0.1):
            running.live.say(8)
            running.live.say(2, probability=None, embedding=None, flags=("gap",))

    saying = threading.Thread(target=say)
    saying.start()
    yield running.port
    ending.set()
    saying.join()
    running.stop()
    assert not seen.faults, seen.faults[0]


def run(*arguments, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def test_python(port):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = run(sys.executable, EXAMPLES / "python/read_state.py", f"ws://127.0.0.1:{port}", "2", env=environment)
    assert len(said) == 2
    for line in said:
        (known,) = re.findall(r"^1\d\d\.\d\d s: 0\.\d\d on average; known (\d+)% of the time$", line)
        assert 60 <= int(known) <= 100


def node_with_ws():
    node = shutil.which("node")
    if node is None:
        return None
    there = subprocess.run([node, "-e", "require('ws')"], cwd=JAVASCRIPT, capture_output=True, timeout=60)
    return node if there.returncode == 0 else None


def test_javascript(port):
    node = node_with_ws()
    if node is None:
        pytest.skip("no node, or no `npm install` in examples/javascript")
    said = run(node, "read_state.js", f"ws://127.0.0.1:{port}", "3", cwd=JAVASCRIPT)
    assert said[-1] == "0 lost"
    assert len(said) >= 4
    assert all(re.fullmatch(r"1\d\d\.\d\d s: (0\.\d\d|not known \(gap\))", line) for line in said[:-1])


def test_matlab(port):
    octave = shutil.which("octave-cli") or shutil.which("octave")
    if octave is None:
        pytest.skip("no MATLAB and no Octave here: what the example rests on is held below")
    said = run(octave, "--eval", f"read_state('http://127.0.0.1:{port}', 2)", cwd=EXAMPLES / "matlab")
    assert all("on average" in line for line in said)


def test_what_the_matlab_example_rests_on():
    """Its fields are in the document, and always there: jsondecode then makes a struct array of the predictions."""
    text = (EXAMPLES / "matlab/read_state.m").read_text()
    schemas = seen.OPENAPI["components"]["schemas"]
    of = {
        "answer": schemas["Held"],
        "status": schemas["Status"],
        "new(end)": schemas["Prediction"],
        "one": schemas["Prediction"],
    }
    for name, schema in of.items():
        fields = set(re.findall(rf"\b{re.escape(name)}\.(\w+)", text))
        assert fields, name
        assert fields <= set(schema["properties"]), name
    paths = set(re.findall(r"/v1/\w+", text))
    assert {"get"} == {method for path in paths for method in ("get",) if method in seen.OPENAPI["paths"][path]}


EMPTY = ()  # MATLAB's []


def jsondecode(text):
    """As MATLAB's: null and an empty list become [], a list of texts a cell of them."""
    fields = json.loads(text)
    return SimpleNamespace(**{name: EMPTY if value in (None, []) else value for name, value in fields.items()})


def strcmp(of, word):
    """As MATLAB's: one answer for each text of a cell, and false for what is neither text nor cell."""
    return [one == word for one in of] if isinstance(of, list) else of == word


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ('{"probability": 0.5, "flags": []}', True),
        ('{"probability": 0.5, "flags": ["overload"]}', True),
        ('{"probability": 0.5, "flags": ["drift"]}', False),
        ('{"probability": 0.5, "flags": ["overload", "gap"]}', False),
        ('{"probability": null, "flags": ["gap"]}', False),
        ('{"probability": null, "flags": []}', False),
    ],
)
def test_what_the_matlab_example_takes_for_known(text, known):
    """Its condition, word by word, on what jsondecode makes of a prediction."""
    matlab = (EXAMPLES / "matlab/read_state.m").read_text()
    (condition,) = re.findall(r"^p = NaN;\nif (.+)$", matlab, re.MULTILINE)
    for theirs, ours in (("~", "not "), ("&&", " and "), ("||", " or ")):
        condition = condition.replace(theirs, ours)
    words = {
        "one": jsondecode(text),
        "isempty": lambda value: value == EMPTY,
        "strcmp": strcmp,
        "all": lambda value: all(value) if isinstance(value, list) else value,
    }
    assert eval(condition, words) is known
