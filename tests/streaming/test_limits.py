"""Limits: what a file may say, and everything that it may not."""

from __future__ import annotations

import hashlib
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streaming.limits
from models.errors import OperatorFault
from streaming.limits import Budget, Pattern, Pulse, parse_limits, read_limits
from tests.streaming.test_trigger import TOML

SHAPE = Pulse(phase_us=170, interphase_us=60, frequency_hz=300, pulses=50)


def test_a_file_and_what_it_lists(tmp_path: Path) -> None:
    path = tmp_path / "p07.toml"
    path.write_text(TOML)
    limits = read_limits(path)
    assert [pattern.name for pattern in limits.patterns] == ["e34-10uA", "e34-5uA", "e35-10uA", "e35-5uA"]
    assert limits.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not limits.simulated_only
    assert limits.budget == Budget()
    assert limits.pattern(35, 5.0) == Pattern(35, 5.0, SHAPE)


def test_the_examples_that_people_start_from_are_taken() -> None:
    page = (Path(__file__).parents[2] / "docs" / "safety.md").read_text().split("```toml\n")[1].split("```")[0]
    source = "".join(line + "\n" for line in (streaming.limits.__doc__ or "").splitlines() if line[:1] == " ")
    for example in (page, textwrap.dedent(source)):
        limits = parse_limits(example.encode())
        assert [pattern.name for pattern in limits.patterns[:2]] == ["e34-10uA", "e34-20uA"]


def test_what_is_not_listed_cannot_be_asked_for() -> None:
    limits = parse_limits(TOML.encode())
    with pytest.raises(OperatorFault, match=r"electrode 36 at 5 µA: not listed in the limits 'tests'; choose one"):
        limits.pattern(36, 5.0)
    with pytest.raises(OperatorFault, match="electrode 34 at 7 µA: not listed"):
        limits.pattern(34, 7.0)
    many = parse_limits(TOML.replace("[34, 35]", str(list(range(1, 20)))).encode())
    with pytest.raises(OperatorFault, match="and 32 more"):
        many.pattern(90, 5.0)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "phase_us = 170",
            "phase = 170",
            r"pulse\.phase: not a key of a limits file \(a typo, or its unit",
        ),
        ("currents_ua = [10.0, 5.0]", "currents = [10.0]", "currents_ua: missing"),
        ("currents_ua = [10.0, 5.0]", "currents_ua = [128.5]", r"currents_ua\.0: found 128\.5, input should be less"),
        ("currents_ua = [10.0, 5.0]", "currents_ua = [-5.0]", "greater than 0"),
        ("currents_ua = [10.0, 5.0]", "currents_ua = [nan]", "found nan, input should be"),
        ("currents_ua = [10.0, 5.0]", 'currents_ua = ["5"]', "currents_ua"),
        ("currents_ua = [10.0, 5.0]", "currents_ua = [20.0]", "e34-20uA: 20 µA, expected at most 10 µA; lower it"),
        ("electrodes = [34, 35]", "electrodes = []", "electrodes"),
        ("electrodes = [34, 35]", "electrodes = [0]", r"electrodes\.0: found 0"),
        ("electrodes = [34, 35]", "electrodes = [34.5]", r"electrodes\.0"),
        ("electrodes = [34, 35]", "electrodes = [true]", r"electrodes\.0"),
        ("phase_us = 170", "phase_us = 400", "e34-10uA: 4 nC a phase, expected at most 2 nC"),
        ("phase_us = 170", "phase_us = 10", "greater than or equal to 50"),
        ("interphase_us = 60", "interphase_us = 52", "greater than or equal to 53"),
        ("frequency_hz = 300", "frequency_hz = 301", "less than or equal to 300"),
        ("pulses = 50", "pulses = 256", "less than or equal to 255"),
        ("frequency_hz = 300\npulses = 50", "frequency_hz = 100\npulses = 150", r"found a train of 1\.490 s, expected"),
        ("refractory_s = 2.0", "refractory_s = 0.4", "greater than or equal to 0.5"),
        (
            "pulses = 50\n[limits]\nrefractory_s = 2.0",
            "pulses = 150\n[limits]\nrefractory_s = 0.5",
            "of settling, 0.80 s",
        ),
        ("refractory_s = 2.0", "duty = 0.51", "less than or equal to 0.5"),
        ("refractory_s = 2.0", "duty = 0.002", "one train alone is beyond the duty of 0.002"),
        ("refractory_s = 2.0", "pulses_per_minute = 121", "less than or equal to 120"),
        ("refractory_s = 2.0", "charge_per_electrode_day_uc = 2881", "less than or equal to 2880"),
        ("refractory_s = 2.0", "charge_per_phase_nc = 25.5", "less than or equal to 25"),
        ("refractory_s = 2.0", "armed_max_s = inf", "armed_max_s"),
        ("[pulse]", "[pulse", "found no TOML"),
        ('name = "tests"', 'name = ""', "name"),
    ],
)
def test_what_a_file_may_not_say(old: str, new: str, sentence: str) -> None:
    assert old in TOML
    with pytest.raises(OperatorFault, match=sentence):
        parse_limits(TOML.replace(old, new).encode())


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="No such file"):
        read_limits(tmp_path / "none.toml")
    with pytest.raises(OperatorFault, match="Is a directory"):
        read_limits(tmp_path)
    (tmp_path / "long.toml").write_text("#" * 70_000)
    with pytest.raises(OperatorFault, match="more than 65536 bytes"):
        read_limits(tmp_path / "long.toml")
    (tmp_path / "latin.toml").write_bytes(TOML.encode() + "# 20 µA".encode("latin-1"))
    with pytest.raises(OperatorFault, match=r"latin\.toml: found no TOML"):
        read_limits(tmp_path / "latin.toml")
    for endless in (f"a = {'9' * 5000}", f"a = {'[' * 5000}"):
        (tmp_path / "endless.toml").write_text(endless)
        with pytest.raises(OperatorFault, match=r"endless\.toml: found no TOML"):
            read_limits(tmp_path / "endless.toml")


def test_charge_of_a_train() -> None:
    pattern = Pattern(1, 20.0, SHAPE)
    assert pattern.charge_nc == pytest.approx(3.4)
    assert pattern.train_charge_uc == pytest.approx(0.17)
    assert SHAPE.duration_s == pytest.approx(0.16373, abs=1e-5)


def test_quantised_is_what_the_device_delivers_and_is_judged_as_such() -> None:
    given_by_device = Pattern(1, 10.4, SHAPE).quantised(current_step_ua=1.0, time_step_us=100.0 / 3)
    assert given_by_device.current_ua == 10.0
    assert given_by_device.pulse.phase_us == pytest.approx(500 / 3)
    assert Pattern(1, 1.2, SHAPE).quantised(0.1, 0.0) == Pattern(1, 1.2, SHAPE), "no dust of the arithmetic"
    limits = parse_limits(TOML.encode())
    assert limits.refusal(limits.patterns[0].quantised(4.0, 0.0)) is None  # 10 → 8 µA
    refusal = limits.refusal(limits.patterns[0].quantised(6.0, 0.0))  # 10 → 12 µA
    assert refusal == "e34-12uA: 12 µA, expected at most 10 µA"


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_any_other_bytes_are_one_sentence(content: bytes) -> None:
    with pytest.raises(OperatorFault) as fault:
        parse_limits(content)
    assert "\n" not in str(fault.value).strip()
