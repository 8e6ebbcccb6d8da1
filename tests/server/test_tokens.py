"""The file of tokens: what is kept, what is refused, and when a service may start without one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from models.errors import OperatorFault
from server.cli import run
from server.settings import load
from server.tokens import MOST_TOKENS, Tokens, add_token, default_tokens, open_tokens, read_tokens, revoke_token

TLS = {"tls_cert": "cert.pem", "tls_key": "key.pem"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_only_the_hash_is_kept_and_only_this_user_reads_it(file: Path) -> None:
    secrets = [add_token(file, f"reader-{k}", "viewer") for k in range(3)]
    assert len(set(secrets)) == 3
    assert all(len(secret) == 43 for secret in secrets)  # 256 bits
    text = file.read_text()
    assert not any(secret in text for secret in secrets)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in file.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_whose_secret_it_is(file: Path) -> None:
    ana, rig = add_token(file, "ana", "operator"), add_token(file, "rig", "viewer")
    tokens = Tokens(file)
    assert [tokens.of(secret).name for secret in (ana, rig)] == ["ana", "rig"]
    for wrong in (
        "",
        ana[:-1],
        ana + "A",
        rig.swapcase(),
        "\udcff",
        "x" * 10_000,
        json.loads(file.read_text())["tokens"][0]["sha256"],
    ):
        assert tokens.of(wrong) is None
    assert tokens.of(ana).may("viewer")
    assert tokens.of(ana).may("operator")
    assert not tokens.of(ana).may("admin")


def test_what_changes_while_it_runs(file: Path) -> None:
    secret = add_token(file, "ana", "operator")
    tokens = Tokens(file)
    token = tokens.of(secret)
    other = add_token(file, "rig", "viewer")
    tokens.look()
    assert tokens.of(other).name == "rig"
    assert tokens.holds(token)
    revoke_token(file, "ana")
    assert tokens.holds(token)  # until it looks
    tokens.look()
    assert not tokens.holds(token)
    assert tokens.of(secret) is None
    add_token(file, "ana", "operator")  # the name again, and another secret
    tokens.look()
    assert not tokens.holds(token)


@pytest.mark.parametrize("harm", ["gone", "garbage", "open to others"])
def test_a_file_that_cannot_be_trusted_any_more_lets_nobody_in(
    file: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = add_token(file, "ana", "operator")
    tokens, whole = Tokens(file), file.read_bytes()
    if harm == "gone":
        file.unlink()
    elif harm == "garbage":
        file.write_text("{")
    else:
        file.write_bytes(whole + b"\n")
        file.chmod(0o622)
    tokens.look()
    assert tokens.of(secret) is None
    assert "no token holds until this is mended" in caplog.text
    file.unlink(missing_ok=True)
    file.write_bytes(whole)
    file.chmod(0o600)
    tokens.look()
    assert tokens.of(secret).name == "ana"


def line(**changes: str) -> str:
    """A file of one token."""
    return json.dumps({"tokens": [{"name": "a", "role": "admin", "sha256": "0" * 64, "added": ""} | changes]})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"tokens": 3}',
        '{"tokens": [], "more": 1}',
        line(role="root"),
        line(sha256="secret"),
        line(name="a\nb"),
        line(line_more="x"),
        line().replace("]", f", {line()[12:-2]}]"),
        "[" * 70_000,
    ],
)
def test_what_is_no_such_file(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(OperatorFault, match=r"tokens .*tokens\.json: ") as fault:
        read_tokens(file)
    assert "\n" not in str(fault.value)
    assert "secret" not in str(fault.value)


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_one_that_others_may_write_is_refused(file: Path) -> None:
    add_token(file, "ana", "operator")
    file.chmod(0o660)
    with pytest.raises(OperatorFault, match=r"others may write it.*chmod 600"):
        read_tokens(file)


def test_names(file: Path) -> None:
    add_token(file, "ana", "operator")
    with pytest.raises(OperatorFault, match="'ana' already"):
        add_token(file, "ana", "viewer")
    for name in ("", "two words", "a\n", "-x", "x" * 65, "ä"):
        with pytest.raises(OperatorFault, match="expected up to 64 letters"):
            add_token(file, name, "viewer")
    with pytest.raises(OperatorFault, match=r"no token 'bo' .* there are: ana"):
        revoke_token(file, "bo")


def test_so_many_and_no_more(file: Path) -> None:
    file.parent.mkdir()
    lines = [{"name": f"n{k}", "role": "viewer", "sha256": f"{k:064x}", "added": ""} for k in range(MOST_TOKENS)]
    file.write_text(json.dumps({"tokens": lines}))
    with pytest.raises(OperatorFault, match="expected fewer"):
        add_token(file, "one-more", "viewer")


def test_the_commands(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--tokens", str(file)]
    assert run(["token", "add", "--role", "admin", "ana", *at]) == 0
    first = capsys.readouterr()
    assert run(["token", "add", "--role", "viewer", "prometheus", *at]) == 0
    assert Tokens(file).of(first.out.strip()).role == "admin"
    assert "asks for them from its next start on" in first.err
    assert first.out.strip() not in first.err
    second = capsys.readouterr()
    assert "next start" not in second.err
    assert run(["token", "list", *at]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ana", "admin"], ["prometheus", "viewer"]]
    assert run(["token", "revoke", "ana", *at]) == 0
    assert [token.name for token in read_tokens(file)] == ["prometheus"]
    assert run(["token", "revoke", "ana", *at]) == 2
    assert run(["token", "list"]) == 2  # the tests' environment says none
    assert run(["token", "add", "bo", *at]) == 2  # and a role must be said


def test_who_is_asked_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHOSPHENE__TOKENS")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert default_tokens().name == "tokens.json"
    monkeypatch.setattr("server.tokens.default_tokens", lambda: tmp_path / "tokens.json")
    assert open_tokens(load()) is None
    with pytest.raises(OperatorFault, match="phosphene token add"):  # a name that was said is not guessed around
        open_tokens(load(tokens=tmp_path / "tokens.jsno"))
    with pytest.raises(OperatorFault, match="phosphene token add"):
        open_tokens(load(host="0.0.0.0", **TLS))
    add_token(tmp_path / "tokens.json", "ana", "operator")
    assert len(open_tokens(load())) == 1
    assert len(open_tokens(load(host="0.0.0.0", **TLS))) == 1
    assert open_tokens(load(tokens="none")) is None
    revoke_token(tmp_path / "tokens.json", "ana")
    assert len(open_tokens(load())) == 0  # a file without a token is not no file: nobody may
    with pytest.raises(OperatorFault, match=r"found no token in .*, expected at least one"):
        open_tokens(load(host="0.0.0.0", **TLS))
