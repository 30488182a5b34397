"""How an operation of the API is declared: one place for its address, role, models and bounds, from which the view and its
description in the OpenAPI document are both made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, g, jsonify, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from curation.errors import InputError, NotFoundError, PayloadError, RowError, place, shorten
from curation.labelstudio import strictjson
from curation.store.people import Role
from webhooks import auth, receive
from webhooks.api.models import Error, FieldError

PREFIX: Final = "/api/v1"
BODY_LIMIT_BYTES: Final = 64 * 1024
"""Longest body of an operation that names no other bound."""

MAX_FIELDS: Final = 20
"""Wrong fields that one answer names."""

blueprint = Blueprint("api", __name__, url_prefix=PREFIX)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `refuses`: what it may answer besides 400, 401, 403, 429, 500 and 503."""

    name: str
    method: str
    path: str  #: below PREFIX, in the notation of OpenAPI
    role: Role
    summary: str
    answer: type[BaseModel]
    status: int = 200
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    refuses: tuple[int, ...] = ()
    limit_bytes: int = BODY_LIMIT_BYTES


operations: list[Operation] = []
"""Every operation, in the order of the document."""


class Refused(HTTPException):
    """An answer that says no. `code`: the HTTP status; `fields`: what of the request was wrong, if it was that."""

    def __init__(self, code: int, words: str, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(words)
        self.code, self.words, self.fields = code, words, fields


def operation(declared: Operation) -> Callable[[Callable[..., BaseModel]], Callable[..., BaseModel]]:
    """Put the operation into the API. The function takes path parameters, `query` and `body` by name, as far as there are any."""

    def wrap(function: Callable[..., BaseModel]) -> Callable[..., BaseModel]:
        def view(**path: Any) -> tuple[Response, int]:
            asked = dict(path)
            if declared.query is not None:
                asked["query"] = _checked(declared.query, _arguments(declared.query))
            if declared.body is not None:
                asked["body"] = _checked(declared.body, _read(declared.limit_bytes))
            return jsonify(function(**asked).model_dump(mode="json")), declared.status

        view.__doc__ = declared.summary
        rule = declared.path.replace("{ref}", "<path:ref>").replace("{id}", "<int:id>")
        blueprint.add_url_rule(rule, declared.name, auth.needs(declared.role)(view), methods=[declared.method])
        operations.append(declared)
        return function

    return wrap


def _arguments(model: type[BaseModel]) -> dict[str, Any]:
    """The query's arguments: each once, or a list where the model wants one."""
    found: dict[str, Any] = {}
    for name in request.args:
        values = request.args.getlist(name)
        field = model.model_fields.get(name)
        is_list = field is not None and "tuple" in str(field.annotation)
        if len(values) > 1 and not is_list:
            raise Refused(400, f"argument {shorten(name)} is there {len(values)} times; give it once")
        found[name] = values if is_list else values[0]
    return found


def _read(limit_bytes: int) -> Any:
    if request.mimetype != "application/json":
        raise Refused(
            415, f"the body is {shorten(request.mimetype or 'of no type')}; send JSON as Content-Type: application/json"
        )
    try:
        return strictjson.loads(receive.read_body(limit_bytes))
    except PayloadError as error:
        raise Refused(400, str(error)) from None


def _checked(model: type[BaseModel], values: Any) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=True)
        fields = tuple(FieldError(field=place(one["loc"], "body"), problem=_problem(one)) for one in wrong[:MAX_FIELDS])
        named = ", ".join(dict.fromkeys(field.field for field in fields))
        raise Refused(400, f"the request is wrong in {named}; see fields", fields) from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None


def _problem(one: Any) -> str:
    shown = "" if isinstance(one["input"], dict | list) or one["type"] == "missing" else f"; got {shorten(one['input'])}"
    return f"{one['msg']}{shown}"


def _refused(error: Refused) -> tuple[Response, int]:
    body = Error(error=error.words, request_id=g.get("request_id", ""), fields=list(error.fields) or None)
    answer = jsonify(body.model_dump(mode="json", exclude_none=True))
    if error.code == 503:
        answer.headers["Retry-After"] = str(receive.RETRY_AFTER_S)
    return answer, error.code or 500


def _wrong_input(error: InputError) -> tuple[Response, int]:
    fields = (FieldError(field=error.field, problem=str(error)),) if isinstance(error, RowError) else ()
    return _refused(Refused(400, str(error), fields))


def _not_found(error: NotFoundError) -> tuple[Response, int]:
    return _refused(Refused(404, str(error)))


blueprint.register_error_handler(Refused, _refused)
blueprint.register_error_handler(InputError, _wrong_input)
blueprint.register_error_handler(NotFoundError, _not_found)
