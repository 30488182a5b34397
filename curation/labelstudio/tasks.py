"""Review items as Label Studio tasks: what the page shows, and the suggestion it is prefilled with."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from curation.labelstudio.client import Client, task_filter
from curation.labelstudio.labelconfig import ANCHOR
from curation.labelstudio.payloads import LISTING_KEY
from curation.types import NO_VIOLATION, PATH_SEPARATOR, Listing, Question, Reason, split_violations

if TYPE_CHECKING:
    from curation.review.queue import Task
    from curation.review.suggestions import Suggestion

MAX_TEXT = 10_000
"""Characters of one text on the page; a 1 MB title would be sent along with every webhook."""

MAX_PHOTOS = 8
LOOKUP_SIZE = 100
"""Refs in one look-up: they travel in the address, which servers bound at 8 KB."""

BLIND_REASON = "A routine check of this listing."
BLIND_SUGGESTION = "Hidden on purpose: your own judgement is wanted here."
NO_SUGGESTION = "No suggestion yet."
NO_PHOTO = (
    "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' width='480' height='320'>"
    "<rect width='480' height='320' fill='%23e9e9ee'/><text x='240' y='165' font-family='sans-serif' font-size='20' "
    "text-anchor='middle' fill='%23777'>No photo</text></svg>"
)


def as_task(task: "Task", service_url: str) -> dict[str, Any]:
    """The task as it is imported: data, and a prediction unless the question is asked blind."""
    made: dict[str, Any] = {"data": data(task, service_url)}
    if task.suggestion is not None and not task.is_blind:
        made["predictions"] = [prediction(task.suggestion)]
    return made


def data(task: "Task", service_url: str) -> dict[str, Any]:
    """Everything the page shows. No value is null: Label Studio refuses that."""
    listing = task.listing
    return {
        LISTING_KEY: listing.ref,
        "images": photo_urls(listing, service_url),
        "title": _cut(listing.title) or "(no title)",
        "price_text": _price(listing),
        "description": _cut(listing.description) or "(no description)",
        "seller_category": listing.category or "(no category)",
        "reason": BLIND_REASON if task.is_blind else _reasons(task.reasons),
        "suggestion_text": BLIND_SUGGESTION if task.is_blind else suggestion_text(task.suggestion),
        "priority": round(float(task.priority), 6),
    }


def photo_urls(listing: Listing, service_url: str) -> list[str]:
    """Addresses of the photos as our service gives them out; a drawn sign if there are none."""
    return [f"{service_url}/media/{photo.sha256}.jpg" for photo in listing.photos[:MAX_PHOTOS]] or [NO_PHOTO]


def suggestion_text(suggestion: "Suggestion | None") -> str:
    """The model's suggestion in words."""
    if suggestion is None:
        return NO_SUGGESTION
    lines = []
    if suggestion.category is not None:
        lines.append(f"{suggestion.category}{_share(suggestion.category_score)}")
    if suggestion.violation is not None:
        names = ", ".join(name.replace("_", " ") for name in split_violations(suggestion.violation)) or "none"
        lines.append(f"Violation: {names}{_share(suggestion.violation_score)}")
    return "\n".join(lines) or NO_SUGGESTION


def prediction(suggestion: "Suggestion") -> dict[str, Any]:
    """The suggestion as Label Studio prefills it; `score` in [0, 1]."""
    result = []
    if suggestion.category is not None:
        path = suggestion.category.split(PATH_SEPARATOR)
        result.append(_item(Question.CATEGORY, "taxonomy", {"taxonomy": [path]}))
    if suggestion.violation is not None:
        names = list(split_violations(suggestion.violation)) or [NO_VIOLATION]
        result.append(_item(Question.VIOLATION, "choices", {"choices": names}))
    score = suggestion.category_score if suggestion.category_score is not None else suggestion.violation_score
    return {"model_version": suggestion.model_version, "score": float(score or 0.0), "result": result}


def find(client: Client, project_id: int, refs: Sequence[str]) -> dict[str, str]:
    """Which of the listings already have a task: ref → task id, the oldest one."""
    found: dict[str, str] = {}
    for part in _parts(refs, LOOKUP_SIZE):
        condition = task_filter(f"data.{LISTING_KEY}", "in_list", "List", list(part))
        rows = client.tasks(project_id, [condition], "id", page_size=1000, include="id,data")
        for row in rows:
            found.setdefault(str(row["data"][LISTING_KEY]), str(row["id"]))
    return found


def n_annotations(client: Client, project_id: int, task_ids: Sequence[str]) -> dict[str, int]:
    """How many answers each task has; a task that is gone is missing."""
    rows = _fields(client, project_id, task_ids, "total_annotations")
    return {task_id: int(value) for task_id, value in rows.items()}


def shown_data(client: Client, project_id: int, task_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What each task shows now; a task that is gone is missing."""
    return _fields(client, project_id, task_ids, "data")


def _fields(client: Client, project_id: int, task_ids: Sequence[str], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in _parts(task_ids, LOOKUP_SIZE):
        condition = task_filter("id", "in_list", "List", [int(task_id) for task_id in part])
        rows = client.tasks(project_id, [condition], "id", page_size=LOOKUP_SIZE, include=f"id,{name}")
        found.update((str(row["id"]), row[name]) for row in rows)
    return found


def _item(question: Question, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"rf-{question.value}", "from_name": question.value, "to_name": ANCHOR, "type": kind, "value": value}


def _reasons(reasons: Sequence[Reason]) -> str:
    words = [reason.words for reason in sorted(reasons, key=lambda reason: -reason.score)]
    return _cut("\n".join(dict.fromkeys(words))) or BLIND_REASON


def _price(listing: Listing) -> str:
    if listing.price is None:
        return "No price"
    return f"{listing.price:,.2f} {listing.currency or ''}".strip()


def _share(score: float | None) -> str:
    return "" if score is None else f" ({score:.0%})"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _parts(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
