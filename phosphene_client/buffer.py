"""The newest predictions, in the order in which they came. Pure: no socket, no thread, no clock.

What is held is of one run and of one line of time. A frame of another run, one of another epoch whose `sample_time`
lies before the one held last, or one that lies more than JITTER_S before it (a recording that begins again), empties
the buffer: nothing in it could be set beside it. Less than that, within an epoch, is the jitter of stamps.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = dict[str, Any]
CHANNELS = ("probability", "valid", "usable_channels")  # those of the LSL stream PhosphenePredictions
HARMLESS = {"overload"}  # the value beside it is good; every other flag, known or not, is bad
MOST_HZ = 1000  # predictions a second: one a bin
WITHDRAWN = 64  # newest withdrawals that are remembered, for frames that are still on their way
JITTER_S = 1.0  # stamps of one epoch may step back by milliseconds


def vouched(frame: Frame) -> bool:
    """Whether the probability of this frame may be used."""
    return frame.get("probability") is not None and HARMLESS.issuperset(frame["flags"])


class Buffer:
    """The frames of the last `seconds` of sample time.

    `run_id` and `seq` are those of the newest frame that ever came, None before it; `lost` counts what the service
    says was skipped; `new` what came since the last `take`.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.run_id: str | None = None
        self.seq: int | None = None
        self.runs = 0
        self.lost = 0
        self.new = 0
        self._withdrawn: deque[tuple[str, int, int, str]] = deque(maxlen=WITHDRAWN)
        self._frames: deque[Frame] = deque(maxlen=int(seconds * MOST_HZ) + 1)

    def push(self, message: Frame) -> None:
        """A message of /v1/predictions; a kind that is not known is left alone."""
        if message["type"] == "dropped":
            self.lost += message["count"]
            self.seq = message["resume_seq"] - 1
        elif message["type"] == "prediction":
            self._hold(message)

    def withdraw(self, run_id: str | None, first_seq: int, last_seq: int, flag: str) -> None:
        """These predictions are not vouched for any more: what is held of them, and what comes only afterwards."""
        if run_id is None or (run_id, first_seq, last_seq, flag) in self._withdrawn:
            return
        self._withdrawn.append((run_id, first_seq, last_seq, flag))
        for frame in self._frames:
            if frame["run_id"] == run_id and first_seq <= frame["seq"] <= last_seq:
                _withdraw(frame, flag)

    def newest(self, seconds: float | None) -> list[Frame]:
        """The frames of the newest `seconds` of sample time, oldest first; None: all that are held."""
        if not self._frames:
            return []
        after = -np.inf if seconds is None else self._frames[-1]["sample_time"] - seconds
        return [frame for frame in self._frames if frame["sample_time"] > after]

    def take(self, seconds: float | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the same frames: (len(CHANNELS), n) values, and (n,) sample times. NaN where it is not vouched for."""
        self.new = 0
        frames = self.newest(seconds)
        rows = [
            (frame["probability"] if vouched(frame) else np.nan, vouched(frame), frame["usable_channels"])
            for frame in frames
        ]
        data = np.array(rows, np.float64).reshape(-1, len(CHANNELS)).T
        return data, np.array([frame["sample_time"] for frame in frames], np.float64)

    def _hold(self, frame: Frame) -> None:
        if frame["run_id"] != self.run_id:
            self.run_id, self.runs = frame["run_id"], self.runs + 1
            self._begin_anew()
        elif self._frames and _begins_again(self._frames[-1], frame):
            self._begin_anew()
        self.seq = frame["seq"]
        for run_id, first_seq, last_seq, flag in self._withdrawn:
            if frame["run_id"] == run_id and first_seq <= frame["seq"] <= last_seq:
                _withdraw(frame, flag)
        self._frames.append(frame)
        self.new += 1
        while self._frames[0]["sample_time"] < frame["sample_time"] - self.seconds:
            self._frames.popleft()

    def _begin_anew(self) -> None:
        self._frames.clear()
        self.new = 0


def _withdraw(frame: Frame, flag: str) -> None:
    frame["flags"] = [*frame["flags"], *([] if flag in frame["flags"] else [flag])]
    frame.update({name: None for name in ("probability", "embedding") if name in frame})


def _begins_again(last: Frame, frame: Frame) -> bool:
    """Whether this frame is of another line of time than the `last` one."""
    back_s = last["sample_time"] - frame["sample_time"]
    return bool(back_s > (JITTER_S if frame["epoch"] == last["epoch"] else 0.0))
