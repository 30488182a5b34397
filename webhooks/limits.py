"""How often somebody may ask. Counted in this process: with n processes up to n times as often."""

import time

from flask import abort
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from curation.errors import ConfigError, shorten
from curation.settings import Settings

STRANGERS = "120/minute"
"""Requests of one address without a valid token or cookie."""

NOTED = "30/minute"
"""Refusals of one person that are written down; the log has all of them."""


class Limits:
    """The limits in force, by what is counted."""

    def __init__(self, settings: Settings) -> None:
        self._counted = MovingWindowRateLimiter(MemoryStorage())
        self._limits = {
            "sign in": _limit("login_limit", settings.login_limit),
            "person": _limit("api_limit", settings.api_limit),
            "stranger": parse(STRANGERS),
            "refusal": parse(NOTED),
        }

    def allows(self, what: str, who: str) -> bool:
        """Count once more; whether that still is within the limit."""
        return self._counted.hit(self._limits[what], what, who)

    def hit(self, what: str, who: str) -> None:
        """Count once more; 429 with the seconds to wait where it is too often."""
        limit = self._limits[what]
        if self.allows(what, who):
            return
        reset_at_s = self._counted.get_window_stats(limit, what, who).reset_time
        abort(429, description=str(max(1, round(reset_at_s - time.time()))))


def _limit(name: str, value: str) -> RateLimitItem:
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{name} is {shorten(value)}, which is no limit; write one such as 10/minute") from error
