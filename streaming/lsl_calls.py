"""The few calls of liblsl that a pulse waits for, without a wrapper around them.

pylsl lets go of the interpreter lock for each call and builds its arguments anew. Behind an inference, with cold
caches, that is most of what such a call costs, and whoever takes the lock meanwhile keeps it for up to 0.2 ms. What is
over within microseconds and waits for no thread of ours keeps it; to wait for samples lets go of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pylsl
from numpy.typing import NDArray
from pylsl.lib import lib
from pylsl.util import handle_error

_lib = ctypes.PyDLL(lib._name, handle=lib._handle)  # the library that pylsl has loaded, with its settings
_waiting = ctypes.CDLL(lib._name, handle=lib._handle)  # the same, letting go of the lock
_PULLS = {np.dtype(np.float32): _waiting.lsl_pull_chunk_f, np.dtype(np.int16): _waiting.lsl_pull_chunk_s}
for _pull in _PULLS.values():
    _pull.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t] * 2 + [ctypes.c_double, ctypes.c_void_p]
    _pull.restype = ctypes.c_size_t
_lib.lsl_local_clock.restype = ctypes.c_double
_lib.lsl_have_consumers.restype = _lib.lsl_push_sample_strt.restype = ctypes.c_int
ROOM = 1024  # bytes: several times a marker; a longer text gets its own
_NOW = ctypes.c_double(0.0)  # liblsl stamps a sample as it takes it, before it does anything else with it

local_clock: Callable[[], float] = _lib.lsl_local_clock


class TextOutlet:
    """An outlet of one string channel, kept alive. For one thread at a time."""

    def __init__(self, info: pylsl.StreamInfo) -> None:
        self._outlet = pylsl.StreamOutlet(info)
        self._handle = self._outlet.obj
        self._row = (ctypes.c_char_p * 1)()  # whose one string is the buffer's
        self._room(ROOM)
        self._push, self._consumers = _lib.lsl_push_sample_strt, _lib.lsl_have_consumers
        self.uid: str = self._outlet.get_info().uid()

    def push(self, text: str) -> bool:
        """Send `text`, which holds no NUL, stamped with this moment; False: nobody is connected, and nothing was sent.

        Raises:
            RuntimeError: liblsl did not take it.
        """
        encoded = text.encode()
        if len(encoded) >= len(self._buffer):
            self._room(len(encoded) + 1)
        self._buffer.value = encoded  # a copy costs less than to let the row point elsewhere
        if not self._consumers(self._handle):
            return False
        if code := self._push(self._handle, self._row, _NOW):
            raise RuntimeError(f"liblsl did not take a sample: error {code}")
        return True

    def has_consumers(self) -> bool:
        """Whether anyone is connected."""
        return bool(self._consumers(self._handle))

    def _room(self, size: int) -> None:
        self._buffer = ctypes.create_string_buffer(size)
        self._row[0] = ctypes.cast(self._buffer, ctypes.c_char_p)


class ChunkPull:
    """Pulls samples of an inlet into buffers of its own, which the next pull overwrites: `raw` (rows, channels),
    float32 or int16 as the stream has it, and `stamps` (rows,), seconds."""

    def __init__(self, inlet: pylsl.StreamInlet, rows: int, channels: int, dtype: str) -> None:
        self.raw: NDArray[Any] = np.empty((rows, channels), dtype)
        self.stamps = np.empty(rows)
        self._inlet, self._handle, self._pull = inlet, inlet.obj, _PULLS[self.raw.dtype]
        self._channels, self._row_bytes = channels, self.raw.strides[0]
        self._raw_at, self._stamps_at = self.raw.ctypes.data, self.stamps.ctypes.data
        self._error = ctypes.c_int(0)
        self._error_at = ctypes.addressof(self._error)

    def __call__(self, wait_s: float) -> int:
        """Wait up to `wait_s` for a sample, then take all that is there; returns how many rows.

        Raises:
            pylsl.util.LostError: the sender is gone.
        """
        found = self._take(0, 1, wait_s)
        return found + self._take(found, len(self.stamps) - found, 0.0) if found else 0

    def _take(self, row: int, rows: int, wait_s: float) -> int:
        raw_at, stamps_at = self._raw_at + row * self._row_bytes, self._stamps_at + row * 8
        values = self._pull(self._handle, raw_at, stamps_at, rows * self._channels, rows, wait_s, self._error_at)
        if self._error.value:
            handle_error(self._error)
        return int(values) // self._channels
