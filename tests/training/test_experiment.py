"""The proof at a tiny size: what it claims is what its trials say, and no pulse was unlawful."""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import find_bundle
from models.errors import OperatorFault
from models.onnx_decoder import open_bundle
from server.cli import run
from server.settings import PACKAGED
from streaming.favour import Favour
from streaming.limits import read_limits
from streaming.participant.level_a import LevelA
from streaming.participant.participant import Participant
from streaming.participant.settings import ParticipantSettings
from streaming.plan import make_plan
from streaming.trigger import TriggerSettings
from training.closed_loop import Walked, mean_odds, walk
from training.experiment import experiment, without_state
from training.experiment_plan import limits_text
from training.experiment_sessions import Job
from training.experiment_settings import ExperimentSettings
from training.ideal_gate import believed
from training.recalibration import BeforeTrial, recalibration
from training.rigs import BroadbandRig, EnvelopeRig

BUNDLE = find_bundle(PACKAGED, "default")
TINY = ExperimentSettings(
    trials=6, sham=0.25, blocks=4, share=0.4, calibration_sessions=1, calibration_s=120.0, hop_bins=64, seed=3
)
MINUTE = 60 * 30_000
PATTERN_TOML = limits_text([53], [15.0])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("experiment") / "first"
    return out, experiment(out, BUNDLE, TINY)


def trials_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def test_the_same_seed_gives_the_same_result_to_the_bit(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, first = done
    second = experiment(tmp_path / "second", BUNDLE, TINY)
    assert first["measured"].keys() == second["measured"].keys()
    first, second = ({key: told[key] for key in told if key != "measured"} for told in (first, second))
    assert json.dumps(first) == json.dumps(second)
    assert (out / "trials.jsonl").read_bytes() == (tmp_path / "second" / "trials.jsonl").read_bytes()
    assert (out / "plan.json").read_bytes() == (tmp_path / "second" / "plan.json").read_bytes()


def test_arms_are_balanced_and_the_plan_was_kept(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    rows, plan = trials_of(out), json.loads((out / "plan.json").read_text())
    assert plan["sha256"] == result["experiment"]["sha256"]
    for number, schedule in enumerate(plan["schedule"]):
        mine = [row for row in rows if row["session"] == number]
        assert [(row["arm"], row["sham"]) for row in mine] == [(t["arm"], t["sham"]) for t in schedule]
        assert [f"e{row['electrode']}-{row['current_ua']:g}uA" for row in mine] == [t["pattern"] for t in schedule]
    counts = Counter((row["arm"], row["electrode"], row["sham"]) for row in rows)
    for (arm, electrode, sham), n in counts.items():
        assert counts["favourable" if arm == "random" else "random", electrode, sham] == n
    assert result["arms"]["favourable"]["trials"] == result["arms"]["random"]["trials"] >= TINY.trials


def test_every_pulse_was_lawful(done: tuple[Path, dict[str, Any]]) -> None:
    """Derived once more, from the limits file and the trials alone."""
    out, _ = done
    told = tomllib.loads((out / "limits.toml").read_text())
    limits, pulse = told["limits"], told["pulse"]
    rows = trials_of(out)
    assert told["simulated_only"]
    train_s = (pulse["pulses"] - 1) / pulse["frequency_hz"] + (2 * pulse["phase_us"] + pulse["interphase_us"]) * 1e-6
    for session in {row["session"] for row in rows}:
        mine = [row for row in rows if row["session"] == session]
        at = [row["sample"] for row in mine]
        assert all(b - a >= limits["refractory_s"] * 30_000 for a, b in pairwise(at))
        assert all(sum(t - MINUTE < s <= t for s in at) <= limits["pulses_per_minute"] for t in at)
        assert len(mine) <= limits["pulses_per_session"]
        for row in mine:
            assert row["electrode"] in told["electrodes"]
            assert row["current_ua"] in told["currents_ua"]
            assert row["current_ua"] <= limits["current_ua"]
            phase_nc = row["current_ua"] * pulse["phase_us"] * 1e-3
            assert phase_nc <= limits["charge_per_phase_nc"]
            assert row["charge_uc"] == (0 if row["sham"] else pytest.approx(phase_nc * pulse["pulses"] * 1e-3))
            assert 0 < row["onset_sample"] - row["sample"] <= 0.010 * 30_000
            if row["arm"] == "favourable":
                assert row["probability"] >= json.loads((out / "plan.json").read_text())["thresholds"]["p_on"]
        for electrode in told["electrodes"]:
            real = [row for row in mine if row["electrode"] == electrode and not row["sham"]]
            assert sum(row["charge_uc"] for row in real) <= 290.0
            assert all(sum(t - MINUTE < s["sample"] <= t for s in real) * train_s <= 0.10 * 60 for t in at)


def test_a_participant_whose_state_does_not_matter_shows_no_lift(done: tuple[Path, dict[str, Any]]) -> None:
    _, result = done
    arms = result["state_does_not_matter"]["arms"]
    assert all(arms[name]["trials"] == 20 * result["arms"][name]["trials"] for name in arms)
    nobody = result["state_does_not_matter"]["compared"]["favourable"]
    assert nobody["expected_lift"]["value"] == pytest.approx(0.0, abs=1e-12)
    low, high = nobody["lift"]["interval"]
    assert low <= 0 <= high


def test_without_its_state_the_loop_fires_at_the_same_moments(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """`without_state` gives the same pulses to another participant; here the whole loop is run with that one."""
    settings, thresholds = ParticipantSettings(session=77), TriggerSettings(p_on=0.55, p_off=0.5)
    nobody = replace(settings, beta_state=0.0)
    path = tmp_path / "limits.toml"
    path.write_text(PATTERN_TOML)
    limits, decoder = read_limits(path), open_bundle(BUNDLE)
    plan = make_plan(limits, ("favourable", "random"), 3, seed=1)

    def ran(who: ParticipantSettings) -> Walked:
        return walk(EnvelopeRig(who, decoder), 0, limits, plan, thresholds, 72)

    theirs = ran(nobody).rows
    assert without_state(settings, ran(settings).rows) == list(theirs)
    assert len({row.truth for row in theirs if not row.sham}) == 1, "one pattern, and nothing else matters"


def test_windows_that_touch_a_train_are_null_and_the_history_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(PATTERN_TOML)
    decoder, pattern = open_bundle(BUNDLE), read_limits(path).patterns[0]
    for rig in (EnvelopeRig(ParticipantSettings(), decoder), BroadbandRig(ParticipantSettings(), decoder)):
        seen = [rig.look() for _ in range(50)]
        assert not any(one.full_history for one in seen)
        assert [one.probability is None for one in seen[-3:]] == [False] * 3 or seen[-1].flags == ("settling",)
        while (before := rig.look()).probability is None:
            pass
        onset = rig.stimulate(pattern, "a").onset_sample
        after = [rig.look() for _ in range(20)]
        for one in after:
            first, end = one.last_sample + 1 - 128 * 30, one.last_sample + 1
            touched = first < onset + round(0.16373 * 30_000) and end > onset
            assert not touched or one.probability is None, one.flags
        nulls = [one for one in after if one.probability is None]
        assert all("blanking" in one.flags or "late_marker" in one.flags for one in nulls)
        assert 7 <= len(nulls) <= 9, "a train of 164 ms and a window of 128, at hops of 40"
        assert after[-1].probability is not None
        assert before.last_sample < onset


def test_beliefs_do_not_hang_on_how_they_are_cut_and_tell_of_the_state() -> None:
    settings = ParticipantSettings(session=4)
    whole, part = believed(settings, 24.0), believed(settings, 8.0)
    assert np.allclose(whole[: len(part)], part, equal_nan=True, atol=1e-12)
    assert np.isnan(whole[:3]).all()
    assert not np.isnan(whole[3:]).any()
    participant = Participant(settings)
    LevelA(participant).read(24_000)
    state = [participant.latent.prestimulus((hop + 1) * 40) for hop in range(len(whole))]
    assert np.corrcoef(whole[20:], state[20:])[0, 1] > 0.6


def test_mean_odds_are_the_engines_own() -> None:
    seen = [(0.04 * k, None if k == 9 else 0.5 + 0.4 * math.sin(k)) for k in range(40)]
    means = [mean for _, mean in mean_odds(seen, 0.5)]
    keep = math.exp(-0.04 / 0.5)
    odds = [math.log(p / (1 - p)) if p else 0.0 for _, p in seen]
    assert means[0] == pytest.approx(odds[0])
    assert means[1] == pytest.approx(keep * odds[0] + (1 - keep) * odds[1])
    assert means[9] is None
    assert means[10] == pytest.approx(odds[10])


@pytest.mark.parametrize("smoothing_s", [0.0, 0.5])
@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_a_window_that_is_sure_of_itself_has_the_engines_log_odds(sure: float, smoothing_s: float) -> None:
    """A float32 logit above 17 is a probability of exactly 1."""
    engine = Favour(0.7, 0.6, 1000 * smoothing_s)
    seen = [(0.04 * k, p) for k, p in enumerate((0.6, sure, sure, 0.4))]
    for (seconds, mean), (_, p) in zip(mean_odds(seen, smoothing_s), seen, strict=True):
        assert mean is not None
        engine.push(None, p, round(1000 * seconds))
        assert 1 / (1 + math.exp(-mean)) == pytest.approx(engine.probability, abs=2e-6)


def test_recalibration_finds_slope_and_offset_and_refuses_what_cannot_be_calibrated() -> None:
    rng = np.random.default_rng(0)
    means = rng.standard_normal(4000) * 0.4
    answers = rng.random(4000) < 1 / (1 + np.exp(-(2.5 * means + 0.3)))
    found = recalibration(BeforeTrial(m, m, bool(a)) for m, a in zip(means, answers, strict=True))
    assert found.slope == pytest.approx(2.5, abs=0.3)
    assert found.offset == pytest.approx(0.3, abs=0.1)
    assert np.mean(np.array(found.means) >= found.p_on(0.2)) == pytest.approx(0.2, abs=0.01)
    with pytest.raises(OperatorFault, match="knows nothing"):
        recalibration(BeforeTrial(-m, -m, bool(a)) for m, a in zip(means, answers, strict=True))
    with pytest.raises(OperatorFault, match="expected at least"):
        recalibration([BeforeTrial(0.0, 0.0, True)] * 30)


def test_the_report_stands_alone(done: tuple[Path, dict[str, Any]]) -> None:
    text = (done[0] / "report.html").read_text()
    assert text.count("<svg") == 5
    assert "SIMULATED PARTICIPANT" in text
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in text.replace("http://www.w3.org", ""), "but for the names of SVG's own namespaces"


def test_sessions_are_not_those_that_the_bundle_was_fitted_on() -> None:
    fitted = {*range(100, 140), *range(200, 224), 300, 0}
    numbers = {Job(BUNDLE, replace(TINY, seed=s), k).participant.session for s in (0, 1) for k in (0, 30, 5000, 5003)}
    assert len(numbers) == 8
    assert not numbers & fitted


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["experiment", "--out", "{tmp}"], "never overwritten"),
        (["experiment", "--out", "{tmp}/nowhere/out"], "no such folder"),
        (["experiment", "--out", "{tmp}/out", "--arms", "sideways"], "sideways"),
        (["experiment", "--out", "{tmp}/out", "--arms", "random,random"], "twice"),
        (["experiment", "--out", "{tmp}/out", "--model", "nobody"], "nobody"),
        (["experiment", "--out", "{tmp}/out", "--trials", "0"], "--trials"),
    ],
)
def test_called_wrongly_is_one_sentence(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([part.format(tmp=tmp_path) for part in arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
    assert word in line
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_another_participant_is_refused(tmp_path: Path) -> None:
    stranger = replace(TINY, participant=ParticipantSettings(seed=9))
    with pytest.raises(OperatorFault, match="channel map"):
        experiment(tmp_path / "out", BUNDLE, stranger)
    assert not list(tmp_path.iterdir())
