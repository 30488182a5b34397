"""Every table. Rows never leave the floor that loaded them; records in `curation.types` do."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from curation.store.base import Base


def _only(where: str, on_postgresql: str = "") -> dict[str, Any]:
    """Options of an index over some rows."""
    return {"sqlite_where": text(where), "postgresql_where": text(on_postgresql or where)}


CURRENT = _only("is_current IS 1", "is_current IS true")


class Inbox(Base):
    """What was received, verbatim, once. `state`: received, applied, ignored, quarantined."""

    __tablename__ = "inbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    dedupe_key: Mapped[str] = mapped_column(String(64), unique=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))
    received_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str | None]
    applied_at: Mapped[datetime | None]


class Category(Base):
    """One node of the taxonomy tree, by its full path."""

    __tablename__ = "category"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"), index=True)
    is_leaf: Mapped[bool]


class CategoryAlias(Base):
    """A rename or merge: labels said under `old_path` count as `category_id` from now on."""

    __tablename__ = "category_alias"
    id: Mapped[int] = mapped_column(primary_key=True)
    old_path: Mapped[str] = mapped_column(unique=True)
    category_id: Mapped[int] = mapped_column(ForeignKey("category.id"), index=True)
    at: Mapped[datetime]


class AddedViolation(Base):
    """A violation added to those of the settings; its head stands after theirs, in the order of `id`."""

    __tablename__ = "added_violation"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    title: Mapped[str]
    at: Mapped[datetime]


class ListingRow(Base):
    """One seller's listing. `images`: Photos as objects; `flags`: violation names; `group_given`: the catalog's own group.

    `title_start`, made by the database, is what titles are searched by.
    """

    __tablename__ = "listing"
    __table_args__ = (
        Index("ix_listing_title_start", "title_start", "id", postgresql_ops={"title_start": "text_pattern_ops"}),
        Index("ix_listing_ref_start", "ref", postgresql_ops={"ref": "text_pattern_ops"}),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    ref: Mapped[str] = mapped_column(String(200), unique=True)
    seller_ref: Mapped[str | None] = mapped_column(String(200), index=True)
    title: Mapped[str]
    description: Mapped[str]
    price: Mapped[float | None] = mapped_column(CheckConstraint("price >= 0 AND price < 1e15", name="price_range"))
    currency: Mapped[str | None] = mapped_column(String(8))
    attributes: Mapped[dict[str, Any]]
    images: Mapped[list[Any]]
    category_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"), index=True)
    flags: Mapped[list[Any]]
    content_sha256: Mapped[str] = mapped_column(String(64))
    group_key: Mapped[str] = mapped_column(String(200), index=True)
    group_given: Mapped[str | None] = mapped_column(String(200))
    listed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    title_start: Mapped[str | None] = mapped_column(Computed("lower(substr(title, 1, 64))"), deferred=True)


class AnnotationRow(Base):
    """Append-only: every state of every annotation that was ever seen, for one question."""

    __tablename__ = "annotation"
    __table_args__ = (
        UniqueConstraint("source", "source_id", "question", "revision"),
        Index("ix_annotation_votes", "question", "listing_ref", "outcome", "annotator", **CURRENT),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    source_id: Mapped[str] = mapped_column(String(80))
    revision: Mapped[str] = mapped_column(String(80))
    question: Mapped[str] = mapped_column(String(16))
    task_id: Mapped[str] = mapped_column(String(80), index=True)
    listing_ref: Mapped[str | None] = mapped_column(String(200), index=True)
    outcome: Mapped[str] = mapped_column(String(16))
    value: Mapped[str | None]
    raw_value: Mapped[str | None]
    annotator: Mapped[str] = mapped_column(String(80))
    origin: Mapped[str] = mapped_column(String(24))
    lead_time_s: Mapped[float | None]
    ground_truth: Mapped[bool]
    note: Mapped[str]
    updated_by: Mapped[str | None] = mapped_column(String(80))
    parent_prediction: Mapped[str | None] = mapped_column(String(80))
    at: Mapped[datetime]
    is_current: Mapped[bool]
    seen_at: Mapped[datetime]
    via: Mapped[str] = mapped_column(String(16))


class Tombstone(Base):
    """An annotation that was deleted in Label Studio; no state of it counts, early or late."""

    __tablename__ = "tombstone"
    __table_args__ = (UniqueConstraint("source", "source_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    source_id: Mapped[str] = mapped_column(String(80))
    at: Mapped[datetime]
    via: Mapped[str] = mapped_column(String(16))


class TaskRow(Base):
    """Which Label Studio task shows which listing."""

    __tablename__ = "task"
    __table_args__ = (UniqueConstraint("source", "task_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    task_id: Mapped[str] = mapped_column(String(80))
    listing_ref: Mapped[str] = mapped_column(String(200), index=True)
    is_deleted: Mapped[bool]
    created_at: Mapped[datetime]


class LabelRow(Base):
    """The current label of one listing for one question; derived, can be rebuilt."""

    __tablename__ = "label"
    __table_args__ = (
        UniqueConstraint("listing_id", "question"),
        Index("ix_label_question_source", "question", "source"),
        Index("ix_label_question_source_value", "question", "source", "value", "listing_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    listing_id: Mapped[int] = mapped_column(ForeignKey("listing.id"))
    question: Mapped[str] = mapped_column(String(16))
    value: Mapped[str]
    source: Mapped[str] = mapped_column(String(16))
    confidence: Mapped[float | None]
    evidence: Mapped[dict[str, Any]]
    changed_at: Mapped[datetime]


class LabelHistory(Base):
    """Every change of a label, with what it was and on whose word it changed. It outlives a listing that is erased."""

    __tablename__ = "label_history"
    id: Mapped[int] = mapped_column(primary_key=True)
    listing_id: Mapped[int] = mapped_column(index=True)
    question: Mapped[str] = mapped_column(String(16))
    old_value: Mapped[str | None]
    old_source: Mapped[str | None] = mapped_column(String(16))
    value: Mapped[str | None]
    source: Mapped[str | None] = mapped_column(String(16))
    confidence: Mapped[float | None]
    evidence: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(index=True)


class ReviewItem(Base):
    """A question to moderators. `state`: waiting, pushed, tie, decided, withdrawn."""

    __tablename__ = "review_item"
    __table_args__ = (
        UniqueConstraint("listing_id", "question"),
        Index("ix_review_item_question_state", "question", "state", "created_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    listing_id: Mapped[int] = mapped_column(ForeignKey("listing.id"))
    question: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), index=True)
    reasons: Mapped[list[Any]]
    priority: Mapped[float]
    suggestion: Mapped[str | None]
    suggestion_score: Mapped[float | None]
    batch: Mapped[str] = mapped_column(String(24))
    n_wanted: Mapped[int]
    created_at: Mapped[datetime]
    pushed_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]


class SuspectRow(Base):
    """The newest ranking of doubted labels; replaced whole by each run, for one question."""

    __tablename__ = "suspect"
    __table_args__ = (
        UniqueConstraint("listing_id", "question"),
        Index("ix_suspect_question_rank", "question", "rank"),
        Index("ix_suspect_doubted", "question", "is_issue", "rank"),
        Index("ix_suspect_doubted_given", "question", "is_issue", "given", "rank"),
        Index("ix_suspect_doubted_suggested", "question", "is_issue", "suggested", "rank"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    listing_id: Mapped[int] = mapped_column(ForeignKey("listing.id"))
    question: Mapped[str] = mapped_column(String(16))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), index=True)
    rank: Mapped[int]
    given: Mapped[str | None]
    suggested: Mapped[str]
    suggested_score: Mapped[float]
    score: Mapped[float]
    is_issue: Mapped[bool]
    reasons: Mapped[list[Any]]


class JobRow(Base):
    """Work still to be done. `state`: todo, doing, done, dead. `attempt` is the fence."""

    __tablename__ = "job"
    __table_args__ = (
        Index("uq_job_pending_key", "dedupe_key", unique=True, **_only("state IN ('todo', 'doing')")),
        Index("ix_job_state_priority_id", "state", "priority", "id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    dedupe_key: Mapped[str] = mapped_column(String(200))
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(8))
    priority: Mapped[int]
    run_after: Mapped[datetime]
    attempt: Mapped[int]
    max_attempts: Mapped[int]
    worker: Mapped[str | None] = mapped_column(String(120))
    lease_until: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class SnapshotRow(Base):
    """One frozen state of all labels, named by the sha256 of its manifest."""

    __tablename__ = "snapshot"
    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    summary: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class RunRow(Base):
    """One training run. `state`: running, promoted, refused, failed, finished."""

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshot.id"), index=True)
    trigger: Mapped[str]
    config: Mapped[dict[str, Any]]
    report: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    device: Mapped[str] = mapped_column(String(80))
    n_seconds: Mapped[float | None]
    n_corrections: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class ModelVersion(Base):
    """A trained, exported model: two files named by sha256, and its report."""

    __tablename__ = "model_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), index=True)
    onnx_sha256: Mapped[str] = mapped_column(String(64))
    sidecar_sha256: Mapped[str] = mapped_column(String(64))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Release(Base):
    """Append-only: the live model is that of the last row. `action`: promote, rollback."""

    __tablename__ = "release"
    id: Mapped[int] = mapped_column(primary_key=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"), index=True)
    action: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]
    by: Mapped[str] = mapped_column(String(120))
    at: Mapped[datetime]


class State(Base):
    """Small named facts: cursors, ids given by Label Studio, the last estimate of something."""

    __tablename__ = "state"
    key: Mapped[str] = mapped_column(String(120), primary_key=True)
    value: Mapped[dict[str, Any]]
    at: Mapped[datetime]
