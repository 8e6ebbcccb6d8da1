"""The house's rules: who may import whom, and what serving never loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "models": {"models"},
    "streaming": {"models", "streaming"},
    "training": {"models", "streaming", "training"},
    "server": {"models", "streaming", "server", "training"},  # training: inside functions only, see below
    "phosphene_client": {"phosphene_client"},  # on a rig's own machine there is nothing else of ours
}
TORCH_ROOMS = ("models/networks/", "models/export.py", "training/", "server/bench/peer")  # the last: others' loops
ASYNC_ROOMS = ("server/",)


def modules() -> list[Path]:
    return sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def imported(tree: ast.AST) -> list[tuple[str, int]]:
    """(top-level package, column) of each import; column 0 means at module level."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], node.col_offset) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            found.append(((node.module or "").split(".")[0], node.col_offset))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_the_way_the_house_is_drawn(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    room = place.split("/")[0]
    for name, column in imported(ast.parse(path.read_text())):
        if name in MAY_IMPORT:
            assert name in MAY_IMPORT[room], f"{place} imports {name}"
        assert not (room == "server" and name == "training" and column == 0), f"{place} imports training when loaded"
        if name in ("torch", "lightning"):
            assert place.startswith(TORCH_ROOMS), f"{place} imports torch"
        if name == "asyncio":
            assert place.startswith(ASYNC_ROOMS), f"{place} imports asyncio"
        assert name != "pickle", f"{place} imports pickle"


def test_serving_loads_no_torch_and_no_file_readers() -> None:
    code = "import sys, server.app, server.wiring, server.cli; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "fastapi" in loaded
    assert not loaded & {
        "torch",
        "lightning",
        "pynwb",
        "hdmf",
        "neo",
        "h5py",
        "sklearn",
        "matplotlib",
        "onnx",
        "pyarrow",
    }


def test_every_package_is_listed() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in modules()}
    assert there == listed


UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy", "code"}


@pytest.mark.parametrize("room", ["models", "streaming", "server"])
def test_nothing_that_serves_runs_what_it_reads(room: str) -> None:
    """No pickle in any of its disguises, and no source text that becomes code. (numba keeps compiled code of ours in
    __pycache__, as Python does; whoever can write there can write the program.)"""
    for path in sorted((ROOT / room).rglob("*.py")):
        place, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())
        assert not {name for name, _ in imported(tree)} & UNPICKLES, place
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), f"{place}: {name}"
            assert name not in ("torch.load", "pd.read_pickle", "np.fromfile", "np.lib.format.read_array"), place
            assert not re.match(r"yaml\.\w*load", name) or name == "yaml.safe_load", f"{place}: {name}"
            said = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert said.get("shell", "False") == "False", f"{place}: {name} asks a shell"
            if name in ("np.load", "numpy.load", "load_array"):
                assert said.get("allow_pickle") == "False", f"{place}: {name} without allow_pickle=False"
            assert "pickle" not in name, f"{place}: {name}"
