"""On a real port: who loses a token is shown out within a second, and TLS is what others must speak."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from models.errors import OperatorFault
from server.cli import run
from server.settings import Settings
from server.tls import check_tls
from server.tokens import Tokens, add_token
from server.wire import Wire
from tests.server.test_real_server import WIDE, Running, to_its_end


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@contextlib.contextmanager
def ended(running: Running) -> Iterator[Running]:
    """Also where the test fails."""
    try:
        yield running
    finally:
        running.stop()


def told(port: int, path: str, secret: str | None) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if secret is not None:
        request.add_header("Authorization", f"Bearer {secret}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_revoked_token_is_out_within_a_second_and_nobody_else(file: Path) -> None:
    ana, rig = add_token(file, "ana", "operator"), add_token(file, "rig", "viewer")
    with ended(Running(tokens=Tokens(file))) as running:
        ana_goes_and_rig_stays(running, file, ana, rig)


def connected(running: Running) -> int:
    """WebSockets whose connection has not ended."""
    return sum(isinstance(one, Wire) for one in list(running.server.server_state.connections))


def ana_goes_and_rig_stays(running: Running, file: Path, ana: str, rig: str) -> None:
    header = {name: {"Authorization": f"Bearer {secret}"} for name, secret in (("ana", ana), ("rig", rig))}
    hers = [  # they read whatever comes, at once: only who has can be told why
        running.socket(path, max_queue=None, additional_headers=header["ana"])
        for path in ("/v1/events", "/v1/predictions?fields=probability")
    ]
    stuck = running.handshake(f"Authorization: Bearer {ana}\r\n")  # never reads
    others = running.socket("/v1/predictions?fields=probability", max_queue=None, additional_headers=header["rig"])
    running.live.say(200, embedding=WIDE)
    assert running.service.subscribers == 4
    assert run(["token", "revoke", "ana", "--tokens", str(file)]) == 0
    began = time.monotonic()  # the last that it does is to put the new file in the old one's place
    for one in hers:
        with contextlib.suppress(ConnectionClosed):
            while True:
                one.recv(timeout=5)
        assert (one.close_code, one.close_reason) == (1008, "the token does not hold any more")
    took_s = time.monotonic() - began
    assert took_s < 1.0, took_s
    while (
        running.service.subscribers > 1 or connected(running) > 1
    ):  # who does not read has half a second for the reason
        assert time.monotonic() - began < 2.0
        time.sleep(0.01)
    assert (told(running.port, "/v1/status", ana), told(running.port, "/v1/status", rig)) == (401, 200)
    with pytest.raises(InvalidStatus) as refused:
        running.socket("/v1/events", additional_headers=header["ana"])
    assert refused.value.response.status_code == 401
    running.live.say(1)
    last = -1
    while last < 200:
        message = json.loads(others.recv(timeout=5))
        last = message.get("seq", last)
    others.close()
    to_its_end(stuck)


# TLS -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    name = ("-subj", "/CN=rig", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    made = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run([*made, "-days", "1", "-keyout", key, "-out", cert, *name], check=True, capture_output=True)
    return cert, key


def test_over_tls(file: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    check_tls(cert, key)
    secret = add_token(file, "rig", "viewer")
    settings = Settings(tls_cert=cert, tls_key=key)
    with ended(Running(settings, tokens=Tokens(file), get=False)) as running:
        spoken_to(running, ssl.create_default_context(cafile=cert), secret, cert)


def spoken_to(running: Running, trusts: ssl.SSLContext, secret: str, cert: Path) -> None:
    base = f"https://127.0.0.1:{running.port}"
    with urllib.request.urlopen(f"{base}/healthz", timeout=10, context=trusts) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{base}/healthz", timeout=10)
    with pytest.raises((urllib.error.URLError, ConnectionError, OSError)):
        urllib.request.urlopen(f"http://127.0.0.1:{running.port}/healthz", timeout=10)
    old = ssl.create_default_context(cafile=cert)
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{base}/healthz", timeout=10, context=old)
    headers = {"Authorization": f"Bearer {secret}"}
    where = f"wss://127.0.0.1:{running.port}/v1/predictions"
    with pytest.raises(InvalidStatus):
        connect(where, ssl=trusts)
    with connect(where, ssl=trusts, additional_headers=headers, origin=base) as socket:
        running.live.say(20, embedding=WIDE)
        assert [json.loads(socket.recv(timeout=5))["seq"] for _ in range(20)] == list(range(20))
    with pytest.raises(InvalidStatus) as refused:
        connect(where, ssl=trusts, additional_headers=headers, origin=base.replace("https", "http"))
    assert refused.value.response.status_code == 403


def test_what_cannot_be_served_with(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with pytest.raises(OperatorFault, match=r"none\.pem: No such file"):
        check_tls(cert, tmp_path / "none.pem")
    for harm in ([key, cert], [cert, cert]):
        with pytest.raises(OperatorFault, match="expected a certificate and its own key"):
            check_tls(*harm)
    locked, other = tmp_path / "locked.pem", tmp_path / "other.pem"
    openssl = ("openssl", "ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked)
    subprocess.run(openssl, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", other], check=True, capture_output=True
    )
    for one in (locked, other):
        with pytest.raises(OperatorFault, match="the key without a password"):
            check_tls(cert, one)


def test_a_start_that_is_refused_is_one_sentence(
    file: Path, certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.wiring.build", lambda *_: pytest.fail("it went on to build the service"))
    starts = {
        "this machine only": {},
        "expected both or neither": {"TLS_CERT": certificate[0]},
        "`phosphene token add` makes one": {"TLS_CERT": certificate[0], "TLS_KEY": certificate[1], "TOKENS": file},
        "do not go together": {"TLS_CERT": certificate[0], "TLS_KEY": certificate[0], "TOKENS": "a token's"},
    }
    for words, settings in starts.items():
        if settings.get("TOKENS") == "a token's":
            add_token(file, "ana", "viewer")
            settings = {**settings, "TOKENS": file}
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(f"PHOSPHENE__{name}", str(value))
            assert run(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("phosphene: ")]
        assert words in line
