"""What the documents tell people to type is there: commands, their options, links to files."""

import re
import shlex
from pathlib import Path

import click
import pytest

from curation.cli import COMMANDS, main
from tests.labelstudio_server import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|…|\.\.\.")


def commands(page: Path) -> list[str]:
    """Every `refurbish …` of the page: lines of code blocks, and code within the text."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", text, flags=re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(refurbish [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    found = [part.strip() for line in lines for part in re.split(r"&&|&\s*(?:#|$)|\s#\s|\|\s", line)]
    return [one for one in found + inline if one.startswith("refurbish ")]


def unknown(line: str) -> str | None:
    """What of this line no command knows; None if all is known."""
    command: click.Command = main
    context = click.Context(main)
    for word in shlex.split(line.replace("'", '"'), posix=True)[1:]:
        if word.startswith("-") and word != "-":
            name = word.split("=")[0]
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            if name not in known | {"--help"}:
                return f"{command.name} has no {name}"
        elif isinstance(command, click.Group) and not PLACEHOLDER.fullmatch(word):
            found = command.get_command(context, word)
            if found is None:
                return f"{command.name} has no command {word}"
            command = found
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    """With the options that the page names."""
    wrong = {line: words for line in commands(page) if (words := unknown(line)) is not None}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Files beside it, and their headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


def anchors(page: Path) -> set[str]:
    """As GitHub names the headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_command_is_documented() -> None:
    """Somewhere in the README or below docs."""
    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in COMMANDS if f"refurbish {name}" not in told] == []
