"""Who may call what. Every route is closed unless it is named in PUBLIC; the hook checks its own secret."""

import hmac
from hashlib import sha256
from typing import Final

from flask import Flask, abort, g, request
from pydantic import SecretStr

from curation.errors import ConfigError
from curation.settings import Settings
from curation.store import tokens
from curation.store.tokens import Role
from webhooks import service

PUBLIC: Final = frozenset(
    {
        "receive.labelstudio",  # has its own secret
        "media.photo",  # browsers of moderators load it inside Label Studio; names are sha256, hence not guessable
        "health.livez",
        "health.readyz",
        "health.metrics",
        "pages.home",
        "static",
    }
)
"""Endpoints that answer without a token, and tell nothing secret."""

NEEDED: Final = {"pages.status": Role.MODERATOR}
"""The least role an endpoint asks for; one that is not named asks for an admin."""

HOOK_HEADER: Final = "X-Refurbish-Secret"
SECRET_MIN_LENGTH: Final = 16
TOKEN_LIMIT: Final = 512


def init(app: Flask) -> None:
    """Guard every route of the app, also those that are added later."""
    app.before_request(guard)


def guard() -> None:
    """401 without a valid token, 403 with too small a role; unknown addresses go on to their 404."""
    if request.endpoint is None or request.endpoint in PUBLIC:
        return
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LIMIT:
        abort(401)
    with service.current().workspace.db.read() as session:
        person = tokens.find(session, token.strip())
    if person is None:
        abort(401)
    if not person.role.covers(NEEDED.get(request.endpoint, Role.ADMIN)):
        abort(403)
    g.person = person


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
    given = sha256(request.headers.get(HOOK_HEADER, "").encode("latin-1", "replace")).digest()
    is_current = _matches(given, settings.webhook_secret)
    is_previous = _matches(given, settings.webhook_secret_previous)
    return "current" if is_current else "previous" if is_previous else None


def _matches(given: bytes, secret: SecretStr) -> bool:
    value = secret.get_secret_value()
    same = hmac.compare_digest(given, sha256(value.encode()).digest())
    return same and value != ""
