"""What the documents name is there: other documents, results, decisions, commands and their options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from server.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
NAMED = re.compile(r"(?<![\w/.-])(?:docs|examples|docker)/[\w/.-]+\.\w+")
COMMAND = re.compile(r"^ {4,}(?:\w+=\S+ )*phosphene ((?:[^#&\\\n]|\\\n)*)", re.MULTILINE)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for target, anchor in LINK.findall(text):
        to = page if not target else page.parent / target
        assert to.exists(), target
        headings = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor[1:] in {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings}
    for named in NAMED.findall(text):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_has_the_options_that_it_is_shown_with(page: Path) -> None:
    for shown in COMMAND.findall(page.read_text()):
        words, command = shown.split(), typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            assert not word.startswith("--") or word.split("=")[0] in known | {"--help"}, shown


def test_each_document_is_named_by_readme_and_each_decision_by_the_index() -> None:
    readme, index = (ROOT / "README.md").read_text(), (ROOT / "docs" / "architecture.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert name(page) in readme, page.name
    for decision in (ROOT / "docs" / "decisions").glob("*.md"):
        assert f"(decisions/{decision.name})" in index, decision.name
    pages = "".join(page.read_text() for page in PAGES)
    for result in (ROOT / "docs" / "results").glob("*.json"):
        assert result.stem in pages, result.name
