"""The Flask application: which routes there are, and what holds for each of them."""

import time
import traceback
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, g, jsonify, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask_wtf.csrf import CSRFError
from markupsafe import Markup
from sqlalchemy.exc import DataError, SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as Answer

from curation import telemetry
from curation.errors import DatabaseError, InputError
from curation.store.workspace import Workspace
from webhooks import auth, health, media, ml, receive, service, tables
from webhooks.api import routes as api
from webhooks.pages import account, exports, listing, models, overview, quality, reports, runs, suspects
from webhooks.pages.sections import sections
from webhooks.service import EXTENSION, Service

FORM_LIMIT_BYTES = 64 * 1024
"""Routes other than the hook take small bodies only."""

REQUEST_ID_LIMIT = 64
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
WORDS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    400: "bad request",
    409: "that has been done or changed meanwhile",
    413: "the body is too large",
    429: "too many requests; wait a little",
    500: "internal error; the log has the details under this request id",
    503: "the database does not answer; try again",
}
STALE_FORM = "this form is out of date or was not ours; go back, load the page again, then send it"
NO_VALUE = "the request holds a value that cannot be stored here, such as a NUL character or a number out of range; change it"
QUIET = frozenset({"health.livez", "health.readyz", "health.metrics", "static", "media.photo"})

log = telemetry.logger("web")


class Json(DefaultJSONProvider):
    """Times in ISO 8601, keys in the order given, no NaN."""

    sort_keys = False

    @staticmethod
    def default(value: Any) -> Any:
        """A value that JSON has no form for."""
        return value.isoformat() if isinstance(value, datetime) else DefaultJSONProvider.default(value)


def moment(value: datetime | str | None) -> Markup:
    """A time for people (to the minute, UTC) that programs can read too."""
    if value is None:
        return Markup("never")
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M} UTC</time>').format(at.isoformat(timespec="seconds"), at.astimezone(UTC))


def create_app(workspace: Workspace) -> Flask:
    """The service over this workspace, with its inbox writer running.

    Call it in the process that serves (not before a fork); `service.of(app).close()` ends it.
    Raises ConfigError if the settings lack the webhook secret in production.
    """
    auth.require_secret(workspace.settings)
    app = Flask("webhooks")
    app.url_map.merge_slashes = False  # a redirect loses the body of a delivery
    app.config["MAX_CONTENT_LENGTH"] = FORM_LIMIT_BYTES
    app.json = Json(app)
    app.jinja_env.filters |= {"number": "{:,}".format, "percent": "{:.1%}".format, "moment": moment}
    app.extensions[EXTENSION] = Service.open(workspace)
    app.before_request(_begin)
    auth.init(app, workspace.settings)
    for room in (receive, ml, media, health, account, overview, quality, suspects, listing, reports, runs, models, exports, api):
        app.register_blueprint(room.blueprint)
    app.after_request(_finish)
    app.teardown_request(lambda _: structlog.contextvars.clear_contextvars())
    app.context_processor(_shared)
    app.register_error_handler(HTTPException, _on_http)
    app.register_error_handler(DatabaseError, _on_database)
    app.register_error_handler(SQLAlchemyError, _on_database)
    app.register_error_handler(Exception, _on_bug)
    return app


def _begin() -> Response | None:
    given = request.headers.get("X-Request-Id", "")
    is_safe = 0 < len(given) <= REQUEST_ID_LIMIT and given.isascii() and given.replace("-", "").isalnum()
    g.request_id = given if is_safe else uuid4().hex
    g.started_s = time.monotonic()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    return _error(404) if "\x00" in request.path else None  # nothing that is stored has such a name


def _finish(answer: Response) -> Response:
    here = service.current()
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    if here.workspace.settings.service_url.startswith("https://"):
        answer.headers["Strict-Transport-Security"] = "max-age=31536000"
    if request.path.startswith(media.PREFIX):
        media.allow_origins(answer, here.workspace.settings)
    if "Cache-Control" not in answer.headers:
        answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Request-Id"] = g.get("request_id", "")
    _observe(answer, here)
    return answer


def _observe(answer: Response, here: Service) -> None:
    seconds = time.monotonic() - g.get("started_s", time.monotonic())
    route = request.url_rule.rule if request.url_rule else "unknown"
    method = request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
    here.metrics.latency.labels(route, method, answer.status_code).observe(seconds)
    if request.endpoint not in QUIET or answer.status_code >= 400:
        log.info("request", route=route, method=method, status=answer.status_code, ms=round(seconds * 1000, 2))


def _shared() -> dict[str, Any]:
    """What every template may use."""
    return {
        "download": tables.download,
        "person": g.get("person"),
        "sections": [] if g.get("person") is None else sections(g.person.role),
    }


def _on_http(error: HTTPException) -> Answer:
    code = error.code or 500
    if code == 401 and _wants_page() and "Authorization" not in request.headers:
        return account.to_sign_in()
    answer = _error(code, STALE_FORM if isinstance(error, CSRFError) else "")
    if code == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if code == 429:
        answer.headers["Retry-After"] = str(error.description)
    if valid := getattr(error, "valid_methods", None):
        answer.headers["Allow"] = ", ".join(sorted(valid))
    return answer


def _on_database(error: Exception) -> Response:
    """503; 400 for a value that no column can hold, such as a NUL character: asking again would not help."""
    wrong = getattr(error, "orig", None)
    if isinstance(wrong, InputError):
        return _error(400, str(wrong))
    if isinstance(error, DataError):
        log.warning("value refused by the database", error=str(error))
        return _error(400, NO_VALUE)
    log.error("database away", error=str(error))
    answer = _error(503)
    answer.headers["Retry-After"] = str(receive.RETRY_AFTER_S)
    return answer


def _on_bug(error: Exception) -> Response:
    log.error("request failed", trace="".join(traceback.format_exception(error)))
    return _error(500)


def _wants_page() -> bool:
    return "text/html" in request.headers.get("Accept", "") and not request.path.startswith(("/api/", "/hooks/", "/ml/"))


def _error(code: int, words: str = "") -> Response:
    words = words or WORDS.get(code, "bad request" if code < 500 else WORDS[500])
    request_id = g.get("request_id", "")
    if _wants_page():
        page = render_template("error.html", code=code, words=words, request_id=request_id)
        answer = Response(page, code, content_type="text/html; charset=utf-8")
    else:
        answer = jsonify(error=words, request_id=request_id)
        answer.status_code = code
    return answer
