"""Group commit: many requests, one transaction. An answer is given only after its commit.

One durable commit costs milliseconds (an fsync), whatever it holds. Deliveries that arrive while
one is under way wait in a queue and share the next, so throughput grows with the load.
"""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from curation import crash, telemetry
from curation.errors import DatabaseError, RefurbishError
from curation.store import inbox
from curation.store.db import Database

BATCH_LIMIT = 128
BATCH_BYTES = 16 * 1024 * 1024
QUEUE_LIMIT = 1024
PATIENCE = 3
"""How many times as long a commit that has begun is waited for; a busy machine ends it later than it should."""


log = telemetry.logger("writer")


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivery on its way to the disk. The future says whether it was new."""

    source: str
    body: bytes
    future: Future[bool] = field(default_factory=Future)


class BatchWriter:
    """One thread that stores deliveries, in batches. Make it after a fork, close it before the database."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._queue: queue.Queue[Pending | None] = queue.Queue(QUEUE_LIMIT)
        self._closing = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="inbox-writer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether deliveries are taken."""
        return self._thread.is_alive() and not self._closing

    def store(self, source: str, body: bytes, *, wait_s: float) -> bool:
        """Store one delivery and its job durably; True if it was new, False if it was there.

        Raises DatabaseError if its commit had not begun within `wait_s`: then it is not stored. One
        that has begun is waited for up to three times as long, since the database's own limit on locks
        ends it; only if even that passes, it is not known. Sending it again is harmless in any case.
        """
        if not self.is_alive:
            raise DatabaseError("the receiver is stopping; send the delivery again")
        pending = Pending(source, body)
        try:
            self._queue.put_nowait(pending)
        except queue.Full:
            raise DatabaseError(f"{QUEUE_LIMIT} deliveries wait for the database already; send this one again") from None
        return _outcome(pending.future, wait_s)

    def close(self) -> None:
        """Store what is waiting, then stop."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not (self._ended and self._queue.empty()):
            self._commit(self._gather())

    def _gather(self) -> list[Pending]:
        """Wait for one, then take what else is there; nothing at the end."""
        batch: list[Pending] = []
        n_bytes = 0
        while len(batch) < BATCH_LIMIT and n_bytes < BATCH_BYTES:
            try:
                found = self._queue.get(block=not batch and not self._ended)
            except queue.Empty:
                break
            if found is None:
                self._ended = True
            else:
                batch.append(found)
                n_bytes += len(found.body)
        return batch

    def _commit(self, batch: Sequence[Pending]) -> None:
        wanted = [pending for pending in batch if pending.future.set_running_or_notify_cancel()]
        if wanted:
            self._settle(wanted)

    def _settle(self, batch: Sequence[Pending]) -> None:
        try:
            fresh = self._store(batch)
        except DatabaseError as error:  # the database is away: one by one would only wait longer
            _refuse(batch, error)
        except Exception as error:
            if len(batch) == 1:
                log.error("delivery not stored", error=f"{type(error).__name__}: {error}", n_bytes=len(batch[0].body))
                _refuse(batch, error)
            else:  # one of them is to blame; the others must not suffer for it
                for pending in batch:
                    self._settle([pending])
        else:
            for pending, is_new in zip(batch, fresh, strict=True):
                pending.future.set_result(is_new)

    def _store(self, batch: Sequence[Pending]) -> list[bool]:
        def insert(session: Session) -> list[bool]:
            now = self.db.now(session)
            fresh = inbox.receive_each(session, [inbox.Delivery(pending.source, pending.body, now) for pending in batch])
            crash.reached("receiver.before_commit")
            return fresh

        fresh = self.db.retrying(insert)
        crash.reached("receiver.after_commit")
        return fresh


def _outcome(future: Future[bool], wait_s: float) -> bool:
    try:
        return future.result(timeout=wait_s)
    except TimeoutError:
        is_dropped = future.cancel()
    try:
        if not is_dropped:
            return future.result(timeout=PATIENCE * wait_s)
    except TimeoutError:
        pass
    raise DatabaseError(f"the database did not take the delivery within {wait_s:g} s; send it again")


def _refuse(batch: Sequence[Pending], error: Exception) -> None:
    known = error if isinstance(error, RefurbishError) else DatabaseError(f"the delivery could not be stored: {error}")
    for pending in batch:
        pending.future.set_exception(known)
