"""Users' reports: told by other systems, and read back with what moderators decided."""

from curation.catalog import reports as room
from curation.errors import RowError
from curation.store import reports, violations
from curation.store.people import Role
from webhooks import service
from webhooks.api import cursors
from webhooks.api.answers import ReportAnswer, ReportsAdded, ReportsAnswer
from webhooks.api.contract import Operation, Refused, operation
from webhooks.api.models import MAX_LIMIT, FieldError, ReportsQuery, ReportsRequest

REPORTS_LIMIT_BYTES = 4 * 1024 * 1024


@operation(
    Operation(
        name="add_reports",
        method="POST",
        path="/reports",
        role=Role.MODERATOR,
        summary=f"Up to {MAX_LIMIT:,} reports of users. All are kept, or none where one is wrong.",
        body=ReportsRequest,
        answer=ReportsAdded,
        refuses=(413, 415),
        limit_bytes=REPORTS_LIMIT_BYTES,
    )
)
def add_reports(body: ReportsRequest) -> ReportsAdded:
    """Keep reports; safe to repeat."""
    workspace = service.current().workspace
    with workspace.db.read() as session:
        policy = frozenset(violations.names(session, workspace.settings))
    given, wrong = [], []
    for at, one in enumerate(body.reports):
        try:
            given.append(room.given(one.model_dump(), policy))
        except RowError as error:
            wrong.append(FieldError(field=f"reports.{at}.{error.field}", problem=str(error)))
    if wrong:
        words = f"{len(wrong)} of {len(body.reports)} reports are wrong, none was kept; see fields"
        raise Refused(400, words, tuple(wrong[:20]))
    found = workspace.db.retrying(lambda session: reports.add(session, given, via="api", now=workspace.db.now(session)))
    return ReportsAdded.model_validate(found)


@operation(
    Operation(
        "reports",
        "GET",
        "/reports",
        Role.MODERATOR,
        "Reports, newest first, and whether moderators found them right.",
        ReportsAnswer,
        query=ReportsQuery,
    )
)
def told(query: ReportsQuery) -> ReportsAnswer:
    """One page of reports."""
    kind = "reports"
    before = cursors.read(kind, query.cursor)
    with service.current().workspace.db.read() as session:
        found = reports.page(session, limit=query.limit, before_id=before, ref=query.ref, reason=query.reason)
    items = [ReportAnswer.model_validate(one) for one in found]
    return ReportsAnswer(items=items, next=cursors.write(kind, found[-1].id) if len(found) == query.limit else None)
