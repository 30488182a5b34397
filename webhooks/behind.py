"""A value that is costly to ask for: what is there is shown at once, and asked anew behind the answer."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Value = dict[str, Any]

WAIT_S = 0.05
"""How long an answer waits for a newer value, in seconds."""

REST = 10
"""A value that took long to ask for is kept for this many times as long."""


class Behind:
    """Asked by one thread at a time, at most once in `age_s` seconds. Only the first answer waits for as long as it takes."""

    def __init__(self, age_s: float, *, wait_s: float = WAIT_S, rest: float = REST) -> None:
        self.age_s, self.wait_s, self.rest = age_s, wait_s, rest
        self._lock = threading.Lock()
        self._asking: Future[Value] | None = None
        self._value: Value | None = None
        self._until_s = -math.inf

    def get(self, ask: Callable[[], Value]) -> Value:
        """The value, a newer one if it comes within `wait_s`, else the one from before; raises what `ask` raised meanwhile."""
        with self._lock:
            before = self._value
            if before is not None and time.monotonic() < self._until_s:
                return before
            asking = self._asking or self._begin(ask)
        try:
            return asking.result(None if before is None else self.wait_s)
        except TimeoutError:
            if before is None:
                raise
            return before

    def ahead(self, ask: Callable[[], Value]) -> None:
        """Begin to ask, before anybody wants the value."""
        with self._lock:
            if self._asking is None:
                self._begin(ask)

    def close(self) -> None:
        """Wait for what is being asked."""
        asking = self._asking
        if asking is not None:
            asking.exception()

    def _begin(self, ask: Callable[[], Value]) -> Future[Value]:
        asking = self._asking = Future()
        threading.Thread(target=self._ask, args=(ask, asking), daemon=True).start()
        return asking

    def _ask(self, ask: Callable[[], Value], answer: Future[Value]) -> None:
        began_s = time.monotonic()
        try:
            value = ask()
        except Exception as error:
            with self._lock:
                self._asking = None
            answer.set_exception(error)
            return
        with self._lock:
            now_s = time.monotonic()
            self._value, self._asking = value, None
            self._until_s = now_s + max(self.age_s, self.rest * (now_s - began_s))
        answer.set_result(value)
