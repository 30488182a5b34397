"""JSON logs with ids. Secrets are never passed to a logger."""

import logging
import sys
from contextlib import AbstractContextManager, suppress
from typing import Any

import structlog

REQUEST_ID = "request_id"


class _Stderr(structlog.PrintLogger):
    """A line that cannot be written, on a disk that is full or to a reader that is gone, is lost, not the work it tells of."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def configure(level: int = logging.INFO) -> None:
    """One JSON object a line on stderr, with time, level and bound ids."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stderr(sys.stderr),  # the stderr of now, also when it was replaced
        cache_logger_on_first_use=False,
    )


def logger(name: str) -> Any:
    """A logger whose lines carry `room`; stdout is for results, so that it never writes there."""
    if not structlog.is_configured():
        configure()
    return structlog.get_logger(room=name)


def asked_by() -> dict[str, str]:
    """The id of the request that is being answered, as {"request_id": …}; empty outside of one."""
    found = structlog.contextvars.get_contextvars().get(REQUEST_ID)
    return {} if found is None else {REQUEST_ID: str(found)}


def during(**ids: Any) -> AbstractContextManager[Any]:
    """Every line logged inside carries these ids; those that are None are left out."""
    return structlog.contextvars.bound_contextvars(**{name: value for name, value in ids.items() if value is not None})
