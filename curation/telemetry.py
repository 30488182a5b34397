"""JSON logs with ids. Secrets are never passed to a logger."""

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any

import structlog

REQUEST_ID = "request_id"


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
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the stderr of now, also when it was replaced
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
