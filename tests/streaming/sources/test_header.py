"""Each fault of a header has one sentence: what was found, what was expected, where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pylsl
import pytest

from models.errors import RigFault
from streaming.chunk import ArrayMap, StreamInfo
from streaming.sinks.broadband_outlet import broadband_stream_info
from streaming.sources.header import differences, read_header

MAP = ArrayMap(("elec1", "elec2", "elec3"), ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0)))
INFO = StreamInfo("live", "UtahArray", 30000.0, MAP, "P1", "s07")


def built(
    dtype: int = pylsl.cf_float32, rate: float = 30000.0, labels: bool = True, **channel: str
) -> pylsl.StreamInfo:
    """A rig's own header of three channels, with the given fields in each."""
    header = pylsl.StreamInfo("Rig", "EEG", 3, rate, dtype, "rig1")
    channels = header.desc().append_child("channels")
    for index in range(3):
        element = channels.append_child("channel")
        for key, value in ({"label": f"e{index}"} if labels else {} | channel).items():
            element.append_child_value(key, value)
        for key, value in channel.items():
            element.append_child_value(key, value)
    return header


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_what_we_send_is_what_we_read(dtype) -> None:
    header = read_header(broadband_stream_info(INFO, "UtahArray", "id", dtype, 0.5))
    assert header.info == INFO
    assert header.dtype == dtype
    np.testing.assert_array_equal(header.scale_uv, np.full(3, 0.5 if dtype == "int16" else 1.0))


@pytest.mark.parametrize("kind", ["simulated", "replay", "live"])
def test_the_kind_of_source_travels(kind) -> None:
    info = StreamInfo(kind, "x", 30000.0, MAP)
    assert read_header(broadband_stream_info(info, "x", "id", "int16")).info == info


@pytest.mark.parametrize("unit", ["microvolts", "uV", "µV", "μV", "Microvolts"])
def test_microvolts_by_any_of_their_names(unit: str) -> None:
    assert read_header(built(unit=unit)).info.n_channels == 3


@pytest.mark.parametrize("unit", ["", "counts", "microvolts"])
def test_int16_counts_have_a_quarter_of_a_microvolt_where_nothing_is_said(unit: str) -> None:
    np.testing.assert_array_equal(read_header(built(pylsl.cf_int16, unit=unit)).scale_uv, [0.25] * 3)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (lambda: built(rate=1000.0, unit="microvolts"), ["1000 Hz", "15000 to 40000"]),
        (lambda: built(rate=0.0, unit="microvolts"), ["0 Hz"]),
        (lambda: built(unit="volts"), ["unit 'volts'", "microvolts"]),
        (lambda: built(), ["unit ''", "microvolts"]),
        (lambda: built(pylsl.cf_int16, unit="millivolts"), ["unit 'millivolts'"]),
        (lambda: built(pylsl.cf_double64, unit="microvolts"), ["double64", "float32"]),
        (lambda: built(labels=False, unit="microvolts"), ["labels"]),
        (lambda: built(label="same", unit="microvolts", labels=False), ["labels"]),
        (lambda: built(pylsl.cf_int16, scaling_factor="-1"), ["scaling_factor '-1'"]),
        (lambda: built(pylsl.cf_int16, scaling_factor="much"), ["scaling_factor 'much'"]),
        (lambda: pylsl.StreamInfo("Bare", "EEG", 3, 30000, "float32", "b"), ["0 of 3 channels"]),
    ],
)
def test_a_wrong_header_is_refused_in_one_line(header: Callable[[], pylsl.StreamInfo], words: list[str]) -> None:
    with pytest.raises(RigFault) as fault:
        read_header(header())
    message = str(fault.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rate_hz": 25000.0}, "rate was 30000.0, now 25000.0"),
        ({"array": ArrayMap(("elec2", "elec1", "elec3"), MAP.positions)}, "array map was"),
        ({"participant": "P2"}, "participant was P1, now P2"),
        ({"kind": "simulated"}, "kind was live, now simulated"),
    ],
)
def test_a_stream_that_came_back_different_is_described(changed: dict[str, object], words: str) -> None:
    fields = {"kind": "live", "name": "x", "rate_hz": 30000.0, "array": MAP, "participant": "P1"}
    old = read_header(broadband_stream_info(StreamInfo(**fields), "x", "id", "int16"))
    new = read_header(broadband_stream_info(StreamInfo(**fields | changed), "x", "id", "int16"))
    (said,) = differences(old, new)
    assert words in said
    assert differences(old, old) == []
