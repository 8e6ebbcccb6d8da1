"""A real Prometheus, with our own configuration, on a service that a test started."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from server.running import free_port

DOCKER = Path(__file__).parents[2] / "docker"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
SCRAPE = "5s"  # as our configuration has it; a test scrapes four times a second
FAST = "250ms"


class Prometheus:
    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **query: str) -> Any:
        """The `data` of an answer. Raises AssertionError with Prometheus' own words."""
        asked = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[Any]:
        return list(self.ask("query", query=expression)["result"])

    def has(self, scrapes: int) -> bool:
        try:
            urllib.request.urlopen(f"{self._base}/-/ready", timeout=5).close()
        except OSError:  # it starts
            return False
        found = self.query("count_over_time(up[1m])")
        return bool(found) and int(found[0]["value"][1]) >= scrapes


@contextmanager
def scraping(port: int, folder: Path, scrapes: int = 6) -> Iterator[Prometheus]:
    """`port`: the service's. It has been scraped so many times when the block begins."""
    assert PROMETHEUS is not None
    text = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    assert f"scrape_interval: {SCRAPE}" in text
    text = text.replace(SCRAPE, FAST).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    config = folder / "prometheus.yml"
    config.write_text(text.replace("alerts.yml", str(DOCKER / "prometheus" / "alerts.yml")))
    own = free_port()
    where = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{own}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([PROMETHEUS, f"--config.file={config}", *where], stdout=log, stderr=log)
        try:
            one, until = Prometheus(own), time.monotonic() + 30
            while not one.has(scrapes):
                assert time.monotonic() < until, (folder / "prometheus.log").read_text()
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                time.sleep(0.1)
            yield one
        finally:
            process.kill()
            process.wait()
