"""The alerts hold what Prometheus asks of them, ask for what the service has, and tell where to read on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.metrics import Metrics
from tests.docker.prometheus import DOCKER, PROMTOOL

ROOT = DOCKER.parent
ALERTS = [
    rule
    for group in yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
METRIC = re.compile(r"\b(?:phosphene|process)_\w+|\bup\b")


def exposed() -> set[str]:
    """Names of the series that the service has from its start; `up` is Prometheus' own."""
    return {sample.name for family in Metrics().registry.collect() for sample in family.samples} | {"up"}


def anchors(page: Path) -> set[str]:
    """What a heading can be reached by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_what_there_is_and_has_a_runbook(alert: dict[str, Any]) -> None:
    assert set(METRIC.findall(alert["expr"])) <= exposed()
    page, anchor = alert["annotations"]["runbook"].split("#")
    assert anchor == alert["alert"].lower()
    assert anchor in anchors(ROOT / page)
    assert alert["labels"]["severity"] in ("page", "look")


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = yaml.safe_load((DOCKER / "prometheus" / "alerts_test.yml").read_text())["tests"]
    for alert in ALERTS:
        name = alert["alert"]
        mine = [case for case in cases if any(told["alertname"] == name for told in case["alert_rule_test"])]
        assert [case["name"].split()[0] for case in mine] == [name]
        (fires,) = (told for told in mine[0]["alert_rule_test"] if told.get("exp_alerts"))
        told = {one["exp_labels"]["instance"] for one in fires["exp_alerts"]}
        there = {
            found[1] for one in mine[0]["input_series"] if (found := re.search(r'instance="(\w+)"', one["series"]))
        }
        assert "bad" in told
        assert "good" in there - told


def checks() -> Iterator[tuple[str, ...]]:
    yield "check", "rules", "alerts.yml"
    yield "check", "config", "prometheus.yml"
    yield "test", "rules", "alerts_test.yml"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize("arguments", checks(), ids=" ".join)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *arguments], cwd=DOCKER / "prometheus", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
