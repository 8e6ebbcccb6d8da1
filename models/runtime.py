"""ONNX Runtime, silent: its wheels carry the maker's telemetry, and a rig tells nobody outside what it does.

The variable must be set before the library is loaded, so everything here imports `ort` from this file and no other.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

ort.disable_telemetry_events()

__all__ = ["ort"]
