"""The training line on two public recordings: what its encoder is worth there beside simple rivals, losses included.

    python -m training.real_encoder $PHOSPHENE_DATA --out runs/real-encoder --json docs/results/real-encoder.json

Each recording becomes files of counts, its last part kept away; `pretrain` runs on the first part as by the command
line, and everything that is fitted or chosen is fitted and chosen there. Then, on the last part: channels and bins are
hidden and filled in, and what was seen or done is read from frozen features.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

from training import real_data, real_hand, real_images


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder a recording")
    parser.add_argument("--out", type=Path, default=Path("runs/real-encoder"))
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    motor = real_data.hand(asked.data / "m1_contdata95" / "dev.npz")
    visual = [real_data.images(file) for file in sorted((asked.data / "v1_image_sequences").glob("*.npz"))]
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "hand": real_hand.study(motor, asked.out),
        "images": real_images.study(visual, asked.out),
    }
    Console().print_json(json.dumps(found))
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
