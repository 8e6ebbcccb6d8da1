"""What was loaded before the stream is all that a stream needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMPILES_NOTHING_MORE = """
import sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from streaming.bursts import Bursts
from streaming.live import LiveDecoder  # with every kernel that the decode thread may call
from streaming.signal.chain import SignalChain
from streaming.signal.loading import load_kernels
from streaming.signal.settings import ChainSettings, NormaliserSettings

load_kernels()
modules = [module for name, module in sys.modules.items() if name.startswith("streaming.")]
kernels = {id(one): one for module in modules for one in vars(module).values() if isinstance(one, Dispatcher)}.values()
compiled = {one.py_func.__qualname__: len(one.signatures) for one in kernels}
for kind in ("rolling_z", "robust_trailing"):
    chain = SignalChain(ChainSettings(normaliser=NormaliserSettings(kind, 0.2, 0.05)), 30000.0, 5)
    x, told = np.random.default_rng(0).standard_normal((9000, 5)).astype(np.float32), Bursts(chain, 128)
    for first in (0, 9000, 18600, 200000):  # a short gap, a long one
        chain.push(x[:300], first)
        chain.set_mask(np.array([True, True, False, True, True]), first + 500)
        chain.push(x[300:], first + 300)
        chain.stimulation(first + 6000, 0.01)  # late
        told.flag(chain.next_bin - 1)
        chain.window(chain.next_bin - 1, np.zeros((5, 128), np.float32), np.zeros(5, bool))
    chain.expect_stimulation(209000, 0.1)
    chain.push(x, 209000)
names = {one.py_func.__qualname__ for one in kernels if len(one.signatures) != compiled[one.py_func.__qualname__]}
print(sorted(names))
"""


def test_nothing_is_compiled_while_a_stream_runs() -> None:
    """The heartbeat ends a process whose decode thread compiles."""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", COMPILES_NOTHING_MORE], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
