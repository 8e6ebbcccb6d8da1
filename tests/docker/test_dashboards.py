"""Each expression of each dashboard finds something, in a real Prometheus that scrapes a real service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.metrics import Metrics
from tests.docker.prometheus import DOCKER, PROMETHEUS, scraping
from tests.server.test_closed_loop import LIMITS, Service

BOARDS = sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))
PROMETHEUS_HAS = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}


def expressions() -> Iterator[tuple[str, str]]:
    """(panel, expression) as Grafana would send it."""
    for board in BOARDS:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel.get("targets", ()):
                asked = target["expr"].replace("$instance", ".+").replace("$__rate_interval", "1m")
                assert "$" not in asked
                yield f"{board.stem}: {panel['title']}", asked


def test_the_provisioning_names_what_is_there() -> None:
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/phosphene.yml").read_text())["providers"]
    compose = yaml.safe_load((DOCKER / "compose.yml").read_text())
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
    for board in BOARDS:
        told = json.loads(board.read_text())
        assert told["uid"] == board.stem
        assert set(re.findall(r'"type": "prometheus",\s+"uid": "(\w+)"', board.read_text())) == {source["uid"]}
        assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])


def test_no_panel_asks_for_what_the_service_does_not_have() -> None:
    has = {sample.name for family in Metrics().registry.collect() for sample in family.samples} | PROMETHEUS_HAS
    for panel, expression in expressions():
        asked = set(re.findall(r"\b(?:phosphene|process|scrape)_[a-z_]+|\bup\b", expression))
        assert asked, panel
        assert asked <= has | {"phosphene_build_info"}, panel


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian: prometheus)")
def test_every_expression_finds_something(tmp_path: Path) -> None:
    service = Service(limits=LIMITS, journal=tmp_path / "a.journal", stimulator="simulated")
    try:
        with scraping(int(service.base.rpartition(":")[2]), tmp_path) as prometheus:
            empty = [(panel, asked) for panel, asked in expressions() if not prometheus.query(asked)]
            (group,) = prometheus.ask("rules")["groups"]
    finally:
        service.stop()
    assert empty == []
    wrong: list[Any] = [(rule["name"], rule.get("lastError")) for rule in group["rules"] if rule["health"] != "ok"]
    assert wrong == []
    assert [rule["name"] for rule in group["rules"] if rule["state"] == "firing"] == []
