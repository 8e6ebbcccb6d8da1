"""Nothing that runs a bundle writes or sends the maker's telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = """
from pathlib import Path
import time
from models.runtime import ort
ort.InferenceSession(next(Path("models/bundles").rglob("model.onnx")), providers=["CPUExecutionProvider"])
time.sleep(0.3)
"""


def test_no_telemetry_file_is_left_behind(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "ORT_DISABLE_TELEMETRY": ""}
    subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_onnx_runtime_is_loaded_in_one_place():
    for room in ("models", "server", "streaming", "training"):
        for file in (ROOT / room).rglob("*.py"):
            if file.relative_to(ROOT) != Path("models/runtime.py"):
                assert "import onnxruntime" not in file.read_text(), file
