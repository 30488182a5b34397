"""Whoever is turned away and can be named is written down, in the log and in the database (`refurbish user refused`)."""

from flask import Response, after_this_request, g, request

from curation import telemetry
from curation.errors import DatabaseError
from curation.store import refusals
from curation.store.db import Database
from curation.store.refusals import Refusal
from webhooks import service

UNKNOWN = ""

log = telemetry.logger("refused")


def note(who: str, why: str) -> None:
    """Remember that the present request is refused. Strangers are in the log only, where nobody can fill our tables.

    It is stored when the answer is sent: how long that takes must not tell whether a name is known.
    """
    here = service.current()
    route = request.url_rule.rule if request.url_rule else "unknown"
    address = request.remote_addr or "unknown"
    log.warning("refused", who=who or "a stranger", why=why, method=request.method, route=route, address=address)
    if who == UNKNOWN or not here.limits.allows("refusal", who):
        return
    method, request_id = request.method, g.request_id

    @after_this_request
    def later(answer: Response) -> Response:
        answer.call_on_close(lambda: _store(here.workspace.db, who, why, (method, route, address, request_id)))
        return answer


def _store(db: Database, who: str, why: str, asked: tuple[str, str, str, str]) -> None:
    try:
        with db.write() as session:
            refusals.note(session, Refusal(who, why, *asked, at=db.now(session)))
    except DatabaseError as error:  # the refusal stands all the same
        log.error("refusal not stored", error=str(error))
