"""Refusals that say in words what is the matter, and what the pages with older rows share."""

from typing import NoReturn

from flask import Response, abort, g, jsonify, render_template, request

from curation.store.db import MAX_ID
from webhooks.pages import arguments

TITLES = {400: "That cannot be done", 404: "Not found", 409: "Something else came first"}


def stop(code: int, words: str) -> NoReturn:
    """End the request with this status and these words, as a page for people and as JSON for programs."""
    if "text/html" in request.headers.get("Accept", ""):
        page = render_template("told.html", title=TITLES.get(code, "That cannot be done"), words=words)
        abort(Response(page, code, content_type="text/html; charset=utf-8"))
    answer = jsonify(error=words, request_id=g.get("request_id", ""))
    answer.status_code = code
    abort(answer)


def before() -> int | None:
    """The id that `?before=` names; None without it. 404 on what is no id."""
    given = request.args.get("before")
    if given is None:
        return None
    return arguments.number(given) or stop(404, "There is no page with that address; go back to the newest rows.")


def known_id(given: int, what: str) -> int:
    """The same if it can be an id at all; else 404."""
    if not 0 < given <= MAX_ID:
        stop(404, f"{what} {given} is not known.")
    return given
