"""What users reported, and how far reports can be believed: the page at `/reports`."""

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for

from curation.quality.track_record import Rate, TrackRecord
from curation.review import reported
from curation.store import reports, violations
from curation.store.people import Role
from curation.store.reports import OTHER, Said
from webhooks import auth, service, tables
from webhooks.pages import arguments, listing, told
from webhooks.tables import Column, Table

RECORD_AGE_S = 30.0
"""How old the shown track record may be: it is counted over every decided report."""

PAGE_ROWS = 25
REPORTERS_SHOWN = 20
OUTCOMES = {"open": "not decided", "unknown listing": "listing not here yet"}
SENT = "Other systems send reports to POST /api/v1/reports; refurbish ingest --reports FILE reads them from a file."

blueprint = Blueprint("reports", __name__)


@blueprint.get("/reports")
@auth.needs(Role.MODERATOR)
def show() -> str | Response:
    """Track records of reasons and reporters, and the newest reports."""
    workspace = service.current().workspace
    reason, before = arguments.text("reason") or None, told.before()
    with workspace.db.read() as session:
        titles = {**violations.titles(session, workspace.settings), OTHER: "Another reason"}
        found = reports.page(session, limit=PAGE_ROWS + 1, before_id=before, reason=reason)
    if not found and before is None and reason is None and request.args.get(tables.TABLE) is None:
        return render_template("reports.html", tables={}, sent=SENT)
    record = _record()
    shown = (_reasons(record, titles), _reporters(record), _newest(found, titles, reason))
    return tables.page("reports.html", *shown, titles=titles, reason=reason, sent=SENT)


def _record() -> TrackRecord:
    here = service.current()

    def ask() -> TrackRecord:
        with here.workspace.db.read() as session:
            return reported.rates(session)

    return here.keeper.get("reports", ask, age_s=RECORD_AGE_S).value


RATES = (
    Column("n", "Decided", "number"),
    Column("n_right", "Right", "number"),
    Column("precision", "Believed to be right", "share"),
    Column("low", "At least", "share"),
    Column("high", "At most", "share"),
)


def _reasons(record: TrackRecord, titles: Mapping[str, str]) -> Table:
    rows = [_rate(rate, reason=titles.get(name, name)) for name, rate in _ordered(record.reasons)]
    columns = (Column("reason", "Reason"), *RATES)
    return Table("reasons", "Reports by reason", columns, rows, "Moderators have not decided a reported listing yet.")


def _reporters(record: TrackRecord) -> Table:
    def every() -> Iterator[dict[str, Any]]:
        return (_rate(rate, reporter=name, expected=record.expected[name]) for name, rate in _ordered(record.reporters))

    rows = [row for row, _ in zip(every(), range(REPORTERS_SHOWN), strict=False)]
    columns = (Column("reporter", "Reporter"), *RATES[:2], Column("expected", "Usual for these reasons", "share"), *RATES[2:])
    empty = "Nobody who gave a name has a decided report yet."
    return Table("reporters", "Reports by reporter", columns, rows, empty, whole=every)


def _newest(found: list[Said], titles: Mapping[str, str], reason: str | None) -> Table:
    rows = [_row(one, titles) for one in found[:PAGE_ROWS]]
    columns = (
        Column("reason", "Reason"),
        Column("at", "When", "moment"),
        Column("listing", "Listing", "code", link="page"),
        Column("title", "Title", "words"),
        Column("words", "Words", "words"),
        Column("reporter", "Reporter"),
        Column("outcome", "Moderators"),
    )
    has_more = len(found) > PAGE_ROWS
    older = url_for("reports.show", before=found[PAGE_ROWS - 1].id, reason=reason) if has_more else None
    return Table("newest", "Reports, newest first", columns, rows, "No report of this kind.", older=older)


def _ordered(rates: Mapping[str, Rate]) -> list[tuple[str, Rate]]:
    """Those with most decided reports first."""
    return sorted(rates.items(), key=lambda pair: (-pair[1].n, pair[0]))


def _rate(rate: Rate, **named: Any) -> dict[str, Any]:
    p = rate.precision
    return {**named, "n": rate.n, "n_right": rate.n_right, "precision": p.value, "low": p.low, "high": p.high}


def _row(one: Said, titles: Mapping[str, str]) -> dict[str, Any]:
    return {
        "reason": titles.get(one.reason, one.reason),
        "at": one.at,
        "listing": one.ref,
        "page": None if one.title is None else listing.address(one.ref),
        "title": one.title,
        "words": one.words or None,
        "reporter": one.reporter,
        "outcome": OUTCOMES.get(one.outcome, one.outcome),
    }
