"""The container files, the compose file and the unit: what can be told of them without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from server.settings import Settings
from tests.docker.prometheus import DOCKER

ROOT = DOCKER.parent
UNIT = DOCKER / "phosphene.service"


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yml").read_text()))


def test_every_service_is_on_the_host_and_held_short() -> None:
    services = compose()["services"]
    assert set(services) == {"phosphene", "participant", "prometheus", "grafana"}
    for name, one in services.items():
        assert one["network_mode"] == "host", name
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert "ports" not in one, "with the host's network there is nothing to publish"
        assert not any(word in str(one).lower() for word in ("password", "secret", "token")), name
        if "build" not in one and name != "participant":
            assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", one["image"]), "pinned"


def test_what_is_mounted_is_there() -> None:
    described = compose()
    for one in described["services"].values():
        for volume in one["volumes"]:
            what = volume.split(":")[0]
            assert (DOCKER / what).exists() if what.startswith(".") else what in described["volumes"]


def test_the_image_is_built_from_what_serving_needs() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    packages = {
        name.split(".")[0]
        for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set(re.findall(r"^COPY (\S+) \S+$", text, re.MULTILINE)) | {"pyproject.toml", "README.md"}
    assert packages <= copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert re.search(r"^USER phosphene$", text, re.MULTILINE)
    assert "/healthz" in text
    assert re.search(r"^ARG PYTHON=python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE), "pinned"


def test_the_settings_file_is_understood_with_and_without_its_comments() -> None:
    text = (DOCKER / "phosphene.toml").read_text()
    Settings(**tomllib.loads(text))
    settings = Settings(**tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)))
    assert (settings.log, settings.decode_core) == ("json", 3)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_hardened() -> None:
    """Exposure as systemd counts it, of 10; what our specification asks for is 3."""
    asked = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(UNIT)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    if "offline" in done.stderr:
        pytest.skip("this systemd cannot judge a file")
    assert done.returncode == 0, done.stdout


def test_the_unit_starts_what_there_is() -> None:
    text = UNIT.read_text()
    assert "ExecStart=/opt/phosphene/.venv/bin/phosphene serve --config /etc/phosphene/phosphene.toml" in text
    for wanted in ("Type=notify", "WatchdogSec=5", "Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert wanted in text
