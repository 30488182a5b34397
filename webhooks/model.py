"""The released model in this process: loaded once, and again when another one goes live."""

import math
import threading
import time
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from curation import telemetry
from curation.catalog.scorer import Scorer
from curation.errors import RefurbishError
from curation.release import registry
from curation.store.tables import Release
from curation.store.workspace import Workspace

CHECK_S = 1.0
"""The log of releases is looked at no more often than this."""

log = telemetry.logger("model")


@dataclass(frozen=True, slots=True)
class Live:
    """A loaded model and the row of the release log that made it live."""

    release_id: int
    name: str
    scorer: Scorer


class Model:
    """Holds the live model for all threads. A promotion or rollback is seen within `CHECK_S`; meanwhile the old one answers."""

    def __init__(self, workspace: Workspace, *, check_s: float = CHECK_S) -> None:
        self.workspace, self.check_s = workspace, check_s
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._checked_at_s = -math.inf

    def live(self) -> Scorer | None:
        """The live model, or None before the first release or while its files cannot be read (the log says why)."""
        found = self.current()
        return None if found is None else found.scorer

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
        """Load what is live, unless it is what we hold. One that cannot be loaded leaves the one before in place."""
        held = self._live
        try:
            with self.workspace.db.read() as session:
                newest = session.execute(select(Release.id).order_by(Release.id.desc()).limit(1)).scalar_one_or_none()
                if newest is None or (held is not None and held.release_id == newest):
                    return
                model = registry.live(session)
            if model is not None:
                files, precision = self.workspace.files, self.workspace.settings.precision
                scorer = Scorer.load(files, model.onnx_sha256, model.sidecar_sha256, precision)
                self._live = Live(newest, model.name, scorer)
                log.info("model loaded", model=model.name, precision=scorer.precision)
        except (RefurbishError, SQLAlchemyError, OSError) as error:
            log.error("live model not loaded", held=held and held.name, error=str(error))
