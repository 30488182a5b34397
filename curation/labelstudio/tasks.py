"""Review items as Label Studio tasks: what the page shows, and the suggestion it is prefilled with."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from curation.labelstudio.client import Client, task_filter
from curation.labelstudio.labelconfig import ANCHOR
from curation.labelstudio.payloads import LISTING_KEY
from curation.types import NO_VIOLATION, PATH_SEPARATOR, Listing, Question, Reason, split_violations

if TYPE_CHECKING:
    from curation.review.neighbours import Near
    from curation.review.queue import Task
    from curation.review.suggestions import Suggestion

MAX_TEXT = 10_000
"""Characters of one text on the page; a 1 MB title would be sent along with every webhook."""

MAX_PHOTOS = 24
"""As many as a listing keeps."""

LOOKUP_SIZE = 100
"""Refs in one look-up: they travel in the address, which servers bound at 8 KB."""

BLIND_REASON = "A routine check of this listing."
BLIND_SUGGESTION = "Hidden on purpose: your own judgement is wanted here."
NO_SUGGESTION = "No suggestion yet."
SURE = 0.99
NO_NEIGHBOURS = "No verified listing to compare with yet."
N_SHOWN = 4
"""Neighbours with pictures; more are counted in the words."""

FIRST_TOLD = ("tie", "second_opinion", "stamped", "skipped", "reported", "label_issue", "unlabelled", "views", "neighbours")
"""Codes of reasons in the order they are told in; others follow, the strongest first."""

NO_PHOTO = (
    "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' width='480' height='320'>"
    "<rect width='480' height='320' fill='%23e9e9ee'/><text x='240' y='165' font-family='sans-serif' font-size='20' "
    "text-anchor='middle' fill='%23777'>No photo</text></svg>"
)


def as_task(task: "Task", service_url: str, version: str) -> dict[str, Any]:
    """The task as it is imported: data, and a prediction, which is empty where the question is asked blind."""
    return {"data": data(task, service_url), "predictions": [predicted(task, version)]}


def predicted(task: "Task", version: str) -> dict[str, Any]:
    """What the task is prefilled with."""
    return prediction(None if task.is_blind else task.suggestion, task.priority, version)


def data(task: "Task", service_url: str) -> dict[str, Any]:
    """Everything the page shows. No value is null: Label Studio refuses that. Only `similar` is HTML, and it is ours."""
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
        "similar": similar_html((), service_url) if task.is_blind else similar_html(task.near, service_url),
        "priority": round(float(task.priority), 6),
    }


def similar_html(near: "Sequence[Near]", service_url: str) -> str:
    """The nearest verified listings as small pictures, each with the category that moderators decided.

    Nothing that a seller wrote is in it: pictures go by their sha256, and names of categories are escaped.
    """
    shown = [f"<li>{_picture(one, service_url)}<span>{escape(one.category)}</span></li>" for one in near[:N_SHOWN]]
    return f"<ul>{''.join(shown)}</ul>" if shown else f"<p>{NO_NEIGHBOURS}</p>"


def _picture(one: "Near", service_url: str) -> str:
    if one.photo_sha256 is None:
        return "<b>No photo</b>"
    return f'<img src="{escape(service_url)}/media/{escape(one.photo_sha256)}.jpg" alt="" loading="lazy">'


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


def prediction(suggestion: "Suggestion | None", priority: float, version: str) -> dict[str, Any]:
    """The suggestion as Label Studio prefills it; an empty one, which only gives the task its place in the queue, for None.

    `score`: Label Studio's uncertainty sampling gives out the lowest first, so it is 1 less the priority.
    """
    result = []
    if suggestion is not None and suggestion.category is not None:
        path = suggestion.category.split(PATH_SEPARATOR)
        result.append(_item(Question.CATEGORY, "taxonomy", {"taxonomy": [path]}))
    if suggestion is not None and suggestion.violation is not None:
        names = list(split_violations(suggestion.violation)) or [NO_VIOLATION]
        result.append(_item(Question.VIOLATION, "choices", {"choices": names}))
    return {"model_version": version, "score": round(1.0 - min(max(priority, 0.0), 1.0), 6), "result": result}


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


def with_version(client: Client, project_id: int, task_ids: Sequence[str], version: str) -> set[str]:
    """Which of the tasks have a prediction of this version."""
    found: set[str] = set()
    for part in _parts(task_ids, LOOKUP_SIZE):
        mine = task_filter("id", "in_list", "List", [int(task_id) for task_id in part])
        holding = task_filter("predictions_model_versions", "contains", "List", [version])
        rows = client.tasks(project_id, [mine, holding], "id", page_size=LOOKUP_SIZE, include="id")
        found.update(str(row["id"]) for row in rows)
    return found


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
    words = list(dict.fromkeys(reason.words for reason in sorted(reasons, key=_place)))
    return _cut("\n".join(f"• {one}" if words[1:] else one for one in words)) or BLIND_REASON


def _place(reason: Reason) -> tuple[int, float]:
    at = FIRST_TOLD.index(reason.code) if reason.code in FIRST_TOLD else len(FIRST_TOLD)
    return at, -reason.score


def _price(listing: Listing) -> str:
    if listing.price is None:
        return "No price"
    return f"{listing.price:,.2f} {listing.currency or ''}".strip()


def _share(score: float | None) -> str:
    """Never "100%" of what is only probable."""
    if score is None:
        return ""
    return f" (over {SURE:.0%})" if score > SURE else f" ({score:.0%})"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _parts(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
