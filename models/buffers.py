"""A session's inputs and outputs, bound once: on the CPU to arrays that it reads and writes in place, on a GPU to
memory of the device.

On a GPU, one thread replays its runs as one CUDA graph, once it has `capture`d it. While a graph is being captured no
other thread of the process may ask the device for anything, or both fail. So only one thread ever captures, the one
that decodes live, and every other use of a GPU (opening a session, golden vectors, a shadow, `/v1/decode`) holds
`OTHERS` meanwhile. The live thread never waits for it: where somebody holds it, it runs without a graph and captures
another time. Of several arrays each has a live thread: while one captures, another that has no graph yet must not run,
and `LIVE` keeps the two apart, for some steps once.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runtime import ort

log = logging.getLogger("phosphene")

OTHERS, LIVE = threading.Lock(), threading.Lock()
CAPTURED_AFTER = 3  # runs: kernels are chosen in the first, captured in the second, replayed in the third
Arrays = Mapping[str, NDArray[Any]]


class HostBuffers:
    """`inputs` are written by the caller before `run`; what it returns holds until the next."""

    def __init__(self, session: Any, inputs: Arrays, outputs: Arrays) -> None:
        self.inputs, self._outputs = inputs, outputs
        self._session, self._binding = session, session.io_binding()
        for name, buffer in inputs.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(buffer))
        for name, buffer in outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(buffer))

    def run(self) -> Arrays:
        self._session.run_with_iobinding(self._binding)
        return self._outputs

    def capture(self) -> bool:
        """Nothing to do here."""
        return True


class DeviceBuffers:
    """The same on a `device`: what `inputs` hold is copied there from page-locked memory, to addresses that stay."""

    def __init__(self, session: Any, inputs: Arrays, outputs: Arrays, device: str = "cuda") -> None:
        self.inputs = {name: page_locked(like) for name, like in inputs.items()}
        self._session, self._binding = session, session.io_binding()
        self._on_device = {name: _on(device, like) for name, like in inputs.items()}
        self._outputs = {name: _on(device, like) for name, like in outputs.items()}
        for name, value in self._on_device.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._without_graph = ort.RunOptions()
        self._without_graph.add_run_config_entry("gpu_graph_id", "-1")
        self._thread = self._live = 0  # that has captured; that decodes live

    def run(self) -> Arrays:
        thread = threading.get_ident()
        if thread == self._thread:
            return self._run(None)
        with LIVE if thread == self._live else OTHERS:
            return self._run(self._without_graph)

    def capture(self) -> bool:
        """From now on runs of this thread replay one graph; False where somebody else is at a GPU right now."""
        if threading.get_ident() == self._thread:
            return True
        self._live = threading.get_ident()
        if not OTHERS.acquire(blocking=False):
            return False
        try:
            with LIVE:
                for _ in range(CAPTURED_AFTER):
                    self._run(None)
        finally:
            OTHERS.release()
        self._thread = self._live
        return True

    def _run(self, options: Any) -> Arrays:
        for name, value in self._on_device.items():
            value.update_inplace(self.inputs[name])
        self._session.run_with_iobinding(self._binding, options)
        return {name: value.numpy() for name, value in self._outputs.items()}


def _on(device: str, like: NDArray[Any]) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype.type, device, 0)


def page_locked(like: NDArray[Any], cuda: Callable[[], Any] | None = None) -> NDArray[Any]:
    """Zeros of that shape and type in pages of their own, which CUDA may read without a copy of the driver's. Where it
    will not (said in the log), the numbers are the same and each window costs some microseconds more."""
    array: NDArray[Any] = np.frombuffer(mmap.mmap(-1, like.nbytes), like.dtype).reshape(like.shape)
    try:
        library = (cuda or _cuda_runtime)()
        failed = library.cudaHostRegister(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), 0)
    except (OSError, AttributeError) as error:
        log.warning("input buffers are not page-locked: %s", error)
        return array
    if failed:
        log.warning("input buffers are not page-locked: CUDA says %d", failed)
        return array
    unlock = weakref.finalize(array, library.cudaHostUnregister, ctypes.c_void_p(array.ctypes.data))
    unlock.atexit = False  # CUDA has ended by then, and has let go of everything
    return array


def _cuda_runtime() -> Any:
    """The one that ONNX Runtime has loaded."""
    major = str(getattr(ort, "cuda_version", "")).partition(".")[0]
    return ctypes.CDLL(f"libcudart.so.{major}")
