"""`phosphene record`: a live stream through the chain that serves, kept as NWB, whatever happens to the process.

Beside the target grows a spool (spool.py, recorder.py); the file is made of it at the end, or by `--recover`, and the
spool goes only when the file stands. A kill loses the last 1.3 s of MUA and nothing of the broadband and the markers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pylsl

from models.errors import OperatorFault, RigFault
from streaming.chunk import Chunk, StreamInfo
from streaming.sinks.broadband_outlet import DEFAULT_SCALING_UV
from streaming.sources.lsl import LslSource
from streaming.sources.recorded import files_extra
from training.record_file import Recorded, recover
from training.recorder import Recorder
from training.spool import spool_of, unfinished

READ_TIMEOUT_S = 0.1
RETRY_S = 0.2
DEAF_S = 5.0  # an event stream that was not found by then is missed
GRACE_S = 1.0  # a stream that stands still ends a recording of --seconds so much later

log = logging.getLogger("phosphene")


def record(
    out: Path,
    source: LslSource,
    stop: threading.Event,
    seconds: float = float("inf"),
    broadband: bool = False,
    participant: str | None = None,
    session: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Recorded:
    """Records until `stop` is set or `seconds` have passed, and writes `out`. Waits for the stream.

    Raises:
        OperatorFault: `out` or an unfinished recording of it is there, or the stream is of another participant.
        RigFault: no stream came before `stop`, or the disk takes no more; the spool stays.
    """
    _refuse_existing(out)
    recorder: Recorder | None = None
    end_at, told, said, warned = float("inf"), 0.0, "", False
    try:
        while not stop.is_set():
            try:
                if not source.wait(stop):
                    break
                while not stop.is_set() and pylsl.local_clock() < end_at:
                    chunk = source.read(READ_TIMEOUT_S)
                    if chunk is None:
                        continue
                    if recorder is None:
                        recorder = _begin(out, source, chunk, broadband, participant, session)
                        end_at = chunk.arrival_time + seconds + GRACE_S
                        tell(f"recording {source.info.name} into {recorder.spool.folder}")
                    recorder.push(chunk, source.markers())
                    if recorder.next_sample >= seconds * source.info.rate_hz:
                        stop.set()
                    if not warned and not source.hears_events and recorder.next_sample > DEAF_S * source.info.rate_hz:
                        warned = True
                        log.warning(
                            "no event stream yet: without its markers no artifact is blanked, and no trial known"
                        )
                    if chunk.arrival_time > told + 1.0:
                        told = chunk.arrival_time
                        tell(_progress(recorder, source))
            except RigFault as fault:
                if recorder is not None and recorder.spool.failed:
                    raise
                if str(fault) != said:
                    said = str(fault)
                    log.warning("%s", said)
                stop.wait(RETRY_S)
            if pylsl.local_clock() >= end_at:
                break
        if recorder is None:
            why = said or f"{source.looking_for} did not come"
            raise RigFault(f"nothing was recorded and {out} was not written: {why}")
        recorder.flush()
    finally:
        source.close()
        if recorder is not None:
            recorder.spool.close()
    return recover(spool_of(out))


def _refuse_existing(out: Path) -> None:
    if out.suffix != ".nwb":
        raise OperatorFault(f"{out}: expected a name that ends with .nwb")
    if out.exists():
        raise OperatorFault(f"{out} is there already and is never overwritten; choose another --out")
    if not out.parent.is_dir():
        raise OperatorFault(f"{out.parent}: no such folder; make it first")
    if spool_of(out).exists():
        raise unfinished(spool_of(out))
    files_extra("pynwb")  # that it is missing is known now, not after an hour


def _begin(
    out: Path, source: LslSource, chunk: Chunk, broadband: bool, participant: str | None, session: str | None
) -> Recorder:
    info: StreamInfo = source.info
    if participant and info.participant and participant != info.participant:
        raise OperatorFault(f"the stream is of participant {info.participant!r}, not of {participant!r}: who is it?")
    info = replace(info, participant=info.participant or participant, session=info.session or session)
    if info.participant is None:
        log.warning("neither the stream nor --participant says whose cortex this is; calibrate will have to be told")
    scale_uv = source.scale_uv
    if scale_uv is None:
        scale_uv = np.full(info.n_channels, DEFAULT_SCALING_UV, np.float32)  # microvolts, kept to 0.25 of one
    now = datetime.now(UTC), pylsl.local_clock()
    return Recorder(out, info, chunk, now, keep=scale_uv if broadband else None)


def _progress(recorder: Recorder, source: LslSource) -> str:
    minutes, seconds = divmod(int(recorder.next_sample / source.info.rate_hz), 60)
    deaf = "" if source.hears_events else "NO EVENT STREAM: no trials, no artifact blanked; "
    return (
        f"{minutes:02}:{seconds:02}  {deaf}{recorder.stimulations} stimulations ({recorder.late} told late), "
        f"{recorder.reports} reports, {source.counters.lost_samples} samples lost, {recorder.spool.bytes / 1e6:.0f} MB"
    )
