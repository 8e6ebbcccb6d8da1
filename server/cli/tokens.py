"""phosphene token: who may use a service that other people can reach (docs/security.md)."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from models.errors import OperatorFault


class Role(StrEnum):
    """The words of server.tokens.Role."""

    viewer = "viewer"
    operator = "operator"
    admin = "admin"


Name = Annotated[str, typer.Argument(help="Whose it is, or of which program.")]
File = Annotated[
    Path | None, typer.Option("--tokens", help="The file. [PHOSPHENE__TOKENS, or this user's, beside the journals]")
]

app = typer.Typer(
    help="Give and revoke the tokens of a service; one that runs follows within a second.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="A viewer reads, an operator arms, an admin changes bundles.")],
    tokens: File = None,
) -> None:
    """Print a new token, once: only its hash is kept."""
    from server.tokens import add_token

    path = _file(tokens)
    first = not path.exists()
    print(add_token(path, name, role.value))
    print(f"{name} ({role.value}) was added to {path}; the token cannot be shown again", file=sys.stderr)
    if first:
        print("a service that runs without tokens asks for them from its next start on", file=sys.stderr)


@app.command(name="list")
def show(tokens: File = None) -> None:
    """Show names and roles, and since when."""
    from server.tokens import read_tokens

    for token in read_tokens(_file(tokens)):
        print(f"{token.name:24} {token.role:9} {token.added}")


@app.command()
def revoke(name: Name, tokens: File = None) -> None:
    """Take a token back; its WebSockets close within a second."""
    from server.tokens import revoke_token

    path = _file(tokens)
    revoke_token(path, name)
    print(f"{name} was revoked in {path}", file=sys.stderr)


def _file(named: Path | None) -> Path:
    from server.settings import load
    from server.tokens import default_tokens

    path = named or load(None).tokens or default_tokens()
    if not isinstance(path, Path):
        raise OperatorFault("PHOSPHENE__TOKENS: found none, expected a file; name one with --tokens")
    return path
