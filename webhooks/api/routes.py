"""The API as one blueprint: its operations and its document."""

from typing import Any

from flask import Response, jsonify

from curation.store.people import Role
from webhooks import auth, service
from webhooks.api import catalog, openapi, releases, scoring, telling
from webhooks.api.contract import blueprint

__all__ = ["ROOMS", "blueprint", "described"]

ROOMS = (scoring, catalog, telling, releases)
"""Importing them declares their operations."""


def described(server_url: str) -> dict[str, Any]:
    """The OpenAPI document of all operations."""
    return openapi.document(server_url)


@blueprint.get("/openapi.json")
@auth.needs(Role.MODERATOR)
def document() -> Response:
    """This API, described as OpenAPI 3.1."""
    return jsonify(described(service.current().workspace.settings.service_url))
