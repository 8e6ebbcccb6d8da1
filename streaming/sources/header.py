"""What a broadband stream's LSL header must say, and how each fault of it is named. Pure: a header in, facts out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pylsl
from numpy.typing import NDArray

from models.errors import RigFault
from streaming.chunk import ArrayMap, SourceKind, StreamInfo
from streaming.signal.design import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from streaming.sinks.broadband_outlet import DEFAULT_SCALING_UV

MICROVOLTS = ("microvolts", "microvolt", "uv", "µv", "μv")  # the micro sign and the Greek letter
COUNTS = ("", "counts", "count")


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a broadband stream. int16 values times `scale_uv` (n_channels,) are microvolts."""

    info: StreamInfo
    dtype: Literal["int16", "float32"]
    scale_uv: NDArray[np.float32]


def describe(found: pylsl.StreamInfo) -> str:
    """One stream in a few words, for lists in messages."""
    return f"{found.name()!r} (source_id {found.source_id()!r}, host {found.hostname()!r}, uid {found.uid()[:8]})"


def read_header(found: pylsl.StreamInfo) -> Header:
    """The full header of a stream. Whether it is the bundle's is not asked here.

    Raises:
        RigFault: wrong rate, data type or unit, or no labels.
    """
    where = f"LSL stream {describe(found)}"
    rate = found.nominal_srate()
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise RigFault(
            f"{where}: found a rate of {rate:g} Hz, expected {LOWEST_RATE_HZ:g} to {HIGHEST_RATE_HZ:g} Hz of raw "
            "broadband"
        )
    formats: dict[int, Literal["int16", "float32"]] = {pylsl.cf_int16: "int16", pylsl.cf_float32: "float32"}
    dtype = formats.get(found.channel_format())
    if dtype is None:
        raise RigFault(f"{where}: found data type {_format_name(found)}, expected float32 microvolts or int16 counts")

    channels = _channels(found)
    if len(channels) != found.channel_count():
        raise RigFault(
            f"{where}: desc/channels describes {len(channels)} of {found.channel_count()} channels; "
            "write label and unit of each channel there"
        )
    labels = [_text(channel, "label") for channel in channels]
    if not all(labels) or len(set(labels)) != len(labels):
        raise RigFault(f"{where}: channel labels are missing or doubled; write desc/channels/channel/label")
    for label, channel in zip(labels, channels, strict=True):
        unit = _text(channel, "unit")
        known = MICROVOLTS if dtype == "float32" else MICROVOLTS + COUNTS
        if unit.lower() not in known:
            raise RigFault(
                f"{where}, channel {label}: found unit {unit!r}, expected 'microvolts'; mend the sender's header"
            )

    desc = found.desc()
    kind: SourceKind = "live"
    said = desc.child("phosphene").child_value("source")
    if said in ("simulated", "replay"):
        kind = said
    info = StreamInfo(
        kind=kind,
        name=found.name(),
        rate_hz=rate,
        array=ArrayMap(tuple(labels), _positions(channels)),
        participant=desc.child("subject").child_value("id") or None,
        session=desc.child("phosphene").child_value("session") or None,
    )
    return Header(info, dtype, _scales(where, channels, dtype))


def differences(old: Header, new: Header) -> list[str]:
    """In what a stream that came back is not the one that was lost; empty where it is the same."""
    facts = [
        ("channels", old.info.n_channels, new.info.n_channels),
        ("rate", old.info.rate_hz, new.info.rate_hz),
        ("array map", old.info.array.sha256()[:8], new.info.array.sha256()[:8]),
        ("kind", old.info.kind, new.info.kind),
        ("participant", old.info.participant, new.info.participant),
        ("data type", old.dtype, new.dtype),
        ("scaling", old.scale_uv.tolist(), new.scale_uv.tolist()),
    ]
    return [f"{name} was {before}, now {now}" for name, before, now in facts if before != now]


def _channels(found: pylsl.StreamInfo) -> list[pylsl.XMLElement]:
    channels: list[pylsl.XMLElement] = []
    element = found.desc().child("channels").child("channel")
    while not element.empty():
        channels.append(element)
        element = element.next_sibling("channel")
    return channels


def _text(element: pylsl.XMLElement, name: str) -> str:
    return str(element.child_value(name)).strip()


def _positions(channels: list[pylsl.XMLElement]) -> tuple[tuple[float, float], ...] | None:
    """Grid places, or None unless every channel has one."""
    try:
        places = [(float(_text(c.child("location"), "X")), float(_text(c.child("location"), "Y"))) for c in channels]
    except ValueError:
        return None
    return tuple(places) if np.isfinite(places).all() else None


def _scales(where: str, channels: list[pylsl.XMLElement], dtype: str) -> NDArray[np.float32]:
    scales = np.ones(len(channels), np.float32)
    if dtype == "int16":
        for index, channel in enumerate(channels):
            text = _text(channel, "scaling_factor")
            try:
                scale = float(text) if text else DEFAULT_SCALING_UV
            except ValueError:
                scale = math.nan
            if not (math.isfinite(scale) and scale > 0):
                raise RigFault(f"{where}: found scaling_factor {text!r}, expected microvolts per count above 0")
            scales[index] = scale
    return scales


def _format_name(found: pylsl.StreamInfo) -> str:
    names = {pylsl.cf_double64: "double64", pylsl.cf_string: "string", pylsl.cf_int32: "int32", pylsl.cf_int8: "int8"}
    return names.get(found.channel_format(), f"LSL format {found.channel_format()}")
