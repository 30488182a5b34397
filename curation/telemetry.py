"""JSON logs with ids. Secrets are never passed to a logger."""

import logging
import sys
from typing import Any

import structlog


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
