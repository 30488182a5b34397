"""The OpenAPI 3.1 document, made from the declared operations and their models."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from curation import __version__
from curation.store.people import Role
from webhooks.api.answers import StatusAnswer
from webhooks.api.contract import PREFIX, Operation, operations
from webhooks.api.models import Error

TEMPLATE = "#/components/schemas/{model}"
WORDS = {
    400: "The request is wrong; `fields` names what.",
    401: "No valid token.",
    403: "The token's role is too small.",
    404: "There is no such thing.",
    409: "It was done or changed meanwhile; nothing was changed now.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests; wait as long as Retry-After says.",
    500: "An error of ours; the log has it under the request id.",
    503: "No model is live, or the database does not answer; try again.",
}
ALWAYS = (400, 401, 403, 429, 500, 503)

STATUS = Operation("status", "GET", "/status", Role.MODERATOR, "Where the loop stands.", StatusAnswer)
"""Its view stands with the overview page."""


def document(server_url: str = "") -> dict[str, Any]:
    """The whole document. `server_url`: where the service is reached, empty = not said."""
    every = [*operations, STATUS]
    schemas, components = _schemas(every)
    paths: dict[str, dict[str, Any]] = {}
    for one in sorted(every, key=lambda one: (one.path, one.method)):
        paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = _operation(one, schemas)
    about = {"title": "Refurbish", "version": __version__, "description": "Labels, suspects, reports and the live model."}
    bearer = {"type": "http", "scheme": "bearer", "description": "refurbish token create NAME --role ROLE"}
    return {
        "openapi": "3.1.0",
        "info": about,
        **({"servers": [{"url": server_url}]} if server_url else {}),
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": bearer}, "schemas": components},
    }


Schemas = dict[tuple[type[BaseModel], str], dict[str, Any]]


def _schemas(every: Iterable[Operation]) -> tuple[Schemas, dict[str, Any]]:
    """References by (model, mode), and what they refer to."""
    wanted: dict[tuple[type[BaseModel], Any], None] = {(Error, "serialization"): None}
    for one in every:
        wanted[one.answer, "serialization"] = None
        if one.body is not None:
            wanted[one.body, "validation"] = None
    found, definitions = models_json_schema(list(wanted), ref_template=TEMPLATE)
    references: Schemas = {(model, mode): schema for (model, mode), schema in found.items()}  # type: ignore[misc]
    return references, definitions.get("$defs", {})


def _operation(one: Operation, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"For the role {one.role.value} and those above it.",
        "x-role": one.role.value,
        "parameters": [*_path_parameters(one.path), *_query_parameters(one.query)],
        "responses": _responses(one, schemas),
    }
    if one.body is not None:
        content = {"application/json": {"schema": schemas[one.body, "validation"]}}
        described["requestBody"] = {"required": True, "content": content, "x-limit-bytes": one.limit_bytes}
    return described


def _responses(one: Operation, schemas: Schemas) -> dict[str, Any]:
    answer = schemas[one.answer, "serialization"]
    found = {str(one.status): {"description": "It worked.", "content": {"application/json": {"schema": answer}}}}
    error = {"application/json": {"schema": schemas[Error, "serialization"]}}
    for code in sorted({*ALWAYS, *one.refuses}):
        found[str(code)] = {"description": WORDS[code], "content": error}
    return found


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", path)]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema(ref_template=TEMPLATE)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": found.pop("description", ""),
            "schema": found,
        }
        for name, found in schema["properties"].items()
    ]
