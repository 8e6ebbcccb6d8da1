"""Settings: flags over environment over file over defaults, and nothing unknown is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import OperatorFault
from server.settings import load


@pytest.fixture
def rig(tmp_path):
    def write(text):
        (tmp_path / "rig.toml").write_text(text)
        return tmp_path / "rig.toml"

    return write


def test_precedence(rig, monkeypatch):
    file = rig("port = 8001\nparticipant = 'P1'\nsession = 'file'")
    monkeypatch.setenv("PHOSPHENE__SESSION", "environment")
    monkeypatch.setenv("PHOSPHENE__PORT", "8002")
    settings = load(file, port=8003, model=None)
    assert (settings.port, settings.session, settings.participant) == (8003, "environment", "P1")
    assert (settings.host, settings.source) == ("127.0.0.1", "lsl:name='UtahArray'")
    assert load(file).port == 8002


@pytest.mark.parametrize("text", ["prot = 8001", "port = 'many'", "port = 70000", "port = ", "[live]\nhop = 3"])
def test_wrong_files(rig, text):
    with pytest.raises(OperatorFault) as fault:
        load(rig(text))
    assert "\n" not in str(fault.value)


def test_missing_file(tmp_path):
    with pytest.raises(OperatorFault, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def test_unknown_environment(monkeypatch):
    monkeypatch.setenv("PHOSPHENE__PROT", "8001")
    with pytest.raises(OperatorFault, match="PHOSPHENE__PROT"):
        load()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "rig.example"])
def test_loopback_only(host):
    with pytest.raises(OperatorFault, match=r"host: found .* this machine only.*ssh -L"):
        load(host=host)


TLS = {"tls_cert": "cert.pem", "tls_key": "key.pem"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"host": "0.0.0.0", "tokens": "tokens.json"}, "without tls_cert"),
        ({"host": "0.0.0.0", "tokens": "none", **TLS}, "this machine only"),
        ({"host": "0.0.0.0", "tls_cert": "cert.pem"}, "expected both or neither"),
        ({"tls_key": "key.pem"}, "expected both or neither"),
        ({"origins": ["https://rig.lab:8000/page"]}, "origins"),
        ({"origins": ["*"]}, "origins"),
    ],
)
def test_what_would_open_it_half(changes, says):
    with pytest.raises(OperatorFault, match=says) as fault:
        load(**changes)
    assert "\n" not in str(fault.value)


def test_a_service_for_other_machines(rig, monkeypatch):
    monkeypatch.delenv("PHOSPHENE__TOKENS")
    settings = load(rig("host = '0.0.0.0'\ntls_cert = 'c.pem'\ntls_key = 'k.pem'\norigins = ['https://rig.lab:8000']"))
    assert (settings.host, settings.tokens, settings.origins) == ("0.0.0.0", None, ("https://rig.lab:8000",))
    assert load(tokens="none").tokens == "none"
    assert load(tokens="a/tokens.json").tokens == Path("a/tokens.json")
