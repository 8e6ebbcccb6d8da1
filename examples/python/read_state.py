"""Reads the state of cortex from a running service, and says it once a second.

pip install websockets numpy msgpack && pip install --no-deps ../..  # or copy phosphene_client/
python read_state.py [ws://127.0.0.1:8000] [seconds]
"""

import sys
import time

import numpy as np

from phosphene_client import PredictionStream

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8000"
seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60

with PredictionStream(url, bufsize=10.0) as stream:
    for _ in range(seconds):
        time.sleep(1.0)
        (probability, valid, usable), times = stream.get_data(1.0)  # the newest second
        if stream.silent_s > 0.5:  # what is held is old: nothing is known about now
            print(f"nothing new for {stream.silent_s:.1f} s; {stream.problem or 'connected'}")
        elif valid.any():
            print(f"{times[-1]:.2f} s: {np.nanmean(probability):.2f} on average; known {valid.mean():.0%} of the time")
        else:
            flags = {flag for frame in stream.get_frames(1.0) for flag in frame["flags"]}
            print(f"{times[-1]:.2f} s: not known ({', '.join(sorted(flags)) or 'hidden'}); {usable[-1]:.0f} channels")
