"""The compiled kernels, loaded before there is a stream: none would wait for them."""

from __future__ import annotations

import numpy as np

from models.errors import OperatorFault
from streaming.bursts import Bursts
from streaming.signal.chain import SignalChain
from streaming.signal.settings import ChainSettings, NormaliserSettings


def load_kernels() -> None:
    """Takes 0.2 s, or the half minute of a machine's very first start.

    Raises:
        OperatorFault: what was compiled cannot be kept; nothing else here writes.
    """
    try:
        for kind in ("rolling_z", "robust_trailing"):
            chain = SignalChain(ChainSettings(normaliser=NormaliserSettings(kind)), 30000.0, 2)
            chain.push(np.zeros((60, 2), np.float32), 0)
            chain.push(np.zeros((300, 2), np.float32), 120)  # a gap
            chain.stimulation(150, 0.0)  # a late marker
            chain.window(3, np.zeros((2, 4), np.float32), np.zeros(2, bool))
            Bursts(chain, 4).flag(3)
    except OSError as error:
        raise OperatorFault(f"the compiled kernels cannot be kept: {error}; make room on the disk") from error
