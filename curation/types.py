"""Records and states that cross a border between rooms. Frozen, slotted, no behaviour but checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

PATH_SEPARATOR = " / "
"""Joins the names of a category path: ``"Home / Garden / Tools"``."""

VIOLATIONS = (
    "counterfeit",
    "prohibited_item",
    "unsafe_product",
    "misleading_photo",
    "off_platform_contact",
    "adult_content",
)
"""The default policy: six violation categories, in head order. A catalog may bring its own six."""

NO_VIOLATION = "none"

NOBODY = "unknown"
"""Who annotated, where Label Studio does not say so: the account was deleted."""

BLIND_BATCH = "blind"
"""`ReviewItem.batch` of a question that is asked without the model's suggestion."""

HARD_BATCH = "hard"
"""`ReviewItem.batch` of a question that several moderators skipped: it is for somebody with experience."""

OPEN = ("waiting", "pushed", "tie")
"""States of a review item that moderators have not decided."""

SMALL_IMAGE_SUFFIX = ".small.jpg"


class Question(StrEnum):
    """What is asked of every listing."""

    #: one leaf of the taxonomy, as its full path
    CATEGORY = "category"
    #: ``none`` or the policy's categories that apply, joined by ``|`` in sorted order
    VIOLATION = "violation"


class LabelSource(StrEnum):
    """Who stands behind the current value of a label; later ones win."""

    #: the category the seller picked
    SELLER = "seller"
    #: a user's report or an older rule: a given violation label
    REPORT = "report"
    #: changed by the model, held only while its evidence holds
    REFURBISHED = "refurbished"
    #: consensus of the moderators; never overwritten by a model
    MODERATORS = "moderators"


class Outcome(StrEnum):
    """What one annotation said about one question. Only LABEL is a vote."""

    #: a valid answer
    LABEL = "label"
    #: `was_cancelled`: the moderator would not decide (hard or ambiguous)
    SKIP = "skip"
    #: submitted without an answer to this question
    EMPTY = "empty"
    #: an answer that is not in the taxonomy or policy
    UNKNOWN_LABEL = "unknown_label"
    #: answers that exclude each other, such as ``none`` with ``counterfeit``
    CONTRADICTORY = "contradictory"


class Origin(StrEnum):
    """How the answer came about in Label Studio (absent on API-made annotations: UNKNOWN)."""

    MANUAL = "manual"
    PREDICTION = "prediction"
    PREDICTION_CHANGED = "prediction-changed"
    UNKNOWN = "unknown"


class Split(StrEnum):
    """Which part of a snapshot a near-duplicate group belongs to; whole groups, never rows."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class LabelEvent:
    """One state of one annotation, for one question."""

    source: str  #: which Label Studio, as ``labelstudio:<project id>``
    source_id: str  #: the annotation's id there
    task_id: str
    listing_ref: str | None  #: our listing's ref, if the payload carried the task's data
    question: Question
    outcome: Outcome
    value: str | None  #: canonical value if outcome is LABEL, else None
    annotator: str  #: stable id, ``completed_by`` there
    at: datetime  #: `updated_at` there, aware UTC
    state_hash: str  #: 16 hex digits over (result, was_cancelled, ground_truth)
    origin: Origin = Origin.UNKNOWN
    lead_time_s: float | None = None
    ground_truth: bool = False
    note: str = ""
    updated_by: str | None = None
    parent_prediction: str | None = None
    raw_value: str | None = None  #: what was said when it is not a valid label, shortened
    is_there: bool = False  #: asked and answered just now: it counts, in this task, whatever was said of it before

    @property
    def revision(self) -> str:
        """Orderable and unique per state of the annotation: timestamp, then hash."""
        return f"{self.at.astimezone(UTC).isoformat(timespec='microseconds')}#{self.state_hash}"


@dataclass(frozen=True, slots=True)
class AnnotationsDeleted:
    """Annotations that are gone in Label Studio; wins over any state of them, early or late."""

    source: str
    source_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TasksDeleted:
    """Tasks that are gone in Label Studio, and their annotations with them."""

    source: str
    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """Label Studio has this task for this listing."""

    source: str
    task_id: str
    listing_ref: str
    is_there: bool = False  #: asked and answered just now: a deleted task's id was given out anew (on SQLite it is)


Event = LabelEvent | AnnotationsDeleted | TasksDeleted | TaskSeen


@dataclass(frozen=True, slots=True)
class Photo:
    """One stored thumbnail of a listing."""

    sha256: str
    width_px: int
    height_px: int
    dhash: str  #: 16 hex digits, 64-bit difference hash


@dataclass(frozen=True, slots=True)
class Listing:
    """A seller's listing as the rooms above the store see it."""

    id: int
    ref: str
    seller_ref: str | None
    title: str
    description: str
    price: float | None  #: finite, >= 0
    currency: str | None
    attributes: Mapping[str, Any]
    photos: tuple[Photo, ...]
    category: str | None  #: the seller's category as a full path
    flags: tuple[str, ...]  #: violation categories that users or old rules reported
    group_key: str  #: near-duplicates share it
    listed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's current answer to one question about one listing."""

    annotator: str
    value: str
    at: datetime
    origin: Origin = Origin.UNKNOWN
    lead_time_s: float | None = None
    ground_truth: bool = False
    annotation_id: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a listing is asked about, in words a moderator reads."""

    code: str  #: e.g. ``label_issue``, ``reported``, ``model_violation``, ``audit``, ``tie``
    score: float  #: in [0, 1], 1 = strongest
    words: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """One listing whose current label is doubted for one question."""

    listing_ref: str
    question: Question
    given: str | None
    suggested: str
    score: float  #: label quality in [0, 1], 1 = certainly right (cleanlab's convention)
    is_issue: bool
    suggested_score: float = 0.0  #: the model's out-of-sample probability of `suggested`
    reasons: tuple[Reason, ...] = field(default=())


def is_nested_beyond(value: object, levels: int) -> bool:
    """Whether lists and objects stand in one another more than `levels` deep, in what was read from JSON.

    A parser takes about as many levels as Python has stack left; what works on its result has less.
    """
    row: list[object] = [value]
    for _ in range(levels):
        row = [below for one in row if isinstance(one, dict | list) for below in (one.values() if isinstance(one, dict) else one)]
    return any(isinstance(one, dict | list) for one in row)


def split_violations(value: str) -> tuple[str, ...]:
    """``"none"`` → (), ``"a|b"`` → ("a", "b")."""
    return () if value == NO_VIOLATION else tuple(value.split("|"))


def join_violations(names: tuple[str, ...] | list[str] | set[str]) -> str:
    """Canonical value of a violation answer: sorted, joined by ``|``; nothing = ``"none"``."""
    return "|".join(sorted(set(names))) or NO_VIOLATION
