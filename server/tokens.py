"""Who has a token, and what for: a short file of their hashes, which `phosphene token` writes and the service watches.

A token is 256 bits from the operating system's generator. Nobody chose it, so there is no list of likely ones to try,
and guessing is out of reach whatever a guess costs: a plain SHA-256 is as fit for it as a slow hash, which is made for
passwords, and costs a microsecond of the event loop for each request. The secret itself is never written down.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import OperatorFault
from server.journal.lock import Lock
from server.journal.place import state_folder
from server.settings import LOOPBACK, Settings

log = logging.getLogger("phosphene")

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
LARGEST_FILE = 64 * 1024
MOST_TOKENS = 64
STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class Token(BaseModel):
    """One line of the file."""

    model_config = STRICT
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    added: str = Field(max_length=40)

    def may(self, needed: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(needed)


class _File(BaseModel):
    model_config = STRICT
    tokens: list[Token] = Field(max_length=MOST_TOKENS)


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def default_tokens() -> Path:
    """This user's file, beside the journals."""
    return state_folder() / "tokens.json"


def read_tokens(path: Path) -> list[Token]:
    """
    Raises:
        OperatorFault: no such file, one that others may write, or one that is not what `phosphene token` wrote.
    """
    try:
        with path.open("rb") as file:
            if sys.platform != "win32" and os.fstat(file.fileno()).st_mode & 0o022:
                raise OperatorFault(
                    f"tokens {path}: others may write it, and so give themselves a token; chmod 600 {path}"
                )
            content = file.read(LARGEST_FILE + 1)
        tokens = _File.model_validate_json(content[: LARGEST_FILE + 1]).tokens
    except OSError as error:
        raise OperatorFault(f"tokens {path}: {error.strerror}; `phosphene token add` makes one") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise OperatorFault(f"tokens {path}: {where}: {first['msg']}; mend it, or delete it and add tokens") from None
    if len({token.name for token in tokens}) < len(tokens):
        raise OperatorFault(f"tokens {path}: found a name twice, expected each once; take one out")
    return tokens


def add_token(path: Path, name: str, role: Role) -> str:
    """Returns the secret, which nobody can read again.

    Raises:
        OperatorFault: a name that is taken or is none, as many tokens as there may be, or a file that cannot be had.
    """
    secret = secrets.token_urlsafe(32)

    def added(tokens: list[Token]) -> list[Token]:
        if any(token.name == name for token in tokens):
            raise OperatorFault(f"found a token {name!r} already, expected another name; or revoke that one first")
        if len(tokens) >= MOST_TOKENS:
            raise OperatorFault(f"found {MOST_TOKENS} tokens, expected fewer; revoke one that nobody uses")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            return [*tokens, Token(name=name, role=role, sha256=hashed(secret), added=now)]
        except ValidationError:
            raise OperatorFault(
                f"found the name {name[:80]!r}, expected up to 64 letters, digits, '.', '_' and '-'"
            ) from None

    _rewrite(path, added)
    return secret


def revoke_token(path: Path, name: str) -> None:
    """Raises OperatorFault where there is no such token, or the file cannot be had."""

    def without(tokens: list[Token]) -> list[Token]:
        left = [token for token in tokens if token.name != name]
        if len(left) == len(tokens):
            known = ", ".join(token.name for token in tokens) or "none"
            raise OperatorFault(f"found no token {name[:80]!r} in {path}; there are: {known}")
        return left

    _rewrite(path, without)


def _rewrite(path: Path, change: Callable[[list[Token]], list[Token]]) -> None:
    """In one move, and for this user's eyes only; two that change it at once do not lose each other's line."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = Lock(path, f"tokens {path}: another command changes it", "try again")
        try:
            tokens = change(read_tokens(path) if path.exists() else [])
            draft, name = tempfile.mkstemp(prefix=".tokens-", dir=path.parent)  # mode 0600
            try:
                with os.fdopen(draft, "w") as file:
                    file.write(_File(tokens=tokens).model_dump_json(indent=1) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise
        finally:
            lock.release()
    except OSError as error:
        raise OperatorFault(f"tokens {path}: {error.strerror}; name a file that can be written") from None


class Tokens:
    """The tokens as the file has them now. A file that is gone, or cannot be read any more, holds nobody's: whoever was
    let in is shown out, and the log says why."""

    def __init__(self, path: Path) -> None:
        """Raises as `read_tokens`."""
        self.path = path
        self._stamp = _stamp(path)
        self._tokens = read_tokens(path)

    def __len__(self) -> int:
        return len(self._tokens)

    def look(self) -> None:
        """Read the file anew where it is another than before."""
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = read_tokens(self.path)
        except OperatorFault as fault:
            self._tokens = []
            log.error("no token holds until this is mended: %s", fault)

    def of(self, secret: str) -> Token | None:
        """Whose secret this is. Every line is compared, and each in constant time, so that an answer tells nothing of
        how near a guess was."""
        found, presented = None, hashed(secret)
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, presented):
                found = token
        return found

    def holds(self, token: Token) -> bool:
        """Whether it is there still, and with the same role."""
        return token in self._tokens


def open_tokens(settings: Settings) -> Tokens | None:
    """Of these settings; None where nobody is asked for one: on this machine alone, and only where there is no file.

    Raises:
        OperatorFault: as `read_tokens`; or a service for other machines, and nobody has a token.
    """
    path = settings.tokens or default_tokens()
    if path == "none" or (settings.tokens is None and not path.exists() and settings.host in LOOPBACK):
        return None
    tokens = Tokens(path)
    if settings.host not in LOOPBACK and not len(tokens):
        raise OperatorFault(
            f"host {settings.host!r}: found no token in {path}, expected at least one before other machines may "
            "connect; add one with `phosphene token add`"
        )
    return tokens


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
