"""A certificate says what was seen, and its histogram shows every window."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from models.errors import OperatorFault
from server.bench import certify as certificate
from server.bench.certify import certify
from server.bench.histogram import HEIGHT, WIDTH, histogram
from server.bench.path import Heard, decoded, missing_windows
from server.cli import run
from streaming.signal.design import signal_delay_s
from streaming.signal.settings import ChainSettings


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in drawn(svg).iter() if one.tag.endswith("text")]


def test_a_histogram_shows_the_slowest_of_many() -> None:
    svg = histogram({"a <frame>": np.append(np.full(9999, 2.0), 110.0), "floor": [0.1]}, "10 000 & more")
    said = texts(svg)
    assert {"p50 2", "p99 2", "p99.9 2", "max 110", "10 000 & more"} <= set(said)
    assert any("a <frame>" in text for text in said), "names are text, whatever they are"
    paths = [one.get("d") or "" for one in drawn(svg).iter() if one.tag.endswith("path")]
    assert len(paths) == 2
    numbers = [float(number) for path in paths for number in re.findall(r"[0-9.]+", path)]
    assert min(numbers) >= 0
    assert max(numbers) <= max(WIDTH, HEIGHT)
    heights = np.array(numbers[1::2])
    assert len(np.unique(heights)) >= 3, "the floor, a single one and the many"


def test_a_histogram_of_nothing_is_refused() -> None:
    for series in ({"a": []}, {"a": [1.0], "b": [1.0], "c": [1.0], "d": [1.0]}):
        with pytest.raises(ValueError, match="expected one to three"):
            histogram(series, "")
    assert "p50 3" in texts(histogram({"a": [3.0]}, ""))


def test_a_rig_is_certified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole loop in processes of its own, for a few seconds."""
    out = tmp_path / "rig.html"
    status = run(["certify", "--minutes", "0.1", "--out", str(out), "--subscribers", "2"])
    found = json.loads(out.with_suffix(".json").read_text())
    assert status == (0 if certificate.sound(found["verdicts"]) else 1), "a busy machine may lose a window"
    seen = found["measured"]
    assert seen["windows"] > 100  # of 600 in real time, on a machine that keeps up
    assert seen["hop_ms"] == pytest.approx(10, abs=0.01)
    assert found["service"]["channels"] == 96
    assert found["service"]["signal_delay_ms"] == pytest.approx(1e3 * signal_delay_s(ChainSettings(), 30_000))
    assert 0 < seen["cores"] < 2
    assert seen["stages"]["total"]["p50"] < seen["sample_to_frame"]["p50"]
    verdicts = {one["what"]: one for one in found["verdicts"]}
    assert verdicts["samples lost by the source"]["found"] == "0"
    assert verdicts["windows missing without a reason told"]["found"] == "0"
    page = out.read_text()
    assert "What no computer can make faster" in page
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http://www.w3.org/2000/svg", ""), "it needs nothing from elsewhere"
    assert "newest sample to client within 50 ms" in capsys.readouterr().out
    with pytest.raises(OperatorFault, match="never overwritten"):
        certify(6.0, out, None, [])


def heard(n: int, flags: tuple[str, ...] = (), decoded: bool = True) -> list[Heard]:
    return [Heard(2.0 if decoded else 0.1, {}, 0.0, 0, flags, decoded) for _ in range(n)]


def test_what_was_not_decoded_is_counted_by_what_kept_it() -> None:
    frames = heard(900, ("drift",)) + heard(70, ("blanking", "not_calibrated"), False) + heard(30, ("channels",), False)
    known, why_not = decoded(frames)
    assert [frame.late_ms for frame in known] == [2.0] * 900, "what cost nothing makes nothing look fast"
    seen = {
        "share_of_windows": 0.9,
        "not_decoded": dict(why_not),
        "source": {"lost_samples": 0},
        "unexplained_windows": 0,
        "dropped_by_client": 0,
        "memory_mib": {"grown": 0.0},
    }
    verdicts = certificate._verdicts(seen, {"sample to frame": np.array([2.0])})
    (one,) = [each for each in verdicts if each["what"] == "windows decoded"]
    assert (one["found"], one["holds"]) == ("90.000 %; 100 not: blanking 70, channels 30", False)
    assert not certificate.sound(verdicts)


def test_which_deadline_is_held_is_the_answer_and_that_none_is_fails() -> None:
    seen = {
        "share_of_windows": 1.0,
        "not_decoded": {},
        "source": {"lost_samples": 0},
        "unexplained_windows": 0,
        "dropped_by_client": 0,
        "memory_mib": {"grown": 0.0},
    }
    for ms, holds in ((1.0, True), (9.0, True), (60.0, False)):
        assert certificate.sound(certificate._verdicts(seen, {"sample to frame": np.array([ms])})) is holds
    lost = seen | {"source": {"lost_samples": 1}}
    assert not certificate.sound(certificate._verdicts(lost, {"sample to frame": np.array([1.0])}))
    unexplained = seen | {"unexplained_windows": 1}
    assert not certificate.sound(certificate._verdicts(unexplained, {"sample to frame": np.array([1.0])}))


@pytest.mark.parametrize("rate_hz", [30_000.0, 24_414.0625, 19_531.25])
def test_missing_windows_are_counted_in_bins_and_those_without_a_reason_apart(rate_hz: float) -> None:
    def frame(k: int, epoch: int = 0, missed: int = 0, flags: tuple[str, ...] = ()) -> Heard:
        last = int((128 + 10 * k) * rate_hz / 1000)
        return Heard(2.0, {}, 100 + 0.01 * k, last, flags, True, epoch, missed)

    whole = [frame(k) for k in range(1000)]
    assert missing_windows(whole, 0.01, rate_hz) == (0, 0)
    assert missing_windows([*whole[:3], *whole[4:500], *whole[540:]], 0.01, rate_hz) == (41, 41)
    assert missing_windows([*whole[:3], frame(9, flags=("overload",)), *whole[10:]], 0.01, rate_hz) == (6, 0)
    assert missing_windows([whole[0], frame(3, missed=2), frame(5, missed=2)], 0.01, rate_hz) == (3, 1)
    again = [frame(k, 0) for k in range(10)]
    later = [one._replace(epoch=1, sample_time=one.sample_time + 300, flags=("settling",)) for one in again]
    assert missing_windows([*again, *later], 0.01, rate_hz) == (29_990, 0), "a stream that was away for five minutes"
    assert missing_windows(whole[:1], 0.01, rate_hz) == (0, 0)


def test_a_service_with_a_problem_is_not_certified() -> None:
    assert certificate._sound({"problem": "", "model": "fake@1"})["model"] == "fake@1"
    with pytest.raises(OperatorFault, match=r"certify: .*found 95 channels"):
        certificate._sound({"problem": "stream utah: found 95 channels, expected the 96 of the bundle"})


def test_what_cannot_be_certified_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorFault, match="expected lsl:PREDICATE"):
        certify(6.0, tmp_path / "a.html", "simulate", [])
    with pytest.raises(OperatorFault, match="did not start"):
        certify(6.0, tmp_path / "a.html", None, ["--model", "nobody"])
    monkeypatch.setattr(certificate, "STREAM_S", 2.0)
    with pytest.raises(OperatorFault, match="no stream yet"):
        certify(6.0, tmp_path / "a.html", "lsl:name='NoSuchRig'", [])
