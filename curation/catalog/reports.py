"""What users reported, read from files: for one violation that is being added, or for any reason, by anybody."""

import csv
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from curation.catalog import cells
from curation.catalog.drafts import MAX_REF_CHARS
from curation.catalog.readers import Broken, Row, Table
from curation.catalog.rejects import Reject, Rejects, beside
from curation.errors import InputError, RowError, shorten
from curation.store import listings, violations
from curation.store import reports as store
from curation.store.reports import Added, Given
from curation.store.workspace import Workspace

MAX_REASON_CHARS = 500
BATCH_ROWS = 1_000
Advance = Callable[[int, int], None]


def read(path: Path) -> dict[str, str]:
    """Ref → reason of a CSV file with a column `ref` and, if there is one, `reason`. Raises InputError on anything else."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"file {path} cannot be read: {error}; give a CSV file in UTF-8 with a column ref") from error
    if not rows or "ref" not in rows[0]:
        found = f"the columns {shorten(list(rows[0]))}" if rows else "no row"
        raise InputError(f"file {path} has {found}, a column ref is needed; name a listing in each row")
    empty = [at for at, row in enumerate(rows, start=2) if not (row["ref"] or "").strip()]
    if empty:
        raise InputError(f"{len(empty)} rows of {path} name no listing, first lines {empty[:10]}; fill in ref or take them out")
    return {row["ref"].strip(): (row.get("reason") or "").strip()[:MAX_REASON_CHARS] for row in rows}


def require_known(session: Session, refs: Collection[str]) -> None:
    """Raises InputError naming refs that are no listings."""
    unknown = sorted(set(refs) - listings.id_by_ref(session, refs).keys())
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(refs)} reported refs are no listings, such as {shorten(unknown[:5])}; "
            "ingest these listings first, or take the rows out"
        )


def note(session: Session, violation: str, reasons: Mapping[str, str], *, now: datetime) -> int:
    """Note that users reported these listings for `violation`; how many were not before.

    It becomes their label where nobody but users said something about violations; moderators' decisions stay.
    """
    given = [Given(ref, violation, words) for ref, words in reasons.items()]
    return store.add(session, given, via="file", now=now).n_flagged


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a file of reports. `n_rows` = new + known + rejected ones."""

    n_rows: int = 0
    n_new: int = 0
    n_known: int = 0
    n_waiting: int = 0  #: new ones of listings that are not here yet
    n_flagged: int = 0
    n_rejected: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)  #: "field: code" → how often
    rejects: str | None = None


def ingest(
    workspace: Workspace, file: Path, *, rejects: Path | None, now: datetime, advance: Advance = lambda n, total: None
) -> Summary:
    """Take over a CSV, JSONL or Parquet file of reports: ref and reason, and words, reporter and at where they are known.

    Bad rows are kept with their reason in the rejects file. Raises InputError before anything is written where the
    file has no column ref or reason.
    """
    with workspace.db.read() as session:
        policy = frozenset(violations.names(session, workspace.settings))
    summary = Summary()
    with Table(file) as table, Rejects(rejects or beside(file, workspace.settings.home / "rejects")) as kept:
        _require(table)
        rows = table.rows()
        while part := list(islice(rows, BATCH_ROWS)):
            given = [one for row in part if (one := _given(row, policy, kept)) is not None]
            added = workspace.db.retrying(partial(store.add, given=given, via="file", now=now))
            summary = _plus(summary, added, len(part))
            advance(len(part), table.n_rows())
    return replace(summary, n_rejected=kept.n_rows, reasons=dict(kept.by_reason.most_common()), rejects=_named(kept))


def given(values: Mapping[str, Any], policy: frozenset[str]) -> Given:
    """A report as a file or a program gives it, cleaned as listings are. Raises RowError naming the field."""
    ref = cells.text(values.get("ref"), "ref", MAX_REF_CHARS)
    reason = cells.text(values.get("reason"), "reason", MAX_REF_CHARS)
    if not ref:
        raise RowError("ref", "ref is missing; name the listing that was reported", "missing")
    if reason not in policy and reason != store.OTHER:
        known = ", ".join([*sorted(policy), store.OTHER])
        raise RowError("reason", f"reason {shorten(reason)} is not one of {known}; use one of these", "unknown")
    words = cells.text(values.get("words"), "words", store.MAX_WORDS_CHARS)
    reporter = cells.text(values.get("reporter"), "reporter", MAX_REF_CHARS) or None
    return Given(ref, reason, words, reporter, _moment(values.get("at")))


def _moment(value: Any) -> datetime | None:
    try:
        return cells.moment(value, None)
    except RowError as error:
        raise RowError("at", str(error).replace("; say how it is written in listed_at.format", ""), error.code) from None


def _require(table: Table) -> None:
    samples = table.samples()
    columns = table.columns or tuple(dict.fromkeys(name for row in samples for name in row))
    missing = [name for name in ("ref", "reason") if name not in columns]
    if missing and (columns or samples):
        raise InputError(
            f"file {table.path} has no column {' and no column '.join(missing)}; it has {shorten(list(columns), 300)}. "
            "A report names its listing in ref and a violation of the policy, or other, in reason"
        )


def _given(row: Row | Broken, policy: frozenset[str], rejects: Rejects) -> Given | None:
    """The row as a report, or None with the reason in the rejects."""
    if isinstance(row, Broken):
        rejects.add(Reject(row.n, row.line, "row", row.code, row.reason, "row", raw=row.raw))
        return None
    try:
        return given(row.values, policy)
    except RowError as error:
        rejects.add(Reject(row.n, row.line, error.field, error.code, str(error), "row", row.values, row.raw))
        return None


def _plus(summary: Summary, added: Added, n_rows: int) -> Summary:
    return replace(
        summary,
        n_rows=summary.n_rows + n_rows,
        n_new=summary.n_new + added.n_new,
        n_known=summary.n_known + added.n_known,
        n_waiting=summary.n_waiting + added.n_waiting,
        n_flagged=summary.n_flagged + added.n_flagged,
    )


def _named(rejects: Rejects) -> str | None:
    return str(rejects.written) if rejects.written else None
