"""`GET /media/<sha256>.jpg`: the stored photos, and nothing else.

Label Studio's pages load them from another origin, so the CORS header stands on every answer,
errors too: without it a browser reports a missing photo as a CORS fault.
"""

import re

from flask import Blueprint, Response, abort, request, send_file

from curation.settings import Settings
from webhooks import service

PREFIX = "/media/"
MAX_AGE_S = 365 * 24 * 3600

blueprint = Blueprint("media", __name__)


@blueprint.get("/media/<name>")
def photo(name: str) -> Response:
    """One photo, by the sha256 of its bytes; it never changes, so it may be kept for ever."""
    matched = re.fullmatch(r"([0-9a-f]{64})\.jpg", name)
    if matched is None:
        abort(404)
    store = service.current().workspace.media
    path = store.path(matched[1], ".jpg")
    if not path.is_file() or not path.resolve().is_relative_to(store.root.resolve()):
        abort(404)
    answer = send_file(path.resolve(), mimetype="image/jpeg", etag=matched[1], max_age=MAX_AGE_S)
    answer.cache_control.public = True
    answer.cache_control.immutable = True
    answer.headers["Content-Disposition"] = f'inline; filename="{name}"'
    return answer


def allow_origins(answer: Response, settings: Settings) -> None:
    """Let pages of the allowed origins read the photo: ``*``, or origins separated by commas or spaces."""
    allowed = settings.cors_origins.replace(",", " ").split()
    origin = request.headers.get("Origin", "")
    if "*" in allowed:
        answer.headers["Access-Control-Allow-Origin"] = "*"
    elif allowed:
        answer.headers["Access-Control-Allow-Origin"] = origin if origin in allowed else allowed[0]
        answer.vary.add("Origin")
    answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
