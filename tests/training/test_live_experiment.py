"""The experiment over LSL in real time, at its smallest: three processes, half a dozen trials, every rule kept."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

import tests.streaming.sources.conftest  # noqa: F401, LSL stays on this machine
from models.bundle import find_bundle
from models.errors import OperatorFault, RigFault
from server.cli import run
from server.journal.lawful import violations
from server.journal.read import rows, verify
from server.live_session import Operator, live_session
from server.settings import PACKAGED
from streaming.limits import parse_limits
from streaming.participant.participant import Participant
from streaming.participant.stimulation import train
from streaming.plan import make_plan
from streaming.trigger import TriggerSettings
from training.closed_loop import Row, Walked
from training.experiment import experiment
from training.experiment_numbers import numbers
from training.experiment_plan import limits_of, limits_text, make_plans, served_thresholds
from training.experiment_sessions import Job
from training.experiment_settings import ExperimentSettings
from training.live_session import Seen, walked
from training.recalibration import Recalibration

BUNDLE = find_bundle(PACKAGED, "default")
TINY = ExperimentSettings(
    trials=2, sham=1 / 3, broadband=True, minutes=2.0, share=0.4, calibration_sessions=1, calibration_s=120.0,
    hop_bins=64, seed=3, ideal=False,
)  # fmt: skip
WISH = "somebody's wish"
pytestmark = pytest.mark.timeout(600)  # a machine that has much else to do


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The experiment, in which somebody disarms the service once."""
    folder = tmp_path_factory.mktemp("live")

    def disarm_once(line: str) -> None:
        if line.startswith("armed"):
            (log,) = folder.glob(".out.*.partial/serve.log")
            found = re.search(r"http://\S+?:\d+", log.read_text())
            assert found
            threading.Timer(2.0, _disarm, (found[0],)).start()

    return folder / "out", experiment(folder / "out", BUNDLE, TINY, disarm_once, live_session)


def _disarm(base: str) -> None:
    body, headers = json.dumps({"reason": WISH}).encode(), {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{base}/v1/trigger/disarm", body, headers), timeout=10).close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_pulse_was_lawful(done: tuple[Path, dict[str, Any]]) -> None:
    out, _ = done
    verify(out / "session.journal")
    assert violations(out / "session.journal", out / "given.jsonl", out / "limits.toml") == []


def test_it_went_by_the_plan_that_was_written_down(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    plan, trials = json.loads((out / "plan.json").read_text()), lines(out / "trials.jsonl")
    assert [(t["arm"], t["sham"]) for t in plan["schedule"][0][: len(trials)]] == [
        (t["arm"], t["sham"]) for t in trials
    ]
    assert {row.load()["sha256"] for row in rows(out / "session.journal") if row.kind == "plan"} == {
        plan["plans_sha256"][0]
    }
    assert not result["complete"] or (result["live"]["ended"] == "its plan was done" and len(trials) == 6)


def test_the_trials_are_those_that_the_participant_knows_of(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    given, trials = lines(out / "given.jsonl"), lines(out / "trials.jsonl")
    pulses = [row for row in trials if not row["sham"]]
    assert [row["onset_sample"] for row in pulses] == [one["onset_sample"] for one in given]
    participant = Participant(Job(BUNDLE, TINY, 0).participant)
    for row in pulses:
        truth = participant.stimulate(train(row["electrode"], row["current_ua"]), row["onset_sample"])
        assert (row["truth"], row["state"]) == (truth.probability, truth.prestimulus_state)
        assert row["perceived"] in (truth.perceived, None)
        assert row["onset_sample"] > row["sample"]
    assert any(row["perceived"] is not None for row in pulses), "reports came back over LSL"
    assert all(row["perceived"] is None for row in trials if row["sham"]), "a sham is announced to nobody"
    assert sum(arm["trials"] + arm["unanswered"] for arm in result["arms"].values()) == len(given)


def test_who_disarms_is_heard_and_counted(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    assert WISH in {row.load()["reason"] for row in rows(out / "session.journal") if row.kind == "transition"}
    assert result["live"]["interruptions"]


def test_latency_is_that_of_the_triggers_and_of_every_window(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    found = result["live"]["latency"]
    assert found["pulses"] == len(lines(out / "given.jsonl"))
    assert found["windows"] > 0
    for name in ("sample_to_trigger", "sample_to_prediction", "inference", "noise_floor"):
        assert 0 <= found[name]["p50"] <= found[name]["p99"] <= found[name]["p99.9"] <= found[name]["max"]
    assert found["inference"]["p50"] < found["sample_to_prediction"]["p50"]


def test_the_report_stands_alone_and_says_so(done: tuple[Path, dict[str, Any]]) -> None:
    text = (done[0] / "report.html").read_text()
    assert "In real time" in text
    assert "Disarmed and armed again" in text
    assert "2 shams, which nobody answered" in text or not done[1]["complete"]
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in text.replace("http://www.w3.org", "")


def test_nothing_is_left_running(done: tuple[Path, dict[str, Any]]) -> None:
    assert not [child for child in psutil.Process().children(recursive=True) if "server.cli" in child.cmdline()]
    assert [path.name for path in done[0].parent.iterdir()] == ["out"]


# Without the two other processes -------------------------------------------------------------------------------------


def job(bundle: Path = BUNDLE) -> Job:
    limits = parse_limits(limits_text([6], [24.9]).encode())
    (plan,) = make_plans(limits, TINY)
    return Job(bundle, TINY, 0, plan, limits, TriggerSettings(p_on=0.51, p_off=0.5))


def test_a_process_that_ends_is_one_sentence_and_the_other_ends_too(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(limits_of(TINY))
    with pytest.raises(RigFault, match=r"phosphene serve ended with status 2: phosphene: no version 99 of bundle"):
        live_session(job(BUNDLE.parent / "99"), tmp_path, lambda line: None)
    assert not [child for child in psutil.Process().children(recursive=True) if "server.cli" in child.cmdline()]


class Scripted(BaseHTTPRequestHandler):
    """A service that tells one state after the other."""

    states: tuple[dict[str, Any], ...] = ()
    asked: list[str]

    def do_GET(self) -> None:
        type(self).states, now = self.states[1:], self.states[0]
        self._say(now)

    def do_POST(self) -> None:
        self.asked.append(self.path.rsplit("/", 1)[1])
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say({})

    def _say(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("last", "ended"),
    [
        ({"state": "FAULT", "because": "the device is gone", "plan": None}, "of a fault: the device is gone"),
        ({"state": "ARMED", "plan": {"next": 6, "trials": 6}}, "its plan was done"),
    ],
)
def test_the_operator_ends_at_a_fault_and_behind_the_plan(last: dict[str, Any], ended: str) -> None:
    armed = {"state": "ARMED", "plan": {"next": 1, "trials": 6}}
    script = type("One", (Scripted,), {"states": (armed, last), "asked": []})
    with HTTPServer(("127.0.0.1", 0), script) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told = Operator(server.server_port, lambda: None, 0.0).watch(60.0, lambda line: None)
        server.shutdown()
    assert told == {"ended": ended, "interruptions": []}
    assert script.asked == ["heartbeat", "disarm"]


def trigger(trial: int, arm: str, trigger_id: str, at: float, **changes: Any) -> tuple[str, dict[str, Any]]:
    fields = dict(
        trigger_id=trigger_id, refused="", sham=False, trial=trial, arm=arm, electrode=6, current_ua=24.9,
        train_charge_uc=0.2, sample_time=at, probability=0.55, waited_s=1.0,
    )  # fmt: skip
    return "trigger", fields | changes


def seen(**changes: Any) -> Seen:
    """Three trials that were given, one of them unanswered, a sham, and one that was refused; sample 0 was at 100 s."""
    journal = [
        trigger(0, "random", "a", 110.0),
        ("stimulation", {"trigger_id": "a", "trial": 1}),
        ("report", {"trial": 1, "perceived": True}),
        trigger(1, "favourable", "shadow-0", 115.0, sham=True),
        trigger(2, "favourable", "b", 120.0),
        ("stimulation", {"trigger_id": "b", "trial": 2}),
        ("report", {"trial": 2, "perceived": False}),
        trigger(3, "random", "x", 123.0, refused="late"),
        ("stimulation", {"trigger_id": None, "trial": 3}),
        ("report", {"trial": 3, "perceived": True}),
        trigger(4, "random", "c", 125.0),
        ("stimulation", {"trigger_id": "c", "trial": 4}),
    ]
    given = [
        {"trigger_id": one, "t_mono": at + 0.002, "onset_sample": round((at - 99.998) * 30_000), "state": 0.5,
         "probability": 0.6, "perceived": True}
        for one, at in (("a", 110.0), ("b", 120.0), ("c", 125.0))
    ]  # fmt: skip
    about = {"began": 105.0, "ended": 130.0, "told": {"ended": "its time was over"}}
    predictions = [(104.0, None), (106.0, 0.5), (190.0, 0.5)]
    return Seen(**{"journal": journal, "given": given, "predictions": predictions, **about, **changes})


def test_what_a_session_left_behind_becomes_its_trials() -> None:
    found = walked(job(), seen(), lambda p: p + 0.1)
    assert [(row.trial, row.arm, row.sham, row.perceived) for row in found.rows] == [
        (0, "random", False, True),
        (1, "favourable", True, None),
        (2, "favourable", False, False),
        (4, "random", False, None),
    ]
    assert [row.sample for row in found.rows] == [300_000, 450_000, 600_000, 750_000]
    assert [row.onset_sample - row.sample for row in found.rows] == [60, 1, 60, 60]
    assert [row.charge_uc for row in found.rows] == [0.2, 0.0, 0.2, 0.2]
    assert {row.probability for row in found.rows} == {0.55 + 0.1}
    assert [(at, p) for at, p, _ in found.excerpt] == [(4.0, None), (6.0, 0.6)]
    assert (found.seconds, found.complete, found.hops) == (30.0, False, 3)


def test_a_session_without_a_train_is_refused() -> None:
    with pytest.raises(RigFault, match="ended because its time was over"):
        walked(job(), seen(given=[]), lambda p: p)


def test_what_nobody_answered_is_counted_and_in_no_rate() -> None:
    one = Row(0, 0, "random", False, 6, 24.9, 0.2, 30_000, 30_060, 0.5, 1.0, True, 0.6, 0.1)
    session = [one, replace(one, perceived=None, truth=0.0, trial=1), replace(one, sham=True, perceived=None, trial=2)]
    session += [replace(row, arm="favourable") for row in session]
    limits = job().limits
    assert limits is not None
    found = numbers([Walked(tuple(session), 10.0, True, 9, (), ())], session, {}, limits, 0)
    for arm in found["arms"].values():
        assert (arm["trials"], arm["hits"], arm["unanswered"], arm["expected_rate"]) == (1, 1, 1, 0.6)
        assert (arm["shams"]["trials"], arm["shams"]["unanswered"]) == (0, 1)
        assert arm["charge_uc"] == 0.4
    assert found["compared"]["favourable"]["expected_lift"]["value"] == 0.0


def test_a_service_is_told_the_threshold_at_which_the_recalibrated_one_is_reached() -> None:
    calibrated = Recalibration(slope=4.0, offset=-0.5, trials=99, auc_window=0.6, auc_mean=0.7, means=(0.5,))
    asked = TriggerSettings(p_on=0.65, p_off=0.6, dwell_hops=3, smoothing_s=0.5)
    served, meant = served_thresholds(asked, calibrated, hops=4.0)
    assert calibrated.after(served.p_on) == pytest.approx(0.65)
    assert calibrated.after(served.p_off) == pytest.approx(0.6)
    assert (served.dwell_hops, served.smoothing_s) == (12, 0.5)
    assert (meant.p_on, meant.p_off, meant.dwell_hops) == (pytest.approx(0.65), pytest.approx(0.6), 3)
    served, meant = served_thresholds(asked, replace(calibrated, offset=2.0), hops=4.0)
    assert (served.p_on, served.p_off) == (0.505, 0.5), "a service takes nothing below one half"
    assert meant.p_on == replace(calibrated, offset=2.0).after(0.505)
    assert meant.p_on > 0.65


def test_live_plans_are_the_services_own() -> None:
    limits = parse_limits(limits_of(TINY).encode())
    (plan,) = make_plans(limits, replace(TINY, trials=1000, minutes=1.0))
    assert len(plan.trials) == 2 * 10, "no more than a minute can hold at one in 3 s"
    assert {trial.pattern for trial in plan.trials} == {limits.patterns[0]}
    again = make_plan(limits, TINY.arms, 10, TINY.sham, plan.seed, limits.patterns[:1])
    assert plan.sha256 == again.sha256


@pytest.mark.parametrize(
    ("flags", "word"), [(["--minutes", "5"], "--live"), (["--live", "--minutes", "500"], "500 minutes")]
)
def test_called_wrongly_is_one_sentence(
    flags: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["experiment", "--out", str(tmp_path / "out"), *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
    assert word in line
    assert not list(tmp_path.iterdir())


def test_minutes_without_a_service_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="both, or neither"):
        experiment(tmp_path / "out", BUNDLE, TINY)
