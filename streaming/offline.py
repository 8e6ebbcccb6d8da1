"""Decoding a recording: the same pipeline as the service, every window, as fast as the machine allows, as Parquet."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder import Decoder
from models.errors import OperatorFault
from streaming.ahead import everything, trains_ahead
from streaming.chunk import Source
from streaming.matching import decoding_settings, why_not_calibrated
from streaming.pipeline import Pipeline
from streaming.predictions import Mode, Prediction

ROWS_AT_ONCE = 2000


def predictions(
    source: Source,
    decoder: Decoder,
    mode: Mode = "continuous",
    hop_s: float = 0.01,
    participant: str | None = None,
    masks: Sequence[tuple[int, NDArray[np.bool_]]] = (),
) -> Iterator[Prediction]:
    """Every prediction of a recording, in order; latencies are 0: there is no clock here.

    Markers are known ahead, as if each had arrived at its onset: live, that is the prediction without `late_marker`.
    `masks` are the operator's, each with the sample from which it held, as `PUT /v1/channels` answered.

    Raises:
        Fault: a recording or bundle that does not hold.
    """
    counter = itertools.count()
    pipeline: Pipeline | None = None
    epoch = -1
    for chunk, trains in trains_ahead(everything(source)):
        if pipeline is None or chunk.epoch != epoch:
            settings = decoding_settings(decoder.manifest, source.info, mode, hop_s, participant)
            pipeline, epoch = Pipeline(settings, source.info, lambda: next(counter)), chunk.epoch
            for sample, usable in masks:
                pipeline.set_mask(usable, sample)
        for sample, stimulation in trains:
            pipeline.stimulation(sample, stimulation)
        for due in pipeline.push(chunk):
            yield pipeline.decode(due, decoder, 0.0, 0.0, lambda: 0.0)


def read_masks(path: Path, n_channels: int) -> list[tuple[int, NDArray[np.bool_]]]:
    """The operator's masks of a live session, each with the sample from which it held: [{"masked": [7], "from_sample":
    12030}, …], as `PUT /v1/channels` answered.

    Raises:
        OperatorFault: not such a list, or a channel that the recording does not have.
    """
    try:
        entries = [
            (int(entry["from_sample"]), [int(c) for c in entry["masked"]]) for entry in json.loads(path.read_text())
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OperatorFault(
            f"{path}: found no list of masks ({error}); expected the answers of PUT /v1/channels"
        ) from None
    found = []
    for sample, masked in entries:
        if any(not 1 <= channel <= n_channels for channel in masked):
            raise OperatorFault(f"{path}: found channels {masked}, expected numbers from 1 to {n_channels}")
        usable = np.ones(n_channels, bool)
        usable[[channel - 1 for channel in masked]] = False
        found.append((sample, usable))
    return found


def decode(
    source: Source,
    decoder: Decoder,
    out: Path,
    mode: Mode = "continuous",
    hop_s: float = 0.01,
    participant: str | None = None,
    masks: Sequence[tuple[int, NDArray[np.bool_]]] = (),
) -> int:
    """Write the predictions of a recording to a Parquet file; returns how many. The file appears whole or not at all.

    Columns: seq, sample_time (s from the session's start), last_sample, mode, trial, model, probability, embedding,
    usable_channels, flags. The schema's metadata names bundle, chain and recording.

    Raises:
        OperatorFault: the output exists, or pyarrow is not installed.
        Fault: a recording or bundle that does not hold.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise OperatorFault("pyarrow is not installed; pip install 'phosphene[files]' to write Parquet") from None
    if out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    manifest = decoder.manifest
    facts = {
        "model": decoder.name,
        "provider": decoder.provider,
        "precision": decoder.precision,
        "chain_sha256": manifest.chain_sha256,
        "source": source.info.name,
        "rate_hz": source.info.rate_hz,
        "not_calibrated": why_not_calibrated(manifest, source.info, participant) or "",
    }
    schema = pa.schema(
        [
            ("seq", pa.int64()),
            ("sample_time", pa.float64()),
            ("last_sample", pa.int64()),
            ("mode", pa.string()),
            ("trial", pa.int64()),
            ("model", pa.string()),
            ("probability", pa.float64()),
            ("embedding", pa.list_(pa.float32())),
            ("usable_channels", pa.int32()),
            ("flags", pa.list_(pa.string())),
        ],
        metadata={"phosphene": json.dumps(facts)},
    )
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    count = 0
    try:
        with pq.ParquetWriter(partial, schema) as writer:
            found = predictions(source, decoder, mode, hop_s, participant, masks)
            while rows := list(itertools.islice(found, ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist([_row(row) for row in rows], schema))
                count += len(rows)
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _row(prediction: Prediction) -> dict[str, Any]:
    embedding = prediction.embedding
    return {
        "seq": prediction.seq,
        "sample_time": prediction.sample_time,
        "last_sample": prediction.last_sample,
        "mode": prediction.mode,
        "trial": prediction.trial,
        "model": prediction.model,
        "probability": prediction.probability,
        "embedding": None if embedding is None else np.asarray(embedding),
        "usable_channels": prediction.usable_channels,
        "flags": list(prediction.flags),
    }
