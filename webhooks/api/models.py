"""What the API takes, as pydantic models: queries and bodies, and the shape of every refusal."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

MAX_LIMIT = 1000
MAX_REFS = 100
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
NO_NUL = r"^[^\x00]*$"
Ref = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]


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


class LabelsQuery(Given):
    """Which listings' labels."""

    ref: tuple[Ref, ...] = Field(min_length=1, max_length=MAX_REFS, description="once for each listing")


class SuspectsQuery(Page):
    """Which suspects."""

    question: Question = "category"


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


class ReportsQuery(Page):
    """Which reports."""

    ref: Ref | None = None
    reason: str | None = Field(None, max_length=200, pattern=NO_NUL)


class ReleaseRequest(Given):
    """Make another model live."""

    action: Literal["promote", "rollback"]
    model: str | None = Field(None, max_length=80, description="to promote; a rollback goes to the one before")
    expected_live: str | None = Field(max_length=80, description="the model that you think is live; null: none. If not: 409")
    reason: str = Field(min_length=1, max_length=500)


class ExportRequest(Given):
    """A dataset to be made."""

    format: str = Field("parquet", max_length=20, description="parquet, jsonl, csv or hf")
