"""The released model in this process: loaded once, and again when another one goes live.

A new model takes the old one's place only if it loads, answers made-up listings as its sidecar tells, and in time. If it then
fails to answer too often, the one before answers again. Either way the release log stays as it is: what became of a release in
this process is told by the log, `/readyz`, `/metrics` and `refurbish doctor`, and somebody rolls back or promotes.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from curation import telemetry
from curation.catalog import canary
from curation.catalog.features import Features
from curation.catalog.scorer import Scorer, Scores
from curation.errors import IntegrityError, RefurbishError
from curation.release import registry
from curation.store.workspace import Workspace

CHECK_S = 1.0
"""The log of releases is looked at no more often than this."""

RETRY_S = 30.0
"""A model that was refused is tried again no more often than this."""

CANARY_S = 5.0
"""A model that takes longer for a few made-up listings is not taken up."""

N_WATCHED, MIN_FAILED, MAX_FAILED_SHARE = 50, 3, 0.2
"""Of so many of the last answers, at least three and more than a fifth failed: the model before answers again."""

log = telemetry.logger("model")


@dataclass(frozen=True, slots=True)
class Live:
    """A loaded model and the row of the release log that made it live."""

    release_id: int
    name: str
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class Refused:
    """A release that this process does not answer by."""

    release_id: int
    name: str
    words: str  #: why
    is_final: bool  #: it answered badly, so that it is not tried again


class Heard(Scorer):
    """A scorer that tells of each batch whether it answered."""

    def __init__(self, loaded: Scorer, tell: Callable[[bool], None]) -> None:
        self.__dict__.update(loaded.__dict__)
        self._tell = tell

    def predict(self, features: Features, rows: NDArray[np.int64] | None = None) -> Scores:
        try:
            found = super().predict(features, rows)
        except Exception:
            self._tell(False)
            raise
        self._tell(True)
        return found


class Model:
    """Holds the live model for all threads. A promotion or rollback is seen within `CHECK_S`; meanwhile the old one answers."""

    def __init__(self, workspace: Workspace, *, check_s: float = CHECK_S, retry_s: float = RETRY_S) -> None:
        self.workspace, self.check_s, self.retry_s = workspace, check_s, retry_s
        self._lock, self._swap = threading.Lock(), threading.Lock()
        self._live: Live | None = None
        self._before: Live | None = None
        self._refused: Refused | None = None
        self._answered: deque[bool] = deque(maxlen=N_WATCHED)
        self._checked_at_s = self._tried_at_s = -math.inf

    def live(self) -> Scorer | None:
        """The live model, or None before the first release or while no released one can be used (the log says why)."""
        found = self.current()
        return None if found is None else found.scorer

    @property
    def refused(self) -> Refused | None:
        """The newest release, if this process does not answer by it."""
        return self._refused

    def current(self) -> Live | None:
        """The same with its name."""
        is_first = self._checked_at_s == -math.inf
        if self._is_old() and self._lock.acquire(blocking=is_first):
            try:
                if self._is_old():
                    self._look()
                    self._checked_at_s = time.monotonic()
            finally:
                self._lock.release()
        return self._live

    def _is_old(self) -> bool:
        return time.monotonic() - self._checked_at_s >= self.check_s

    def _look(self) -> None:
        """Load what is live, unless it is what we hold. One that cannot be used leaves the one before in place."""
        try:
            with self.workspace.db.read() as session:
                released = registry.releases(session, limit=1)
                if not released or not self._is_news(released[0].id):
                    return
                candidates = [registry.by_name(session, name) for name in registry.went_live(session)]
        except (RefurbishError, SQLAlchemyError) as error:
            log.error("release log not read", error=str(error))
            return
        self._take(released[0].id, candidates)

    def _is_news(self, newest: int) -> bool:
        held, refused = self._live, self._refused
        if refused is not None and refused.release_id == newest:
            return not refused.is_final and time.monotonic() - self._tried_at_s >= self.retry_s
        return held is None or held.release_id != newest

    def _take(self, newest: int, candidates: list[registry.Model]) -> None:
        """The first of these that can be used; a process that holds none goes back in the log.

        The one it held stays at hand, unless it was taken back: people had a reason.
        """
        self._tried_at_s = time.monotonic()
        refused = None
        for model in candidates if self._live is None else candidates[:1]:
            try:
                scorer = self._loaded(model, newest)
            except (RefurbishError, OSError) as error:
                log.error("live model not loaded", model=model.name, held=self._live and self._live.name, error=str(error))
                refused = refused or Refused(newest, model.name, str(error), is_final=False)
                continue
            with self._swap:
                is_usable = self._live is not None and self._live.name in {one.name for one in candidates[1:]}
                self._before, self._live = self._live if is_usable else None, Live(newest, model.name, scorer)
                self._answered.clear()
            log.info("model loaded", model=model.name, precision=scorer.precision)
            break
        self._refused = refused

    def _loaded(self, model: registry.Model, release_id: int) -> Scorer:
        files, precision = self.workspace.files, self.workspace.settings.precision
        scorer = Scorer.load(files, model.onnx_sha256, model.sidecar_sha256, precision)
        started_s = time.monotonic()
        scorer.predict(canary.features(scorer))
        spent_s = time.monotonic() - started_s
        if spent_s > CANARY_S:
            raise IntegrityError(
                f"model {model.name} took {spent_s:.1f} s for {len(canary.TEXTS)} made-up listings, at most {CANARY_S:g} s are "
                "waited for; look at the load of this machine, or promote another model"
            )
        return Heard(scorer, lambda is_answered: self._hear(release_id, is_answered))

    def _hear(self, release_id: int, is_answered: bool) -> None:
        """Note an answer; take the model before where too many failed."""
        with self._swap:
            live = self._live
            if live is None or live.release_id != release_id:
                return
            self._answered.append(is_answered)
            n_failed = self._answered.count(False)
            if n_failed < MIN_FAILED or n_failed <= MAX_FAILED_SHARE * len(self._answered) or self._before is None:
                return
            words = f"{n_failed} of its last {len(self._answered)} answers failed"
            self._refused = Refused(release_id, live.name, words, is_final=True)
            self._live, self._before = self._before, None
            self._answered.clear()
            log.error("live model taken back", model=live.name, held=self._live.name, error=words)
