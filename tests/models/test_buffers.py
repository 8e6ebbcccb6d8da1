"""Buffers of a device, tried on the one that every machine has; who may capture a graph, and when."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

from models.buffers import CAPTURED_AFTER, OTHERS, DeviceBuffers, HostBuffers, page_locked
from models.runtime import ort
from tests.models.bundles import BINS, CHANNELS, CONFIG, model_files, windows


def arrays() -> tuple[dict[str, Any], dict[str, Any]]:
    inputs = {"window": np.zeros((1, CHANNELS, BINS), np.float32), "usable": np.zeros((1, CHANNELS), bool)}
    outputs = {"embedding": np.zeros((1, CONFIG.width), np.float32)}
    return inputs, outputs | {name: np.zeros(1, np.float32) for name in ("prestimulus", "evoked")}


@pytest.fixture(scope="module")
def session() -> Any:
    return ort.InferenceSession(model_files()[0], providers=["CPUExecutionProvider"])


def test_what_is_written_into_the_inputs_is_what_runs(session: Any):
    host, device = HostBuffers(session, *arrays()), DeviceBuffers(session, *arrays(), device="cpu")
    shown, usable = windows(5, seed=3)
    kept = []
    for window, channels in zip(shown, usable, strict=True):
        for buffers in (host, device):
            buffers.inputs["window"][0], buffers.inputs["usable"][0] = window, channels
        expected, found = host.run(), device.run()
        assert all(np.array_equal(found[name], expected[name]) for name in ("embedding", "prestimulus", "evoked"))
        kept.append(found["embedding"].copy())
    assert len({float(one[0, 0]) for one in kept}) == 5


class Recorder:
    """A session that notes with which graph it is run."""

    def __init__(self, session: Any) -> None:
        self._session, self.graphs = session, list[str]()

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.graphs.append("none" if options else "its own")
        self._session.run_with_iobinding(binding)


def test_only_the_thread_that_captured_runs_a_graph(session: Any):
    recorder = Recorder(session)
    buffers = DeviceBuffers(recorder, *arrays(), device="cpu")
    buffers.run()
    assert recorder.graphs == ["none"]
    assert buffers.capture()
    assert recorder.graphs[1:] == ["its own"] * CAPTURED_AFTER
    assert buffers.capture()  # once is enough
    buffers.run()
    other = threading.Thread(target=buffers.run)
    other.start()
    other.join()
    assert recorder.graphs[1 + CAPTURED_AFTER :] == ["its own", "none"]


def test_while_somebody_else_is_at_the_gpu_nothing_is_captured_and_what_is_captured_runs(session: Any):
    one = DeviceBuffers(Recorder(session), *arrays(), device="cpu")
    captured = DeviceBuffers(Recorder(session), *arrays(), device="cpu")
    assert captured.capture()
    with OTHERS:
        assert not one.capture()
        captured.run()  # without waiting
        one.run()  # nor does this one, which decodes live
        waits = threading.Thread(target=one.run, daemon=True)
        waits.start()
        waits.join(0.05)
        assert waits.is_alive(), "anybody else does"
    waits.join()
    assert one._session.graphs == ["none", "none"]
    assert one.capture()


class Cudart:
    """CUDA's runtime as far as locking pages goes."""

    def __init__(self, says: int = 0) -> None:
        self._says, self.locked = says, set[int]()

    def cudaHostRegister(self, start: Any, size: Any, flags: int) -> int:
        assert start.value % 4096 == 0
        if not self._says:
            self.locked.add(start.value)
        return self._says

    def cudaHostUnregister(self, start: Any) -> int:
        self.locked.remove(start.value)
        return 0


def test_pages_are_locked_as_long_as_the_array_lives():
    cuda, like = Cudart(), np.zeros((1, CHANNELS, BINS), np.float32)
    array = page_locked(like, lambda: cuda)
    assert (array.shape, array.dtype, array.flags.writeable) == (like.shape, like.dtype, True)
    assert cuda.locked == {array.ctypes.data}
    del array
    gc.collect()
    assert not cuda.locked


def test_where_pages_cannot_be_locked_it_is_said_and_the_array_does(caplog: pytest.LogCaptureFixture):
    def missing() -> Any:
        raise OSError("libcudart.so.13: cannot open shared object file")

    for cuda, said in ((missing, "libcudart"), (lambda: Cudart(2), "CUDA says 2")):
        caplog.clear()
        array = page_locked(np.zeros(3, bool), cuda)
        array[:] = True
        assert said in caplog.text
