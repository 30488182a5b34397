"""Clients of the pages for tests, and text that means harm."""

from collections import Counter
from datetime import datetime
from html.parser import HTMLParser
from itertools import pairwise

from flask import Flask
from flask.testing import FlaskClient

from curation.store import tokens
from curation.store.people import Role
from curation.store.workspace import Workspace

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
TRICKS = "\u202egpj.exe\u2069\u200b\u200d\ufeff 👩‍👩‍👧‍👦 e\u0301 ﷽"
"""Right-to-left override, zero-width characters, an emoji of several, a combining accent."""


def as_role(app: Flask, workspace: Workspace, role: Role, now: datetime, name: str = "ada") -> FlaskClient:
    """A client whose every request carries a token of this role."""
    client = app.test_client()
    with workspace.db.write() as session:
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {tokens.create(session, name, role, now=now)}"
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def faults(page: str) -> list[str]:
    """What must not be in a page: scripts, handlers, foreign addresses, headings out of order, fields without label."""
    found = _Reader()
    found.feed(page)
    levels = [int(name[1]) for name in found.headings]
    if levels.count(1) != 1 or any(after > before + 1 for before, after in pairwise(levels)):
        found.problems.append(f"headings {found.headings}")
    found.problems += [f"id {name} twice" for name, n in Counter(found.ids).items() if n > 1]
    found.problems += [f"no label for {name}" for name in found.fields if name not in found.labelled]
    return found.problems


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.fields: list[str] = []
        self.labelled: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        if tag in ("script", "style", "iframe", "object", "embed", "base"):
            self.problems.append(tag)
        self.problems += [f"{tag} {name}" for name in held if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action"):
            if name in held and not held[name].startswith(("/", "#", "?")):
                self.problems.append(f"{tag} {name}={held[name][:40]}")
        if tag == "img" and "alt" not in held:
            self.problems.append("img without alt")
        if tag == "th" and "scope" not in held:
            self.problems.append("th without scope")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(tag)
        if tag in ("input", "select", "textarea") and held.get("type") != "hidden":
            self.fields.append(held.get("id", "a field without id"))
        if tag == "label":
            self.labelled.add(held.get("for", ""))
        if "id" in held:
            self.ids.append(held["id"])
