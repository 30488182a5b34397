"""Runs, models, and the append-only log of releases: the live model is the log's last row."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from curation import crash
from curation.errors import InputError, NotFoundError, shorten
from curation.release import artifacts
from curation.store.base import Base
from curation.store.files import FileStore
from curation.store.jobs import enqueue
from curation.store.tables import ModelVersion, Release, RunRow
from curation.store.workspace import get_state

PROJECT = "labelstudio.project"
"""The state that is there once Label Studio was set up: then its suggestions must follow the live model."""

REFRESH = "refresh"
FALLBACKS = 3
RUN_STATES = ("running", "promoted", "refused", "failed", "finished")


@dataclass(frozen=True, slots=True)
class Model:
    """A trained, exported model, named ``det-0001`` and up."""

    id: int
    name: str
    run_id: int | None
    onnx_sha256: str
    sidecar_sha256: str
    weights_sha256: str
    report: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """One training run. `state`: running, promoted, refused, failed, finished."""

    id: int
    kind: str
    snapshot_id: int | None
    trigger: str
    state: str
    device: str
    config: Mapping[str, Any]
    report: Mapping[str, Any]
    n_corrections: int
    n_seconds: float | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Released:
    """One row of the release log. `action`: promote or rollback."""

    id: int
    model: str
    action: str
    reason: str
    by: str
    at: datetime


def start_run(
    session: Session,
    *,
    kind: str,
    snapshot_id: int | None,
    trigger: str,
    config: Mapping[str, Any],
    device: str,
    n_corrections: int,
    now: datetime,
) -> int:
    """Note that a run began; its id. Pass the snapshot's `now`, so that no correction falls between the two."""
    row = RunRow(
        kind=kind,
        snapshot_id=snapshot_id,
        trigger=trigger,
        config=dict(config),
        report={},
        state="running",
        device=device,
        n_corrections=n_corrections,
        started_at=now,
    )
    session.add(row)
    session.flush()
    return row.id


def finish_run(
    session: Session, run_id: int, *, state: str, report: Mapping[str, Any], n_seconds: float | None, now: datetime
) -> None:
    """Note how a run ended: promoted, refused, failed or finished."""
    if state not in RUN_STATES[1:]:
        raise InputError(f"run state {shorten(state)} is not an end; use one of {', '.join(RUN_STATES[1:])}")
    row = session.get(RunRow, run_id)
    if row is None:
        raise NotFoundError(f"run {run_id} is not known; see `refurbish runs`")
    row.state, row.report, row.n_seconds, row.finished_at = state, dict(report), n_seconds, now
    session.flush()


def run(session: Session, run_id: int) -> Run:
    """The run with this id. Raises NotFoundError."""
    row = session.get(RunRow, run_id)
    if row is None:
        raise NotFoundError(f"run {run_id} is not known; see `refurbish runs`")
    return _as_run(row)


def runs(session: Session, *, limit: int = 50, before: int | None = None) -> list[Run]:
    """The newest runs, newest first; with `before`, those older than the run with this id."""
    query = select(RunRow).order_by(RunRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(RunRow.id < before)
    return [_as_run(row) for row in session.execute(query).scalars()]


def add_model(
    session: Session,
    *,
    run_id: int | None,
    onnx_sha256: str,
    sidecar_sha256: str,
    weights_sha256: str,
    report: Mapping[str, Any],
    now: datetime,
) -> Model:
    """Register a trained model under the next free name. It is not live before `promote`."""
    _lock(session, ModelVersion)
    n_models = session.execute(select(func.count(ModelVersion.id))).scalar_one()
    row = ModelVersion(
        name=f"det-{n_models + 1:04d}",
        run_id=run_id,
        onnx_sha256=onnx_sha256,
        sidecar_sha256=sidecar_sha256,
        weights_sha256=weights_sha256,
        report=dict(report),
        created_at=now,
    )
    session.add(row)
    session.flush()
    return _as_model(row)


def by_name(session: Session, name: str) -> Model:
    """The model with this name. Raises NotFoundError."""
    is_storable = "\x00" not in name
    row = session.execute(select(ModelVersion).where(ModelVersion.name == name)).scalar_one_or_none() if is_storable else None
    if row is None:
        raise NotFoundError(f"model {shorten(name)} is not known; see `refurbish models`")
    return _as_model(row)


def models(session: Session, *, limit: int = 50, before: int | None = None) -> list[Model]:
    """The newest models, newest first; with `before`, those older than the model with this id."""
    query = select(ModelVersion).order_by(ModelVersion.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ModelVersion.id < before)
    return [_as_model(row) for row in session.execute(query).scalars()]


def of_run(session: Session, run_id: int) -> list[Model]:
    """The models that a run made; one, or none where it failed."""
    rows = session.execute(select(ModelVersion).where(ModelVersion.run_id == run_id).order_by(ModelVersion.id)).scalars()
    return [_as_model(row) for row in rows]


def live(session: Session) -> Model | None:
    """The model of the log's last row, or None before the first release."""
    newest = select(Release.model_version_id).order_by(Release.id.desc()).limit(1).scalar_subquery()
    row = session.execute(select(ModelVersion).where(ModelVersion.id == newest)).scalar_one_or_none()
    return None if row is None else _as_model(row)


def live_name(session: Session) -> str | None:
    """The name of the live model, without reading the rest of it."""
    newest = select(Release.model_version_id).order_by(Release.id.desc()).limit(1).scalar_subquery()
    return session.execute(select(ModelVersion.name).where(ModelVersion.id == newest)).scalar_one_or_none()


def releases(session: Session, *, limit: int = 50, model: str | None = None, before: int | None = None) -> list[Released]:
    """The newest rows of the release log, newest first; with `model`, of this one only; with `before`, older than this id."""
    query = select(Release, ModelVersion.name).join(ModelVersion, ModelVersion.id == Release.model_version_id)
    if model is not None:
        query = query.where(ModelVersion.name == model)
    if before is not None:
        query = query.where(Release.id < before)
    rows = session.execute(query.order_by(Release.id.desc()).limit(limit)).all()
    return [Released(row.id, name, row.action, row.reason, row.by, row.at) for row, name in rows]


def promote(session: Session, name: str, *, by: str, reason: str, now: datetime, files: FileStore | None = None) -> Model:
    """Make a model live. With `files`, one whose artifacts are missing (NotFoundError) or changed (IntegrityError) is refused."""
    hold(session)
    model = by_name(session, name)
    artifacts.require_intact(model, files)
    _append(session, model, "promote", by=by, reason=reason, now=now)
    return model


def rollback(session: Session, *, by: str, reason: str, now: datetime, files: FileStore | None = None) -> Model:
    """Make the previously live model live again; twice goes back two. Raises InputError if there is none."""
    hold(session)
    past = _promoted(session)
    if len(past) < 2:
        state = "only one model was ever live" if past else "no model was ever live"
        raise InputError(f"there is nothing to roll back to: {state}; see `refurbish models`")
    row = session.get_one(ModelVersion, past[-2])
    artifacts.require_intact(_as_model(row), files)
    _append(session, _as_model(row), "rollback", by=by, reason=reason, now=now)
    return _as_model(row)


def previous(session: Session) -> str | None:
    """The model that a rollback would make live, or None."""
    past = _promoted(session)
    return None if len(past) < 2 else session.get_one(ModelVersion, past[-2]).name


def went_live(session: Session) -> list[str]:
    """The models that a process may answer by: the live one, then those that rollbacks would make live, at most FALLBACKS."""
    ids = list(dict.fromkeys(reversed(_promoted(session))))[: 1 + FALLBACKS]
    return [session.get_one(ModelVersion, at).name for at in ids]


def _promoted(session: Session) -> list[int]:
    """Model ids in the order they went live, without those taken back; the last one is live."""
    past: list[int] = []
    for row in session.execute(select(Release.model_version_id, Release.action).order_by(Release.id)):
        if row.action == "rollback":
            while past and past[-1] != row.model_version_id:
                past.pop()
        if not past or past[-1] != row.model_version_id:
            past.append(row.model_version_id)
    return past


def _append(session: Session, model: Model, action: str, *, by: str, reason: str, now: datetime) -> None:
    if not by.strip() or not reason.strip():
        raise InputError(f"a {action} needs who does it and why; got by={shorten(by)}, reason={shorten(reason)}")
    row = Release(model_version_id=model.id, action=action, reason=reason, by=by[:120], at=now)
    session.add(row)
    session.flush()
    if get_state(session, PROJECT) is not None:  # a key of its own: a refresh under way shows what was live before
        enqueue(session, REFRESH, {}, key=f"{REFRESH}-{row.id}", now=now)
    crash.reached("release.before_commit")


def hold(session: Session) -> None:
    """Nobody else changes what is live until the transaction ends."""
    _lock(session, Release)


def _lock(session: Session, table: type[Base]) -> None:
    """One writer at a time, so that names and the log stay in order; SQLite's write lock does that already."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f'LOCK TABLE "{table.__tablename__}" IN SHARE ROW EXCLUSIVE MODE'))


def _as_model(row: ModelVersion) -> Model:
    return Model(
        row.id, row.name, row.run_id, row.onnx_sha256, row.sidecar_sha256, row.weights_sha256, row.report, row.created_at
    )


def _as_run(row: RunRow) -> Run:
    return Run(
        id=row.id,
        kind=row.kind,
        snapshot_id=row.snapshot_id,
        trigger=row.trigger,
        state=row.state,
        device=row.device,
        config=row.config,
        report=row.report,
        n_corrections=row.n_corrections,
        n_seconds=row.n_seconds,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
