"""A surrogate array: single-electrode recordings of real cortex, stacked as channels of one broadband NWB file.

For checking the signal path at 96 channels where no recording of 96 is to be had. It is no array: the channels were not
recorded together (the real correlations between electrodes are missing), their places are unknown, and the scale is a
choice. All of that is written into the file.

    python -m training.surrogate FOLDER_OF_WAV --out surrogate.nwb

Tiling. WAV files of about 5 s; in tile t, channel c plays file (c + SHIFT * t) mod the number of files, cut to the
shortest. Between two tiles BREAK_S of samples are missing, and the timestamps say so: where other electrodes begin, the
file has a gap, as a rig that lost samples would, and the chain treats it as one. A crossfade would have made up data
that no electrode ever gave.
"""

from __future__ import annotations

import argparse
import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from models.errors import OperatorFault, RigFault

N_CHANNELS = 96
SHIFT = 24  # even: recordings that were made together stay neighbours
BREAK_S = 0.1
SCALE_UV = 0.03  # microvolts per count: ours. A noise of 379 counts (σ from the MAD, median file) becomes 11 µV


def surrogate(
    folder: Path,
    out: Path,
    n_channels: int = N_CHANNELS,
    tiles: int = 3,
    scale_uv: float = SCALE_UV,
) -> dict[str, Any]:
    """Writes acquisition/Broadband, int16 (time, n_channels), with timestamps; returns what was stacked and how.

    Raises:
        OperatorFault: `out` is there, or the folder holds too few WAV files.
        RigFault: files of different rates, or not 16-bit and mono.
    """
    if out.exists():
        raise OperatorFault(f"{out} is there already and is never overwritten; choose another --out")
    files = _in_order(folder)
    if len(files) < n_channels:
        raise OperatorFault(f"{folder}: found {len(files)} WAV files, expected at least {n_channels}")
    rate_hz, recordings = _read(files)
    rows = min(map(len, recordings))
    data = np.empty((tiles * rows, n_channels), np.int16)
    for tile in range(tiles):
        for channel in range(n_channels):
            data[tile * rows : (tile + 1) * rows, channel] = recordings[(channel + SHIFT * tile) % len(files)][:rows]
    gap = round(BREAK_S * rate_hz)
    samples = np.concatenate([np.arange(rows) + tile * (rows + gap) for tile in range(tiles)])
    facts = {
        "files": len(files),
        "channels": n_channels,
        "rate_hz": rate_hz,
        "tiles": tiles,
        "samples_per_tile": rows,
        "tiling": f"in tile t channel c plays file (c + {SHIFT} t) mod {len(files)}; order in the notes",
        "break_samples": gap,
        "scale_uv_per_count": scale_uv,
        "scale": "chosen, not measured: the recordings are in counts without a unit",
    }
    _write(out, data, samples / rate_hz, facts, [file.name for file in files])
    return facts


def _in_order(folder: Path) -> list[Path]:
    """As index.csv beside the folder lists them (pairs side by side), else by name."""
    index = folder.parent / "index.csv"
    if not index.exists():
        return sorted(folder.glob("*.wav"))
    with index.open() as lines:
        return [folder / row["file"] for row in csv.DictReader(lines)]


def _read(files: list[Path]) -> tuple[int, list[NDArray[np.int16]]]:
    found = [wavfile.read(file) for file in files]
    rates = {rate for rate, _ in found}
    if len(rates) != 1:
        raise RigFault(f"{files[0].parent}: found rates {sorted(rates)} Hz, expected one")
    for file, (_, data) in zip(files, found, strict=True):
        if data.dtype != np.int16 or data.ndim != 1:
            raise RigFault(f"{file}: found {data.dtype} with {data.ndim} dimensions, expected 16-bit mono")
    return rates.pop(), [data for _, data in found]


def _write(
    out: Path,
    data: NDArray[np.int16],
    times_s: NDArray[np.float64],
    facts: dict[str, Any],
    names: list[str],
) -> None:
    import pynwb

    nwb = pynwb.NWBFile(
        session_description="surrogate array: real single electrodes, not recorded together, stacked as channels",
        identifier=out.stem,
        session_start_time=datetime(2000, 1, 1, tzinfo=UTC),
        session_id=out.stem,
        notes=json.dumps({"order": names}),
    )
    nwb.subject = pynwb.file.Subject(subject_id="surrogate", description="nobody: electrodes of several recordings")
    device = nwb.create_device(name="array", description="surrogate")
    group = nwb.create_electrode_group("array", "electrodes whose places are unknown", "unknown", device)
    nwb.add_electrode_column("label", "position in the stack")
    for index in range(data.shape[1]):
        nwb.add_electrode(group=group, location="unknown", label=f"elec{index + 1}")
    nwb.add_acquisition(
        pynwb.ecephys.ElectricalSeries(
            name="Broadband",
            data=data,
            electrodes=nwb.create_electrode_table_region(list(range(data.shape[1])), "the channels of the stack"),
            conversion=facts["scale_uv_per_count"] * 1e-6,
            timestamps=times_s,
            description=json.dumps(facts),
        )
    )
    partial = out.with_name(f".{out.stem}.partial.nwb")
    try:
        with pynwb.NWBHDF5IO(partial, "w") as io:
            io.write(nwb)
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="WAV files, 16-bit mono, of one rate")
    parser.add_argument("--out", type=Path, required=True, help="NWB file, not there yet")
    parser.add_argument("--tiles", type=int, default=3)
    parser.add_argument("--scale-uv", type=float, default=SCALE_UV, help="microvolts per count")
    given = parser.parse_args()
    print(json.dumps(surrogate(given.folder, given.out, tiles=given.tiles, scale_uv=given.scale_uv), indent=1))


if __name__ == "__main__":
    main()
