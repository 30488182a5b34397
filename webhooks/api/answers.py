"""What the API gives, as pydantic models: the contract that the OpenAPI document shows."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from webhooks.api.models import Answer, Question


class ScoredCategory(Answer):
    """A category and how likely it is."""

    category: str
    probability: float = Field(ge=0, le=1)


class ScoredViolation(Answer):
    """A violation, how likely it is, and whether it is flagged."""

    violation: str
    probability: float = Field(ge=0, le=1)
    threshold: float | None = Field(description="flagged from this probability on; null: nothing was certified, never flagged")
    flagged: bool


class ScoreAnswer(Answer):
    """What the live model says."""

    model: str
    category: str
    categories: list[ScoredCategory] = Field(description="the likeliest first")
    violations: list[ScoredViolation] = Field(description="the likeliest first")


class StoredPhoto(Answer):
    """A stored photo; it is served at /media/<sha256>.jpg."""

    sha256: str
    width_px: int
    height_px: int


class Label(Answer):
    """The label in force for one question."""

    question: Question
    value: str = Field(description="a category's path; or violations joined by | in sorted order, or none")
    source: Literal["seller", "report", "refurbished", "moderators"]
    confidence: float | None
    changed_at: datetime


class ListingAnswer(Answer):
    """A stored listing with its labels."""

    ref: str
    seller_ref: str | None
    title: str
    description: str
    price: float | None
    currency: str | None
    attributes: dict[str, Any]
    photos: list[StoredPhoto]
    category: str | None = Field(description="as the seller chose")
    flags: list[str] = Field(description="violations that were reported")
    listed_at: datetime | None
    labels: list[Label]


class ListingLabels(Answer):
    """The labels of one listing."""

    ref: str
    labels: list[Label]


class LabelsAnswer(Answer):
    """Labels of the listings that were asked for; a ref that is not here is missing."""

    items: list[ListingLabels]


class Change(Answer):
    """One change of a label. `old_value` is null at its birth, `value` at its withdrawal."""

    ref: str
    question: Question
    at: datetime
    old_value: str | None
    old_source: str | None
    value: str | None
    source: str | None
    confidence: float | None


class ChangesAnswer(Answer):
    """Changes, oldest first. Keep `next` and ask again later: it is there even where nothing follows yet."""

    items: list[Change]
    next: str | None


class ReasonAnswer(Answer):
    """Why, in words."""

    code: str
    score: float
    words: str


class SuspectAnswer(Answer):
    """A listing whose label is doubted."""

    rank: int
    ref: str
    given: str | None
    suggested: str
    suggested_score: float
    score: float = Field(description="label quality in [0, 1]; 1 = certainly right")
    is_issue: bool
    reasons: list[ReasonAnswer]


class SuspectsAnswer(Answer):
    """Suspects, most doubtful first. A new run replaces the ranking."""

    items: list[SuspectAnswer]
    next: str | None


class ReportsAdded(Answer):
    """What became of them."""

    n_new: int
    n_known: int = Field(description="were here already")
    n_waiting: int = Field(description="new ones of listings that are not here yet")
    n_flagged: int = Field(description="flags that nobody had raised before")


class ReportAnswer(Answer):
    """A report, and what moderators decided."""

    ref: str
    reason: str
    words: str
    reporter: str | None
    via: str
    at: datetime
    outcome: Literal["right", "wrong", "open", "unknown listing"]


class ReportsAnswer(Answer):
    """Reports, newest first."""

    items: list[ReportAnswer]
    next: str | None


class RunAnswer(Answer):
    """A training run."""

    id: int
    kind: str
    trigger: str
    state: Literal["running", "promoted", "refused", "failed", "finished"]
    device: str
    n_corrections: int
    n_seconds: float | None
    gate: str | None = Field(description="what the gate said, in words")
    started_at: datetime
    finished_at: datetime | None


class RunsAnswer(Answer):
    """Runs, newest first."""

    items: list[RunAnswer]
    next: str | None


class ReleaseAnswer(Answer):
    """One row of the release log; the newest row's model is live."""

    id: int
    model: str
    action: Literal["promote", "rollback"]
    reason: str
    by: str
    at: datetime


class ReleasesAnswer(Answer):
    """The release log, newest first."""

    live: str | None
    items: list[ReleaseAnswer]
    next: str | None


class ReleaseDone(Answer):
    """What is live now."""

    live: str


class FileAnswer(Answer):
    """One file of an export; download it at /exports/ID/files/PATH."""

    path: str
    sha256: str
    n_bytes: int


class ExportAnswer(Answer):
    """A dataset for download."""

    id: int
    format: str
    state: Literal["making", "ready", "failed", "deleted"]
    by: str
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    snapshot_sha256: str | None
    n_listings: int | None
    files: list[FileAnswer]
    since: int | None = Field(description="the export that `changes` are counted against")
    changes: dict[str, int] = Field(description="listings added, relabelled, removed since then")


class ExportsAnswer(Answer):
    """Exports, newest first."""

    items: list[ExportAnswer]
    next: str | None


class ExportAsked(Answer):
    """It will be made by a worker; the same format waits once."""

    id: int
    is_new: bool


class ReviewAnswer(Answer):
    """How many questions are in which state."""

    questions: dict[str, dict[str, int]] = Field(description="by question and state")
    oldest_open_at: datetime | None


class StatusAnswer(Answer):
    """Where the loop stands, as `refurbish status --json`."""

    model_config = ConfigDict(extra="allow")

    listings: int
    labels: dict[str, dict[str, int]]
    review: dict[str, int]
    inbox: dict[str, int]
    jobs: dict[str, int]
    live_model: dict[str, Any] | None
    last_run: dict[str, Any] | None
    next_retrain: str
    retrain_due: bool
    label_noise: dict[str, Any]
    drift: dict[str, Any] | None
