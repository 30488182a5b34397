"""What the API takes and gives, as pydantic models: the contract that the OpenAPI document shows."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

MAX_LIMIT = 1000
MAX_REFS = 100
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Ref = Annotated[str, Field(min_length=1, max_length=200)]


class Given(BaseModel):
    """What a caller sends: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """What a caller gets. New keys may be added within /api/v1; none goes away."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class FieldError(Answer):
    """One part of a request that is wrong."""

    field: str
    problem: str


class Error(Answer):
    """Every answer that is no success."""

    error: str
    request_id: str = Field(description="under this id the log says more")
    fields: list[FieldError] | None = None


class Page(Given):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=MAX_LIMIT, description="at most so many items")
    cursor: str | None = Field(None, description="`next` of the page before; leave it out for the first page")


Question = Literal["category", "violation"]


# Score a listing


class GivenPhoto(Given):
    """A photo: its bytes (JPEG, PNG or WebP) in base64, or the sha256 of one that is stored here."""

    base64: str | None = None
    sha256: Sha256 | None = None


class ScoreRequest(Given):
    """A listing, whether or not it is stored here."""

    title: str
    description: str = ""
    price: StrictFloat | StrictInt | StrictStr | None = None
    currency: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)
    photos: list[GivenPhoto] = Field(default_factory=list, max_length=24)
    top: int = Field(5, ge=1, le=100, description="how many categories to name")


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


# Listings, labels, suspects


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


class LabelsQuery(Given):
    """Which listings' labels."""

    ref: tuple[Ref, ...] = Field(min_length=1, max_length=MAX_REFS, description="once for each listing")


class ListingLabels(Answer):
    """The labels of one listing."""

    ref: str
    labels: list[Label]


class LabelsAnswer(Answer):
    """Labels of the listings that were asked for; a ref that is not here is missing."""

    items: list[ListingLabels]


class ChangesQuery(Page):
    """Which changes of labels."""

    question: Question | None = None


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


class SuspectsQuery(Page):
    """Which suspects."""

    question: Question = "category"


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


# Reports


class GivenReport(Given):
    """Somebody says that a listing breaks the rules."""

    ref: str = Field(description="the listing; it may come later")
    reason: str = Field(description="a violation of the policy, or other")
    words: str = ""
    reporter: str | None = Field(None, description="who, as an id that stays the same; up to 200 characters")
    at: str | None = Field(None, description="when, if it is not now: ISO 8601", max_length=100)


class ReportsRequest(Given):
    """Reports; saying the same again changes nothing."""

    reports: list[GivenReport] = Field(min_length=1, max_length=MAX_LIMIT)


class ReportsAdded(Answer):
    """What became of them."""

    n_new: int
    n_known: int = Field(description="were here already")
    n_waiting: int = Field(description="new ones of listings that are not here yet")
    n_flagged: int = Field(description="flags that nobody had raised before")


class ReportsQuery(Page):
    """Which reports."""

    ref: Ref | None = None
    reason: str | None = Field(None, max_length=200)


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


# Runs, releases, exports, review


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


class ReleaseRequest(Given):
    """Make another model live."""

    action: Literal["promote", "rollback"]
    model: str | None = Field(None, max_length=80, description="to promote; a rollback goes to the one before")
    expected_live: str | None = Field(max_length=80, description="the model that you think is live; null: none. If not: 409")
    reason: str = Field(min_length=1, max_length=500)


class ReleaseDone(Answer):
    """What is live now."""

    live: str


class ExportAnswer(Answer):
    """A dataset for download."""

    id: int
    format: str
    state: Literal["making", "ready", "failed"]
    by: str
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    manifest: dict[str, Any]


class ExportsAnswer(Answer):
    """Exports, newest first."""

    items: list[ExportAnswer]
    next: str | None


class ExportRequest(Given):
    """A dataset to be made."""

    format: str = Field("parquet", max_length=20, description="parquet, jsonl, csv or hf")


class ExportAsked(Answer):
    """It will be made by a worker; the same format waits once."""

    job_id: int
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
