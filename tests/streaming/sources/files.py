"""Small recordings of each format, written from scratch."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
from hdmf.common import DynamicTableRegion

BEGAN = datetime(2026, 3, 1, 9, tzinfo=UTC)
RATE_HZ = 30000.0


def counts(n_samples: int, n_channels: int, seed: int = 0) -> Any:
    """int16 (n_samples, n_channels), no two rows alike."""
    return np.random.default_rng(seed).integers(-2000, 2000, (n_samples, n_channels)).astype(np.int16)


def write_nwb(
    path: Path,
    data: Any,
    rate_hz: float = RATE_HZ,
    timestamps: Any = None,
    conversion: float = 0.25e-6,
    trials: list[dict[str, Any]] | None = None,
    names: tuple[str, ...] = ("Broadband",),
    **series: Any,
) -> Path:
    """A file of the contract; several `names` hold the same data."""
    nwb = pynwb.NWBFile("a test", "id", BEGAN, session_id="s07")
    nwb.subject = pynwb.file.Subject(subject_id="P1")
    group = nwb.create_electrode_group("array", "array", "V1", nwb.create_device("array"))
    nwb.add_electrode_column("label", "as printed")
    for index in range(data.shape[1]):
        place = {"rel_x": float(index % 10), "rel_y": float(index // 10)}
        nwb.add_electrode(group=group, location="V1", label=f"elec{index + 1}", **place)
    region: DynamicTableRegion = nwb.create_electrode_table_region(list(range(data.shape[1])), "all")
    for name in names:
        timing = {"rate": rate_hz} if timestamps is None else {"timestamps": timestamps}
        nwb.add_acquisition(
            pynwb.ecephys.ElectricalSeries(
                name=name, data=data, electrodes=region, conversion=conversion, **timing, **series
            )
        )
    for name in trials[0] if trials else ():
        if name not in ("start_time", "stop_time"):
            nwb.add_trial_column(name, name)
    for trial in trials or ():
        nwb.add_trial(**trial)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def trial(onset: float, perceived: bool = True, electrode: int = 34) -> dict[str, Any]:
    """One row of the trials table."""
    return {
        "start_time": onset - 0.01,
        "stop_time": onset + 0.05,
        "stim_onset": onset,
        "stim_duration": 0.02,
        "stim_electrode": electrode,
        "current_ua": 20.0,
        "perceived": perceived,
    }


def write_nsx(path: Path, parts: list[tuple[int, Any]], labels: list[str], unit: bytes = b"uV") -> Path:
    """Blackrock NSx 2.3 at 30 kHz: (timestamp in samples, int16 (n, channels)) for each part between pauses."""
    n_channels = len(labels)
    when = struct.pack("<8H", 2026, 3, 0, 1, 9, 0, 0, 0)
    header = struct.pack(
        "<8sBBI16s256sII16sI", b"NEURALCD", 2, 3, 314 + 66 * n_channels, b"30 kS/s", b"", 1, 30000, when, n_channels
    )
    for index, label in enumerate(labels):
        limits = (-32764, 32764, -8191, 8191)
        header += struct.pack(
            "<2sH16sBBhhhh16sIIHIIH", b"CC", index + 1, label.encode(), 1, index + 1, *limits, unit, *[0] * 6
        )
    blocks = [struct.pack("<BII", 1, start, len(data)) + data.astype("<i2").tobytes() for start, data in parts]
    path.write_bytes(header + b"".join(blocks))
    return path


def write_xdf(path: Path, streams: list[tuple[str, str, list[tuple[Any, list[Any]]]]]) -> Path:
    """XDF: for each stream its header, its format ("int16", "float32" or "string") and chunks of (stamps, rows)."""
    blob = b"XDF:" + _xdf_chunk(
        1, b"<?xml version='1.0'?><info><version>1.0</version><datetime>2026-03-01T09:00:00+0000</datetime></info>"
    )
    for number, (header, _, _) in enumerate(streams, 1):
        blob += _xdf_chunk(2, struct.pack("<I", number) + header.encode())
    for number, (_, kind, chunks) in enumerate(streams, 1):
        for stamps, rows in chunks:
            body = struct.pack("<IBI", number, 4, len(rows))
            for stamp, row in zip(stamps, rows, strict=True):
                body += struct.pack("<Bd", 8, stamp)
                if kind == "string":
                    text = row.encode()
                    body += struct.pack("<BI", 4, len(text)) + text
                else:
                    body += np.asarray(row, {"int16": "<i2", "float32": "<f4"}[kind]).tobytes()
            blob += _xdf_chunk(3, body)
    for number in range(1, len(streams) + 1):
        blob += _xdf_chunk(6, struct.pack("<I", number) + b"<?xml version='1.0'?><info></info>")
    path.write_bytes(blob)
    return path


def _xdf_chunk(tag: int, body: bytes) -> bytes:
    return struct.pack("<BIH", 4, len(body) + 2, tag) + body
