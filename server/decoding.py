"""POST /v1/decode: windows that a client brings, decoded on a session of their own so that the live one never waits."""

from __future__ import annotations

import io
import math
import threading
import tokenize
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from models.decoder import Decoded, Decoder
from models.errors import OperatorFault

# what NumPy raises for bytes that are no such file: it reads the header as a piece of Python
NOT_NPY = (
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    OverflowError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
ProbeName = Literal["prestimulus", "evoked"]


@dataclass(frozen=True, slots=True)
class Windows:
    """`windows` float32 (n, channels, bins) of normalised MUA, `usable` bool (n, channels)."""

    windows: NDArray[np.float32]
    usable: NDArray[np.bool_]


def read_windows(body: bytes, npy: bool, n_channels: int, n_bins: int) -> Windows:
    """Windows of a request body: an NPY array, or JSON `{"windows": […], "usable": […]}` (`usable` may be left out).

    Raises:
        OperatorFault: anything else than finite float32 of (n, n_channels, n_bins).
    """
    usable: Any = None
    if npy:
        windows = _from_npy(body)
    else:
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise OperatorFault(f"the body is not JSON: {error}") from None
        if not isinstance(fields, dict) or "windows" not in fields or set(fields) - {"windows", "usable"}:
            raise OperatorFault('expected a JSON object {"windows": [...], "usable": [...]}')
        windows, usable = _numbers(fields["windows"]), fields.get("usable")
    return check_windows(windows, usable, n_channels, n_bins)


def check_windows(windows: NDArray[np.float32], usable: Any, n_channels: int, n_bins: int) -> Windows:
    """Windows, and which of their channels are usable (None: all).

    Raises:
        OperatorFault: not finite, or not of (n, n_channels, n_bins).
    """
    if windows.ndim != 3 or windows.shape[1:] != (n_channels, n_bins) or not len(windows):
        raise OperatorFault(f"found windows of shape {windows.shape}, expected (n, {n_channels}, {n_bins}) with n >= 1")
    if not np.isfinite(windows).all():
        raise OperatorFault(
            "found windows that are not finite, expected finite z values; mark bad channels in `usable`"
        )
    if usable is None:
        return Windows(windows, np.ones(windows.shape[:2], bool))
    mask: NDArray[Any] = np.asarray(usable) if _is_regular(usable) else np.zeros(0)
    if mask.dtype != bool or mask.shape != windows.shape[:2]:
        raise OperatorFault(f"found `usable` of another kind, expected {windows.shape[:2]} of true and false")
    return Windows(windows, mask)


class WindowDecoder:
    """Decodes brought windows, one request at a time (whatever thread calls it)."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._lock = threading.Lock()

    def decode(self, asked: Windows, probe: ProbeName) -> dict[str, Any]:
        """Model, probabilities (None where the bundle has no such probe) and embeddings, window by window."""
        decoded = self.steps(asked)
        return {
            "model": self.decoder.name,
            "probe": probe,
            "probabilities": [_probability(getattr(one, probe)) for one in decoded],
            "embeddings": [one.embedding if np.isfinite(one.embedding).all() else None for one in decoded],
        }

    def steps(self, asked: Windows) -> list[Decoded]:
        """What the bundle gives for each window."""
        with self._lock:
            return [
                self.decoder.step(window, usable) for window, usable in zip(asked.windows, asked.usable, strict=True)
            ]


def _probability(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _from_npy(body: bytes) -> NDArray[np.float32]:
    # The header is judged before NumPy allocates what it claims.
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"NPY version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if dtype != np.float32:
            raise ValueError(f"dtype {dtype}")
        if math.prod(shape) * 4 != len(body) - stream.tell():
            raise ValueError(f"{len(body) - stream.tell()} bytes of data for shape {shape}")
        stream.seek(0)
        array: NDArray[np.float32] = np.load(stream, allow_pickle=False)
    except NOT_NPY as error:
        raise OperatorFault(f"the body is not what np.save writes of float32 windows: {str(error)[:200]}") from None
    return array.astype(np.float32, copy=False)


def _numbers(value: Any) -> NDArray[np.float32]:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fi":
            raise ValueError(f"found {array.dtype}")
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    except (ValueError, OverflowError) as error:
        raise OperatorFault(f"windows: {str(error)[:200]}, expected numbers in three even levels of lists") from None


def _is_regular(value: Any) -> bool:
    try:
        np.asarray(value)
    except ValueError:
        return False
    return True
