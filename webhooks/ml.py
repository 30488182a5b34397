"""`/ml`: Label Studio's contract for a model that suggests answers while people work.

Asked by Label Studio only. It knows the webhook secret as the password of basic authentication; `/ml/health` tells nothing
and is open. Nothing of a body is stored or logged: `/ml/setup` brings the access token of the project's creator.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from curation import telemetry
from curation.errors import PayloadError
from curation.labelstudio import predict as predicting
from curation.labelstudio import strictjson
from curation.release import policy
from curation.review import suggestions
from webhooks import auth, receive, service

TRAIN = "START_TRAINING"
"""What the button “Start training” in the project's settings sends."""

MAX_TASKS = 100_000
"""Asked about at once; each answer takes more room than the shortest task that a body can hold."""

log = telemetry.logger("ml")
blueprint = Blueprint("ml", __name__, url_prefix="/ml")


@blueprint.get("/health")
def health() -> Response:
    """Asked before everything else; a second without an answer and Label Studio does without suggestions."""
    return jsonify(status="UP", model_class="refurbish")


@blueprint.post("/setup")
def setup() -> tuple[Response, int]:
    """The version that our predictions carry now. The body is read and forgotten."""
    return _version() if _body() is not None else _refused()


@blueprint.get("/versions")
def versions() -> tuple[Response, int]:
    """The same as a list."""
    if not auth.is_label_studio(service.current().workspace.settings):
        return _refused()
    return jsonify(versions=[_named()]), 200


@blueprint.post("/predict")
def predict() -> tuple[Response, int]:
    """One prediction for each task, in order, whatever is wrong with any of them."""
    here, body = service.current(), _body()
    if body is None:
        return _refused()
    tasks = _parsed(body).get("tasks")
    if not isinstance(tasks, list):
        return jsonify(error="the body names no list of tasks"), 400
    if len(tasks) > MAX_TASKS:
        return jsonify(error=f"the body names {len(tasks):,} tasks, {MAX_TASKS:,} are answered at once; ask in parts"), 413
    return jsonify(results=list(predicting.answers(here.workspace, tasks, here.model.live()))), 200


@blueprint.post("/webhook")
def webhook() -> tuple[Response, int]:
    """Start a run if one is due. All other events come by `/hooks/labelstudio` and are left to it."""
    here, body = service.current(), _body()
    if body is None:
        return _refused()
    if _parsed(body).get("action") != TRAIN:
        return jsonify(status="ignored; events are received at /hooks/labelstudio"), 202
    db = here.workspace.db
    with db.write() as session:
        found = policy.consider(session, here.workspace.settings, now=db.now(session))
    return jsonify(status=found.words), 202


def _version() -> tuple[Response, int]:
    return jsonify(model_version=_named()), 200


def _named() -> str:
    with service.current().workspace.db.read() as session:
        return suggestions.version(session)


def _body() -> bytes | None:
    """The body of a request by Label Studio; None without the secret, or if it did not arrive whole."""
    settings = service.current().workspace.settings
    if not auth.is_label_studio(settings):
        return None
    try:
        return receive.read_body(settings.webhook_limit_bytes)
    except (RequestEntityTooLarge, ClientDisconnected) as error:
        log.warning("request not read", route=request.path, error=type(error).__name__)
        return None


def _parsed(body: bytes) -> dict[str, Any]:
    """The JSON object; empty if it is none."""
    try:
        found = strictjson.loads(body)
    except PayloadError:
        log.warning("body is not strict JSON", route=request.path, n_bytes=len(body))
        return {}
    return found if isinstance(found, dict) else {}


def _refused() -> tuple[Response, int]:
    here = service.current()
    if auth.is_label_studio(here.workspace.settings):
        return jsonify(error="the body did not arrive whole, or is larger than webhook_limit_bytes"), 413
    here.limits.hit("stranger", request.remote_addr or "")
    answer = jsonify(error="unauthorized; run: refurbish labelstudio setup")
    answer.headers["WWW-Authenticate"] = 'Basic realm="refurbish"'
    answer.headers["Connection"] = "close"  # the body was not read
    return answer, 401
