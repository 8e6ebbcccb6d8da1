"""For all tests."""

from __future__ import annotations

import gc
import os
import signal

from hypothesis import HealthCheck, settings

# What a shell starts in the background ignores Ctrl-C, and so would every command that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Small matrices: on a machine that is busy with something else, threads that wait for each other take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whoever runs the tests may have tokens of their own, and the services under test would ask for them.
os.environ["PHOSPHENE__TOKENS"] = "none"

# How long an example takes is the machine's affair.
settings.register_profile("ours", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


def pytest_collection_finish() -> None:
    """As the service does: what was imported lives for ever, and a collection that looks at all of it holds a rig up
    for longer than its silence may last."""
    gc.collect()
    gc.freeze()
