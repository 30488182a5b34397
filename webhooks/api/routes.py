"""The API as one blueprint: its operations, its document, and the live model that it holds."""

from typing import Any

from flask import Response, jsonify
from flask.blueprints import BlueprintSetupState

from curation.store.people import Role
from webhooks import auth, service
from webhooks.api import catalog, openapi, releases, scoring, telling
from webhooks.api.contract import blueprint
from webhooks.model import Model
from webhooks.service import Service

__all__ = ["ROOMS", "blueprint", "described"]

ROOMS = (scoring, catalog, telling, releases)
"""Importing them declares their operations."""


def _hold_model(state: BlueprintSetupState) -> None:
    here: Service = state.app.extensions[service.EXTENSION]
    state.app.extensions[scoring.EXTENSION] = Model(here.workspace)


def described(server_url: str) -> dict[str, Any]:
    """The OpenAPI document of all operations."""
    return openapi.document(server_url)


@blueprint.get("/openapi.json")
@auth.needs(Role.MODERATOR)
def document() -> Response:
    """This API, described as OpenAPI 3.1."""
    return jsonify(described(service.current().workspace.settings.service_url))


blueprint.record_once(_hold_model)
