"""`POST /hooks/labelstudio`: store what Label Studio says, durably and once; interpret it later.

Label Studio gives up after one second, never sends again and signs nothing. So the only work done
here is the check of the secret, the bound on the size and one commit; a body that nobody can
interpret is stored as well, since a refusal would lose it for good.
"""

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from curation import telemetry
from curation.errors import DatabaseError
from curation.labelstudio.redact import redact
from webhooks import auth, service

SOURCE = "labelstudio"
READ_CHUNK_BYTES = 64 * 1024
RETRY_AFTER_S = 5

log = telemetry.logger("receive")
blueprint = Blueprint("receive", __name__)


@blueprint.post("/hooks/labelstudio", strict_slashes=False)
def labelstudio() -> tuple[Response, int]:
    """202 once stored (or known), 401 without the secret, 413 beyond the limit, 503 if it could not be stored."""
    here = service.current()
    settings = here.workspace.settings
    if not settings.webhook_secret.get_secret_value():
        log.error("delivery refused: no webhook secret is set; set REFURBISH_WEBHOOK_SECRET and restart")
        return _refuse("database", "the service is not set up to receive deliveries", 503)
    used = auth.which_secret(settings)
    if used is None:
        return _refuse("secret", "unauthorized", 401)
    if used == "previous":
        log.warning("delivery with the previous secret; run: refurbish labelstudio setup")
    try:
        body = redact(read_body(settings.webhook_limit_bytes))
        is_new = here.writer.store(SOURCE, body, wait_s=settings.webhook_wait_s)
    except RequestEntityTooLarge:
        return _refuse("size", f"the body is larger than {settings.webhook_limit_bytes} bytes", 413)
    except ClientDisconnected:
        return _refuse("read", "the body did not arrive whole", 400)
    except DatabaseError as error:
        log.error("delivery not stored", error=str(error))
        return _refuse("database", "the delivery could not be stored; send it again", 503)
    return jsonify(status="accepted" if is_new else "duplicate"), 202


def read_body(limit_bytes: int) -> bytes:
    """The body as sent, at most `limit_bytes`, whatever its type, with or without Content-Length.

    How long it may take is the connection's to say (`webhooks/patience.py`). Raises RequestEntityTooLarge or ClientDisconnected.
    """
    if request.content_length is not None and request.content_length > limit_bytes:
        raise RequestEntityTooLarge
    request.max_content_length = limit_bytes + 1  # so that a body of exactly the limit passes
    chunks: list[bytes] = []
    n_bytes = 0
    while chunk := request.stream.read(READ_CHUNK_BYTES):
        n_bytes += len(chunk)
        if n_bytes > limit_bytes:
            raise RequestEntityTooLarge
        chunks.append(chunk)
    if request.content_length is not None and n_bytes != request.content_length:
        raise ClientDisconnected  # the server says "end" where the connection broke off
    return b"".join(chunks)


def _refuse(reason: str, words: str, status: int) -> tuple[Response, int]:
    service.current().metrics.refused.labels(reason).inc()
    answer = jsonify(error=words)
    if status == 503:
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status != 401:
        answer.headers["Connection"] = "close"  # the rest of the body was not read
    return answer, status
