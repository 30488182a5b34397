"""Values that cost time to count, kept in this process by key. A page says how old what it shows is."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from curation import telemetry
from curation.store.workspace import utc_now

T = TypeVar("T")

QUICK_S = 0.05
"""What took less is counted anew while the caller waits; else the old value is shown and the new one counted behind it."""

REST = 10
"""What took long to count is kept for this many times as long."""

CLOSE_S = 10.0
"""How long the end of the service waits for a count."""

MAX_KEPT = 64

log = telemetry.logger("kept")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A value, and when it was counted. Not `is_current`: another one is being counted."""

    value: T
    at: datetime
    is_current: bool = True


@dataclass(slots=True)
class _Entry:
    value: Any
    version: Hashable
    at: datetime
    at_s: float
    cost_s: float


class Keeper:
    """Keeps values by key, up to 64 of them; each is counted by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._busy: dict[Hashable, threading.Lock] = {}
        self._threads: set[threading.Thread] = set()

    def get(self, key: Hashable, ask: Callable[[], T], *, version: Hashable = None, age_s: float = 60.0) -> Kept[T]:
        """The value for this version, at most `age_s` old, if that is quick to count; else the one before it.

        `version`: anything cheap that changes with the value. The first caller waits; an error is not kept.
        """
        entry = self._held(key)
        if entry is not None and self._is_fresh(entry, version, age_s):
            return Kept(entry.value, entry.at)
        if entry is not None and entry.cost_s > QUICK_S:
            self.ahead(key, ask, version=version)
            return Kept(entry.value, entry.at, is_current=False)
        with self._busy_with(key):
            entry = self._held(key)
            if entry is None or not self._is_fresh(entry, version, age_s):
                entry = self._count(key, ask, version)
        return Kept(entry.value, entry.at)

    def ahead(self, key: Hashable, ask: Callable[[], Any], *, version: Hashable = None) -> None:
        """Begin to count, before anybody wants the value; nothing if it is being counted."""
        if self._busy_with(key).locked():
            return
        thread = threading.Thread(target=self._behind, args=(key, ask, version), daemon=True)
        with self._lock:
            self._threads = {one for one in self._threads if one.is_alive()} | {thread}
            thread.start()

    def close(self) -> None:
        """Wait for what is being counted."""
        with self._lock:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(CLOSE_S)

    def _held(self, key: Hashable) -> _Entry | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def _is_fresh(self, entry: _Entry, version: Hashable, age_s: float) -> bool:
        rest_s = REST * entry.cost_s if entry.cost_s > QUICK_S else 0.0
        return entry.version == version and time.monotonic() - entry.at_s < max(age_s, rest_s)

    def _busy_with(self, key: Hashable) -> threading.Lock:
        with self._lock:
            return self._busy.setdefault(key, threading.Lock())

    def _count(self, key: Hashable, ask: Callable[[], Any], version: Hashable) -> _Entry:
        began_s, at = time.monotonic(), utc_now()
        value = ask()
        ended_s = time.monotonic()
        entry = _Entry(value, version, at, began_s, ended_s - began_s)
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > MAX_KEPT:
                old, _ = self._entries.popitem(last=False)
                self._busy.pop(old, None)
        return entry

    def _behind(self, key: Hashable, ask: Callable[[], Any], version: Hashable) -> None:
        busy = self._busy_with(key)
        if not busy.acquire(blocking=False):
            return
        try:
            self._count(key, ask, version)
        except Exception as error:  # the next request asks again, and shows the error if it must wait
            log.warning("not counted", key=str(key), error=str(error))
        finally:
            busy.release()
