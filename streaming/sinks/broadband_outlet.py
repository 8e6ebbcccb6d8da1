"""How a broadband stream describes itself on LSL: what a rig must send, and what the simulator and a replay send too.

Channel metadata follows the XDF page "EEG Meta-Data" (`desc/channels/channel/{label,unit,type,location}`). The unit of
an int16 stream is microvolts as well, after `scaling_factor` (microvolts per count). The channel type is `seeg`, the
nearest that the MNE tools know, so that they keep the unit.
"""

from __future__ import annotations

from typing import Literal

import pylsl

from streaming.chunk import StreamInfo

BROADBAND_TYPE = "Broadband"
DEFAULT_SCALING_UV = 0.25  # microvolts per count: Blackrock's 16-bit front end


def broadband_stream_info(
    info: StreamInfo,
    name: str,
    source_id: str,
    dtype: Literal["int16", "float32"],
    scaling_factor_uv: float = DEFAULT_SCALING_UV,
) -> pylsl.StreamInfo:
    """The LSL header of `info`'s stream. int16 values times `scaling_factor_uv` are microvolts; float32 values are."""
    formats = {"int16": pylsl.cf_int16, "float32": pylsl.cf_float32}
    header = pylsl.StreamInfo(name, BROADBAND_TYPE, info.n_channels, info.rate_hz, formats[dtype], source_id)
    desc = header.desc()

    channels = desc.append_child("channels")
    for index, label in enumerate(info.array.labels):
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", "microvolts")
        channel.append_child_value("type", "seeg")
        if dtype == "int16":
            channel.append_child_value("scaling_factor", repr(float(scaling_factor_uv)))
        if info.array.positions is not None:
            x, y = info.array.positions[index]
            location = channel.append_child("location")
            location.append_child_value("X", repr(float(x)))
            location.append_child_value("Y", repr(float(y)))

    if info.participant is not None:
        desc.append_child("subject").append_child_value("id", info.participant)
    phosphene = desc.append_child("phosphene")
    phosphene.append_child_value("source", info.kind)
    if info.session is not None:
        phosphene.append_child_value("session", info.session)
    return header
