"""Label Studio's webhook bodies and tasks as events. Pure: bytes or JSON in, events out.

A body says what changed with an `action`; every kind that Community 1.23 sends is read here, the
rest is ignored by name. A skip is recognised before its `result` is looked at, because the
editor sends the model's prefilled guess along with it.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curation.errors import PayloadError, shorten
from curation.labelstudio import answers, strictjson
from curation.labelstudio.answers import Answer, Vocabulary
from curation.labelstudio.labelconfig import NOTE
from curation.types import NOBODY, AnnotationsDeleted, Event, LabelEvent, Outcome, Question, TasksDeleted, TaskSeen

ANNOTATED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED")
ACTIONS = (*ANNOTATED, "ANNOTATIONS_DELETED", "TASKS_CREATED", "TASKS_DELETED", "PROJECT_UPDATED")
"""What our webhook subscribes to, in full: an update without the list would empty it."""

MAX_ID_CHARACTERS = 80
NUMBER = re.compile("[0-9]{1,18}")
"""Ids of tasks, annotations and projects. Label Studio is asked about them again, and knows no other."""

MAX_REF_CHARACTERS = 200
MAX_SECONDS = 1e9
"""Longest time that anybody worked on an answer: thirty years."""

MAX_NOTE_CHARACTERS = 10_000
LISTING_KEY = "listing_id"
"""Where a task's data holds our listing ref."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A body as events. None of them: `note` says why it changes nothing."""

    action: str
    events: tuple[Event, ...] = ()
    note: str = ""
    wants_reconcile: bool = False  #: something changed, but the body does not say what


def source_of(project_id: object) -> str:
    """The name of a project as a source of events."""
    return f"labelstudio:{project_id}"


def parse(body: bytes, source_default: str, known_categories: Collection[str], violations: Collection[str]) -> Parsed:
    """The body's events. `source_default` stands in where the body names no project.

    Raises PayloadError naming what is wrong: not strict JSON, or a field that must be there is not.
    """
    document = strictjson.loads(body)
    if not isinstance(document, dict):
        raise PayloadError(f"body is a JSON {type(document).__name__}, not an object: {shorten(document)}")
    action = document.get("action")
    if not isinstance(action, str) or not action:
        raise PayloadError(f"body names no action: {shorten(document)}")
    action = answers.storable(action, "action")[:MAX_ID_CHARACTERS]
    try:
        return _parsed(action, document, source_default, Vocabulary(frozenset(known_categories), frozenset(violations)))
    except RecursionError:
        raise PayloadError(f"{action}: body is nested too deeply") from None


def _parsed(action: str, document: Mapping[str, Any], source_default: str, vocabulary: Vocabulary) -> Parsed:
    if action not in ACTIONS:
        return Parsed(action, note=f"unknown action {shorten(action)}")
    if action == "PROJECT_UPDATED":
        return Parsed(action, note="project settings changed; `refurbish labelstudio doctor` says if they still fit")
    if set(document) == {"action"}:
        return Parsed(action, note="sent without payload (send_payload is off)", wants_reconcile=True)
    project = document.get("project")
    project_id = project.get("id") if isinstance(project, dict) else None
    source = source_default if project_id is None else source_of(_identity(project_id, "project.id"))
    return Parsed(action, tuple(_events(action, document, source, vocabulary)))


def _events(action: str, document: Mapping[str, Any], source: str, vocabulary: Vocabulary) -> Iterator[Event]:
    if action == "ANNOTATIONS_DELETED":
        yield AnnotationsDeleted(source, _ids(document, "annotations"))
    elif action == "TASKS_DELETED":
        yield TasksDeleted(source, _ids(document, "tasks"))
    elif action == "TASKS_CREATED":
        yield from _tasks_seen(_objects(document, "tasks"), source)
    else:
        tasks = _objects(document, "task")
        yield from _tasks_seen(tasks, source)
        refs = {_identity(task.get("id"), "task.id"): listing_ref(task) for task in tasks}
        for annotation in _objects(document, "annotation"):
            task_id = _identity(annotation.get("task"), "annotation.task")
            yield from label_events(annotation, source, task_id, refs.get(task_id), vocabulary)


def events_of_task(task: Mapping[str, Any], source: str, vocabulary: Vocabulary) -> tuple[Event, ...]:
    """The events of a task as the API lists it, with all its annotations."""
    task_id = _identity(task.get("id"), "task.id")
    found: list[Event] = list(_tasks_seen([task], source, is_there=True))
    try:
        for annotation in _objects(task, "annotations"):
            found.extend(label_events(annotation, source, task_id, listing_ref(task), vocabulary))
    except RecursionError:
        raise PayloadError(f"task {task_id} has an annotation that is nested too deeply") from None
    return tuple(found)


def label_events(
    annotation: Mapping[str, Any], source: str, task_id: str, ref: str | None, vocabulary: Vocabulary
) -> Iterator[LabelEvent]:
    """One event for each question. A skip is a skip whatever result comes with it."""
    result = _result(annotation)
    skipped = _flag(annotation, "was_cancelled")
    note = answers.storable(answers.text_of(result, NOTE), "note")[:MAX_NOTE_CHARACTERS]
    for question in Question:
        answer = Answer(Outcome.SKIP) if skipped else answers.read(question, result, vocabulary)
        yield LabelEvent(
            source=source,
            source_id=_identity(annotation.get("id"), "annotation.id"),
            task_id=task_id,
            listing_ref=ref,
            question=question,
            outcome=answer.outcome,
            value=answer.value,
            annotator=_person(annotation.get("completed_by")) or NOBODY,
            at=_time(annotation.get("updated_at"), "annotation.updated_at"),
            state_hash=state_hash(result, skipped, _flag(annotation, "ground_truth", default=False)),
            origin=answer.origin,
            lead_time_s=_seconds(annotation.get("lead_time")),
            ground_truth=_flag(annotation, "ground_truth", default=False),
            note=note,
            updated_by=_person(annotation.get("updated_by")),
            parent_prediction=_person(annotation.get("parent_prediction")),
            raw_value=answer.raw_value,
        )


def state_hash(result: Sequence[Any], was_cancelled: bool, ground_truth: bool) -> str:
    """16 hex digits over what an annotation says; `updated_at` alone does not tell two states apart."""
    text = json.dumps([list(result), was_cancelled, ground_truth], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def listing_ref(task: Mapping[str, Any]) -> str | None:
    """Our listing's ref in a task's data, or None if the task is not one of ours."""
    data = task.get("data")
    ref = data.get(LISTING_KEY) if isinstance(data, Mapping) else None
    if isinstance(ref, bool) or not isinstance(ref, str | int) or not 0 < len(str(ref)) <= MAX_REF_CHARACTERS:
        return None
    return answers.storable(str(ref), f"task.data.{LISTING_KEY}")


def _tasks_seen(tasks: Sequence[Mapping[str, Any]], source: str, *, is_there: bool = False) -> Iterator[TaskSeen]:
    for task in tasks:
        ref = listing_ref(task)
        if ref is not None:
            yield TaskSeen(source, _identity(task.get("id"), "task.id"), ref, is_there)


def _objects(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects under `key`, which holds one or a list of them, whatever its name says."""
    found = document.get(key)
    many: list[Any] = found if isinstance(found, list) else [found]
    if any(not isinstance(item, dict) for item in many):
        raise PayloadError(f"{key} must be an object or a list of objects, got {shorten(found)}")
    return many


def _ids(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(_identity(item.get("id"), f"{key}[].id") for item in _objects(document, key))


def _identity(value: object, name: str) -> str:
    """An id as text. One that Label Studio cannot have would end every push and reconciliation that asks for it."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not NUMBER.fullmatch(str(value)):
        raise PayloadError(f"{name} must be an id of at most 18 digits, got {shorten(value)}")
    return str(value)


def _person(value: object) -> str | None:
    """An id that may be missing, or be given as an object."""
    if isinstance(value, Mapping):
        value = value.get("id")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not 0 < len(str(value)) <= MAX_ID_CHARACTERS:
        raise PayloadError(f"a person's or prediction's id must be an id, got {shorten(value)}")
    return answers.storable(str(value), "a person's or prediction's id")


def _result(annotation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    result = annotation.get("result")
    if result is None:
        return []
    if not isinstance(result, list) or any(not isinstance(item, dict) for item in result):
        raise PayloadError(f"annotation.result must be a list of objects, got {shorten(result)}")
    return result


def _flag(annotation: Mapping[str, Any], name: str, default: bool | None = None) -> bool:
    value = annotation.get(name, default)
    if not isinstance(value, bool):
        raise PayloadError(f"annotation.{name} must be true or false, got {shorten(value)}")
    return value


def _time(value: object, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise PayloadError(f"{name} must be a time with its zone, got {shorten(value)}")


def _seconds(value: object) -> float | None:
    """A duration, or None where it is missing or makes no sense."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        return None
    return float(value)
