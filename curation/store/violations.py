"""The policy's violations, as everybody must know them: those of the settings, then those added since."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import InputError, shorten
from curation.settings import Settings
from curation.store.jobs import insert_new
from curation.store.tables import AddedViolation
from curation.types import NO_VIOLATION

PLAIN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_CHARS = 40
MAX_TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Added:
    """A violation that no setting names. Who decided a listing before `at` could not have said it."""

    name: str
    title: str  #: as moderators read it
    at: datetime


def names(session: Session, settings: Settings) -> tuple[str, ...]:
    """Every violation of the policy, in the order of the heads: the settings' first, then in the order of addition."""
    return tuple(titles(session, settings))


def titles(session: Session, settings: Settings) -> Mapping[str, str]:
    """The same with their titles, as moderators read them."""
    usual = {name: name.replace("_", " ").capitalize() for name in settings.violations}
    return {**usual, **{one.name: one.title for one in added(session)}}


def added(session: Session) -> tuple[Added, ...]:
    """Those that were added, in that order."""
    rows = session.execute(select(AddedViolation).order_by(AddedViolation.id)).scalars()
    return tuple(Added(row.name, row.title, row.at) for row in rows)


def find(session: Session, name: str) -> Added | None:
    """The violation of this name if it was added."""
    return next((one for one in added(session) if one.name == name), None)


def check(settings: Settings, name: str, title: str) -> None:
    """Raises InputError where no violation can be added under this name, or with this title."""
    if not PLAIN.fullmatch(name) or len(name) > MAX_CHARS or name == NO_VIOLATION:
        raise InputError(
            f"a violation cannot be called {shorten(name)}; use up to {MAX_CHARS} lower-case letters, digits and single "
            f"underscores, a letter first, such as counterfeit_tickets, and not {NO_VIOLATION}"
        )
    if name in settings.violations:
        raise InputError(
            f"violation {name!r} is in the settings' policy already; choose another name, or run `refurbish retrain`"
        )
    if not title.strip() or len(title) > MAX_TITLE_CHARS or not title.isprintable():
        raise InputError(
            f"title {shorten(title)} cannot be shown to moderators; give 1 to {MAX_TITLE_CHARS} printable characters"
        )


def add(session: Session, settings: Settings, name: str, title: str, *, now: datetime) -> Added:
    """Add a violation to the policy; one that was added before keeps its title and time. Raises InputError (`check`)."""
    check(settings, name, title)
    insert_new(session, AddedViolation, [{"name": name, "title": title, "at": now}], ["name"])
    found = find(session, name)
    return found or Added(name, title, now)
