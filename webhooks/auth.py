"""Who may call what: by a token in the header, or by the cookie of somebody who signed in.

Every route is closed unless it is named in PUBLIC; the hook checks its own secret.
"""

import base64
import contextlib
import hmac
import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, TypeVar

from flask import Flask, abort, current_app, g, request, session
from flask_wtf.csrf import CSRFProtect
from pydantic import SecretStr

from curation.errors import ConfigError
from curation.settings import Settings
from curation.store import sessions, tokens
from curation.store.people import Person, Role
from webhooks import refused, service

PUBLIC: Final = frozenset(
    {
        "receive.labelstudio",  # has its own secret
        "ml.health",
        "ml.setup",  # this and the next three ask for the same secret as a password
        "ml.versions",
        "ml.predict",
        "ml.webhook",
        "media.photo",  # browsers of moderators load it inside Label Studio; names are sha256, hence not guessable
        "health.livez",
        "health.readyz",
        "health.metrics",
        "account.sign_in",
        "static",
    }
)
"""Endpoints that answer without a token, and tell nothing secret."""

COOKIE_KEY: Final = "key"
COOKIE_NAME: Final = "name"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

HOOK_HEADER: Final = "X-Refurbish-Secret"
SECRET_MIN_LENGTH: Final = 16
TOKEN_LIMIT: Final = 512
KEY_FILE: Final = "secret.key"
KEY_BYTES: Final = 32


csrf = CSRFProtect()

View = TypeVar("View", bound=Callable[..., Any])


def needs(role: Role) -> Callable[[View], View]:
    """Open a view to this role and those above it; put it right above the function. A view without it is for admins."""

    def mark(view: View) -> View:
        view.refurbish_role = role  # type: ignore[attr-defined]
        return view

    return mark


def role_of(app: Flask, endpoint: str) -> Role:
    """The least role an endpoint asks for."""
    found: Role = getattr(app.view_functions[endpoint], "refurbish_role", Role.ADMIN)
    return found


def init(app: Flask, settings: Settings) -> None:
    """Guard every route of the app, also those that are added later."""
    app.secret_key = _secret_key(settings)
    app.config |= {
        "SESSION_COOKIE_NAME": "refurbish",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": settings.service_url.startswith("https://"),
        "PERMANENT_SESSION_LIFETIME": sessions.LIFE,
        "SESSION_REFRESH_EACH_REQUEST": False,
        "WTF_CSRF_CHECK_DEFAULT": False,
        "WTF_CSRF_TIME_LIMIT": None,
        "WTF_CSRF_SSL_STRICT": False,
    }
    csrf.init_app(app)
    app.before_request(guard)


def guard() -> None:
    """401 without a person, 403 with too small a role, 400 for a form of another site; unknown addresses go on to their 404."""
    g.person = None
    if request.endpoint is None or request.endpoint in PUBLIC:
        return
    here = service.current()
    bearer = _bearer()
    g.person = _by_token(here, bearer) if bearer is not None else _by_cookie(here)
    if g.person is None:
        here.limits.hit("stranger", request.remote_addr or "")
        _note_ended(here, bearer)
        abort(401)
    here.limits.hit("person", g.person.name)
    needed = role_of(current_app, request.endpoint)
    if not g.person.role.covers(needed):
        refused.note(g.person.name, f"is {g.person.role}, this needs {needed}")
        abort(403)
    if bearer is None and request.method not in SAFE:
        csrf.protect()


def _bearer() -> str | None:
    """What the Authorization header holds; empty if it is no usable token; None without the header."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and len(token) <= TOKEN_LIMIT else ""


def _by_token(here: service.Service, token: str) -> Person | None:
    if not token:
        return None
    with here.workspace.db.read() as reading:
        return tokens.find(reading, token)


def _by_cookie(here: service.Service) -> Person | None:
    key = session.get(COOKIE_KEY)
    if not isinstance(key, str):
        return None
    with here.workspace.db.read() as reading:
        return sessions.find(reading, key, now=here.workspace.db.now(reading))


def _note_ended(here: service.Service, bearer: str | None) -> None:
    """Note whose token or session it was that opens nothing any more; a request without either is nothing to note."""
    if bearer is None:
        if isinstance(session.get(COOKIE_KEY), str):
            refused.note(str(session.get(COOKIE_NAME, refused.UNKNOWN)), "the session has ended, or the person was disabled")
        return
    with here.workspace.db.read() as reading:
        owner = tokens.owner(reading, bearer) if bearer else None
    refused.note(owner or refused.UNKNOWN, "the token was revoked, or the person disabled" if owner else "no token of ours")


def _secret_key(settings: Settings) -> bytes:
    """The setting, or what `home` keeps: made once, so that all processes over one home agree."""
    given = settings.secret_key.get_secret_value()
    if given:
        return given.encode()
    file = settings.home / KEY_FILE
    with contextlib.suppress(FileExistsError), open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
        made.write(secrets.token_bytes(KEY_BYTES))
    key = file.read_bytes()
    if len(key) < KEY_BYTES:
        raise ConfigError(f"{file} holds {len(key)} bytes instead of {KEY_BYTES}; delete it, a new one is made")
    return key


def require_secret(settings: Settings) -> None:
    """In production the service does not start without a usable webhook secret. Raises ConfigError."""
    for name in ("webhook_secret", "webhook_secret_previous"):
        value = getattr(settings, name).get_secret_value()
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"{name} must be printable ASCII, since it travels in a header; choose another")
    length = len(settings.webhook_secret.get_secret_value())
    if settings.env == "production" and length < SECRET_MIN_LENGTH:
        raise ConfigError(
            f"webhook_secret has {length} characters, production needs {SECRET_MIN_LENGTH} or more; set REFURBISH_WEBHOOK_SECRET "
            "to a long random value and run: refurbish labelstudio setup"
        )


def which_secret(settings: Settings) -> str | None:
    """``current`` or ``previous`` if the request carries that secret, else None. Takes the same time for any value."""
    return _which(request.headers.get(HOOK_HEADER, ""), settings)


def is_label_studio(settings: Settings) -> bool:
    """Whether the request has the secret, as the password of basic authentication or in the hook's header."""
    return which_secret(settings) is not None or _which(_password(), settings) is not None


def _password() -> str:
    """The password of basic authentication; empty without one. (`request.authorization` fails on some broken headers.)"""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic" or len(rest) > 4 * TOKEN_LIMIT:
        return ""
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _which(value: str, settings: Settings) -> str | None:
    given = sha256(value.encode("utf-8", "replace")).digest()
    is_current = _matches(given, settings.webhook_secret)
    is_previous = _matches(given, settings.webhook_secret_previous)
    return "current" if is_current else "previous" if is_previous else None


def _matches(given: bytes, secret: SecretStr) -> bool:
    value = secret.get_secret_value()
    same = hmac.compare_digest(given, sha256(value.encode()).digest())
    return same and value != ""
