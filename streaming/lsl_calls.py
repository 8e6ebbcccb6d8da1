"""The few calls of liblsl that a pulse waits for, without a wrapper around them.

pylsl lets go of the interpreter lock for each call and builds its arguments anew. Behind an inference, with cold
caches, that is most of what such a call costs, and whoever takes the lock meanwhile keeps it for up to 0.2 ms. These
three are over within microseconds and wait for no thread of ours, so they keep it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pylsl
from pylsl.lib import lib

_lib = ctypes.PyDLL(lib._name, handle=lib._handle)  # the library that pylsl has loaded, with its settings
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
