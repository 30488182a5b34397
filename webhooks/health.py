"""`/livez`, `/readyz`, `/metrics`: answered to anyone, and nothing secret in them."""

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST

from curation import telemetry
from curation.store import health
from webhooks import service

log = telemetry.logger("health")
blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> Response:
    """The process answers; asks nothing else, so that a database outage does not get it killed."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Deliveries can be stored: database writable, schema current, disk writable. 503 if not; details go to the log.

    A model that cannot be used is a warning: deliveries are stored without one.
    """
    here = service.current()
    found = [
        health.database_takes_writes(here.writer.db),
        health.schema_is_current(here.workspace.db),
        health.folder_is_writable(here.workspace.settings.home),
        health.Check("writer", "ok" if here.writer.is_alive else "failed", "the inbox writer"),
        health.Check("model", "warning" if here.model.refused else "ok", "the newest release"),
    ]
    failed = [check for check in found if check.is_failed]
    for check in failed:
        log.warning("not ready", check=check.name, words=check.words)
    status = "unavailable" if failed else "ok"
    return jsonify(status=status, checks={check.name: check.state for check in found}), 503 if failed else 200


@blueprint.get("/metrics")
def metrics() -> Response:
    """Counts and latencies in Prometheus's text format."""
    return Response(service.current().metrics.text(), content_type=CONTENT_TYPE_LATEST)
