"""Another model goes live because somebody says so, only while the live one still is the one they saw."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from curation import crash
from curation.catalog.scorer import Scorer
from curation.errors import InputError, IntegrityError, NotFoundError
from curation.release import artifacts, registry
from curation.store.health import Check
from curation.store.workspace import Workspace

REASON_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a change. `is_overtaken`: another one came first, and nothing was changed."""

    live: str | None  #: the live model afterwards
    words: str
    is_overtaken: bool = False


def promote(workspace: Workspace, name: str, *, seen: str, by: str, reason: str) -> Changed:
    """Make the model live if `seen` (a name, or empty for none) still is.

    Raises InputError on a missing or too long reason, NotFoundError on an unknown model or one whose files are gone,
    IntegrityError on one that cannot be loaded or answers otherwise than where it was made.
    """
    reason = _checked(reason)
    require_usable(workspace, name)
    with workspace.db.write() as session:
        live = _live(session)
        wanted = registry.by_name(session, name).name
        if live == wanted:
            return Changed(live, f"{wanted} is live already; nothing was changed.")
        if live != (seen or None):
            return _overtaken(seen, live)
        now = workspace.db.now(session)
        registry.promote(session, wanted, by=by, reason=reason, now=now, files=workspace.files)
    crash.reached("release.after_commit")
    return Changed(wanted, f"{wanted} is live now.")


def rollback(workspace: Workspace, *, seen: str, by: str, reason: str) -> Changed:
    """Make the model before the live one live again if `seen` still is. Raises as `promote`, and InputError if there is none."""
    reason = _checked(reason)
    require_usable(workspace, None)
    with workspace.db.write() as session:
        live = _live(session)
        if live != (seen or None):
            return _overtaken(seen, live)
        now = workspace.db.now(session)
        model = registry.rollback(session, by=by, reason=reason, now=now, files=workspace.files)
    crash.reached("release.after_commit")
    return Changed(model.name, f"{model.name} is live again.")


def require_usable(workspace: Workspace, name: str | None) -> None:
    """Load the model and ask it, before anything is locked; without a name that which a rollback would make live, if any.

    Raises NotFoundError or IntegrityError.
    """
    with workspace.db.read() as session:
        wanted = name or registry.previous(session)
        model = wanted and registry.by_name(session, wanted)
    if not model:
        return
    if gone := artifacts.gone(model, workspace.files):
        raise NotFoundError(gone)
    try:
        Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256, workspace.settings.precision)
    except (IntegrityError, NotFoundError) as error:
        raise type(error)(f"model {model.name} cannot go live: {error}") from error


def health_check(workspace: Workspace) -> Check:
    """Whether the live model can be loaded here and answers as where it was made."""
    with workspace.db.read() as session:
        live = registry.live_name(session)
    if live is None:
        return Check("live model", "ok", "none yet; the first comes from: refurbish retrain")
    try:
        require_usable(workspace, live)
    except (IntegrityError, NotFoundError) as error:
        return Check("live model", "failed", f"{error}; or: refurbish rollback --reason …")
    return Check("live model", "ok", f"{live} loads and answers made-up listings as where it was made")


def _live(session: Session) -> str | None:
    registry.hold(session)
    found = registry.live(session)
    return None if found is None else found.name


def _overtaken(seen: str, live: str | None) -> Changed:
    words = (
        f"Nothing was changed: your page showed {seen or 'no model'} as live, but meanwhile {live or 'no model'} is. "
        "Look at the release log on the page Models, then decide again."
    )
    return Changed(live, words, is_overtaken=True)


def _checked(reason: str) -> str:
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= REASON_LIMIT:
        raise InputError(f"a reason has 1 to {REASON_LIMIT} characters, this one {len(reason)}; say why, it stays in the log")
    if "\x00" in reason:
        raise InputError("a reason cannot hold a NUL character; remove it")
    return reason
