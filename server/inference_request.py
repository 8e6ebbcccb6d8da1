"""An infer request of the Open Inference Protocol, version 2, as windows: JSON, and raw tensors behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import OperatorFault
from models.manifest import Manifest
from server.decoding import Windows, check_windows

HEADER = "Inference-Header-Content-Length"  # bytes of JSON, where raw tensors follow it
TYPES: Mapping[str, tuple[str, str]] = {"window": ("FP32", "<f4"), "usable": ("BOOL", "?")}


@dataclass(frozen=True, slots=True)
class Asked:
    """An infer request: `outputs` name → whether as raw bytes."""

    id: str
    windows: Windows
    outputs: dict[str, bool]


def read_request(body: bytes, json_bytes: str | None, manifest: Manifest, n_channels: int, n_bins: int) -> Asked:
    """The body of an infer request; `json_bytes` is the header that says how much of it is JSON.

    Raises:
        OperatorFault: not such a body, tensors of another name, type or shape, an output that the bundle has not.
    """
    if json_bytes is not None and not (json_bytes.isdecimal() and int(json_bytes[:12]) <= len(body)):
        raise OperatorFault(f"found {HEADER} {json_bytes[:20]!r}, expected bytes of JSON, at most {len(body)}")
    size = len(body) if json_bytes is None else int(json_bytes)
    try:
        fields = orjson.loads(body[:size])
        inputs = {str(one["name"]): one for one in fields["inputs"]}
        outputs = fields.get("outputs") or []
        all_binary = bool((fields.get("parameters") or {}).get("binary_data_output", False))
        asked = {
            str(one["name"]): bool((one.get("parameters") or {}).get("binary_data", all_binary)) for one in outputs
        }
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise OperatorFault(f"found no infer request of the Open Inference Protocol, expected one: {error}") from None
    names = ["embedding", *sorted(manifest.probes)]
    if unknown := (inputs.keys() - TYPES.keys()) | (asked.keys() - set(names)):
        raise OperatorFault(
            f"found {', '.join(sorted(unknown))[:80]!r}, expected inputs window, usable; outputs {names}"
        )
    if "window" not in inputs:
        raise OperatorFault("found no input `window`, expected one")
    raw, tensors = body[size:], {}
    for name, one in inputs.items():
        tensors[name], raw = _tensor(name, one, raw)
    if raw:
        raise OperatorFault(f"found {len(raw)} bytes behind the tensors, expected none")
    windows = check_windows(tensors["window"], tensors.get("usable"), n_channels, n_bins)
    return Asked(str(fields.get("id") or ""), windows, asked or dict.fromkeys(names, all_binary))


def _tensor(name: str, one: dict[str, Any], raw: bytes) -> tuple[NDArray[Any], bytes]:
    """An input as an array, and what is left of the raw bytes."""
    datatype, dtype = TYPES[name]
    try:
        shape = [int(length) for length in one["shape"]]
        if one["datatype"] != datatype:
            raise ValueError(f"found datatype {one['datatype']!r}, expected {datatype}")
        count = math.prod(shape)
        if "data" in one:
            array = np.asarray(one["data"])
            if array.dtype.kind not in ("b" if datatype == "BOOL" else "fi"):
                raise ValueError(f"found data of another kind, expected {datatype}")
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
                array = array.astype(dtype)
        else:
            size = int(one["parameters"]["binary_data_size"])
            if size != count * np.dtype(dtype).itemsize or size > len(raw):
                raise ValueError(f"found {size} bytes, expected those of {shape}")
            array, raw = np.frombuffer(raw[:size], "u1" if datatype == "BOOL" else dtype), raw[size:]
            array = array != 0 if datatype == "BOOL" else array
        if min(shape, default=0) < 0 or array.size != count:
            raise ValueError(f"found {array.size} values, expected those of {shape}")
        return array.reshape(shape), raw
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise OperatorFault(f"input {name}: {str(error)[:200]}") from None
