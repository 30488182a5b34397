"""Bodies of every kind that Label Studio sends, read from fixtures shaped like real ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import PayloadError
from curation.labelstudio import payloads
from curation.labelstudio.answers import Vocabulary
from curation.types import AnnotationsDeleted, LabelEvent, Origin, Outcome, Question, TasksDeleted, TaskSeen

CORPUS = Path(__file__).parent.parent / "corpus" / "labelstudio"
CATEGORIES = frozenset({"Home / Tools", "Home / Decor"})
VIOLATIONS = ("counterfeit", "unsafe_product")
SOURCE = "labelstudio:7"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CORPUS / f"{name}.json").read_text())
    return found


def parse(name: str) -> payloads.Parsed:
    return payloads.parse((CORPUS / f"{name}.json").read_bytes(), "labelstudio:unknown", CATEGORIES, VIOLATIONS)


def altered(name: str, **changes: Any) -> bytes:
    """The fixture with fields of its annotation changed; a value of `...` removes the field."""
    body = load(name)
    for key, value in changes.items():
        body["annotation"][key] = value
        if value is ...:
            del body["annotation"][key]
    return json.dumps(body).encode()


def parse_bytes(body: bytes) -> payloads.Parsed:
    return payloads.parse(body, "labelstudio:unknown", CATEGORIES, VIOLATIONS)


def labels(parsed: payloads.Parsed) -> dict[Question, LabelEvent]:
    """The events of a body with one annotation, by question."""
    return {event.question: event for event in parsed.events if isinstance(event, LabelEvent)}


def test_submit_gives_one_event_for_each_question() -> None:
    """A submitted page answers both questions; the policy's names are joined in sorted order."""
    found = labels(parse("annotation_created"))
    assert {question: event.value for question, event in found.items()} == {
        Question.CATEGORY: "Home / Tools",
        Question.VIOLATION: "counterfeit|unsafe_product",
    }


def test_submit_keeps_provenance() -> None:
    """Origin of each answer, the prediction it grew from, time spent, note and who saved it are kept."""
    found = labels(parse("annotation_created"))
    event = found[Question.CATEGORY]
    assert [found[question].origin for question in Question] == [Origin.PREDICTION, Origin.PREDICTION_CHANGED]
    assert (event.source, event.source_id, event.task_id, event.listing_ref) == (SOURCE, "501", "31", "L-1001")
    assert (event.annotator, event.updated_by, event.parent_prediction) == ("3", "3", "40063")
    assert (event.lead_time_s, event.note, event.ground_truth) == (7.156, "the logo is wrong", False)
    assert event.at.isoformat() == "2026-02-28T09:15:02.149809+00:00"


def test_annotation_brings_its_task_along() -> None:
    """An annotation may arrive before the hook of its task, so its task is noted first."""
    assert parse("annotation_created").events[0] == TaskSeen(SOURCE, "31", "L-1001")


@pytest.mark.parametrize("name", ["annotation_skipped_with_prefill", "annotation_skipped_empty"])
def test_skip_is_read_before_its_result(name: str) -> None:
    """The model's prefilled guess that comes with a skip is nobody's answer (fault 17)."""
    found = labels(parse(name))
    assert [(event.outcome, event.value) for event in found.values()] == [(Outcome.SKIP, None)] * 2


@pytest.mark.parametrize(
    ("name", "category", "violation"),
    [
        ("annotation_empty_result", Outcome.EMPTY, Outcome.EMPTY),
        ("annotation_null_result", Outcome.EMPTY, Outcome.EMPTY),
        ("annotation_category_only", Outcome.LABEL, Outcome.EMPTY),
        ("annotation_unknown_label", Outcome.UNKNOWN_LABEL, Outcome.UNKNOWN_LABEL),
        ("annotation_inner_node", Outcome.UNKNOWN_LABEL, Outcome.LABEL),
        ("annotation_contradictory", Outcome.CONTRADICTORY, Outcome.CONTRADICTORY),
    ],
)
def test_each_defect_has_its_outcome(name: str, category: Outcome, violation: Outcome) -> None:
    """What is no valid answer is named as such and is never a label (fault 17)."""
    found = labels(parse(name))
    assert [found[question].outcome for question in Question] == [category, violation]
    assert all((event.value is None) == (event.outcome is not Outcome.LABEL) for event in found.values())


def test_refused_answers_are_kept_as_said() -> None:
    """What was said stays readable when it cannot be taken."""
    found = labels(parse("annotation_unknown_label"))
    assert found[Question.CATEGORY].raw_value == "[['Home', 'Spaceships']]"
    assert found[Question.VIOLATION].raw_value == "['stolen']"


def test_ancestors_of_the_leaf_are_no_contradiction() -> None:
    """A tree that reports the way to a leaf says one thing, not two."""
    item = load("annotation_created")["annotation"]["result"][0]
    item["value"]["taxonomy"] = [["Home"], ["Home", "Tools"]]
    found = labels(parse_bytes(altered("annotation_created", result=[item])))
    assert found[Question.CATEGORY].value == "Home / Tools"


def test_bulk_action_is_read_as_lists() -> None:
    """`predictions_to_annotations` sends lists under singular keys; each annotation finds its task."""
    events = [event for event in parse("annotations_created").events if isinstance(event, LabelEvent)]
    assert {(event.source_id, event.listing_ref) for event in events} == {("511", "L-1001"), ("512", "L-1002")}
    assert {(event.origin, event.parent_prediction is None, event.lead_time_s) for event in events} == {
        (Origin.UNKNOWN, False, None)
    }


def test_deletions_carry_ids_only() -> None:
    """Deletions name no task, no listing and no cascade; that is ours to know."""
    assert parse("annotations_deleted").events == (AnnotationsDeleted(SOURCE, ("501", "512")),)
    assert parse("tasks_deleted").events == (TasksDeleted(SOURCE, ("31", "32")),)


def test_tasks_without_a_listing_of_ours_are_left_alone() -> None:
    """A number is a ref too; a task that was uploaded by hand has none."""
    assert parse("tasks_created").events == (TaskSeen(SOURCE, "31", "L-1001"), TaskSeen(SOURCE, "32", "1002"))


@pytest.mark.parametrize(
    ("name", "note"), [("project_updated", "project settings changed"), ("label_link_created", "unknown action")]
)
def test_other_actions_change_nothing(name: str, note: str) -> None:
    """Known but irrelevant, or unknown: no events, and the note says why (fault 16)."""
    found = parse(name)
    assert (found.events, found.wants_reconcile) == ((), False)
    assert note in found.note


def test_body_without_payload_asks_for_reconciliation() -> None:
    """With send_payload off only the action is sent: something changed, so go and look."""
    assert parse("without_payload").wants_reconcile


def test_source_default_stands_in_for_a_missing_project() -> None:
    """Events are told apart by project even where the body names none."""
    body = json.dumps({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]}).encode()
    assert parse_bytes(body).events == (AnnotationsDeleted("labelstudio:unknown", ("1",)),)


def test_ground_truth_under_the_same_time_is_another_state() -> None:
    """The star can flip without `updated_at` moving: the revision tells the states apart (fault 17)."""
    plain, starred = parse("annotation_updated"), parse("annotation_ground_truth")
    before, after = labels(plain)[Question.CATEGORY], labels(starred)[Question.CATEGORY]
    assert before.at == after.at
    assert before.revision != after.revision


def test_no_op_update_keeps_its_hash() -> None:
    """An empty PATCH moves `updated_at` but says nothing new."""
    before, after = labels(parse("annotation_updated")), labels(parse("annotation_updated_noop"))
    assert before[Question.CATEGORY].state_hash == after[Question.CATEGORY].state_hash


def test_webhook_and_api_tell_one_state_alike() -> None:
    """Reconciliation must recognise what a webhook has already brought."""
    task = load("api_task")
    hook = load("annotation_created") | {"annotation": {**task["annotations"][0], "unique_id": "x"}}
    from_hook = labels(parse_bytes(json.dumps(hook).encode()))
    from_api = payloads.events_of_task(task, SOURCE, Vocabulary(CATEGORIES, VIOLATIONS))
    assert {e.revision for e in from_hook.values()} == {e.revision for e in from_api[1:3] if isinstance(e, LabelEvent)}


def test_api_task_lists_skips_and_people_as_objects() -> None:
    """A listed task holds its skipped annotations; a person may be an object there."""
    events = payloads.events_of_task(load("api_task"), SOURCE, Vocabulary(CATEGORIES, VIOLATIONS))
    said = [(e.source_id, e.annotator, e.outcome) for e in events if isinstance(e, LabelEvent)]
    assert said[1:3] == [("501", "3", Outcome.LABEL), ("503", "4", Outcome.SKIP)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ...}, "annotation.id must be an id of at most 18 digits, got None"),
        ({"id": True}, "annotation.id must be an id of at most 18 digits, got True"),
        ({"id": "x" * 81}, "annotation.id must be an id of at most 18 digits, got 'xxx"),
        ({"id": "../../users/7"}, "annotation.id must be an id of at most 18 digits, got '../../users/7'"),
        ({"task": "seven"}, "annotation.task must be an id of at most 18 digits, got 'seven'"),
        ({"task": 10**18}, "annotation.task must be an id of at most 18 digits, got 1000000000000000000"),
        ({"task": None}, "annotation.task must be an id of at most 18 digits, got None"),
        ({"was_cancelled": ...}, "annotation.was_cancelled must be true or false, got None"),
        ({"was_cancelled": "no"}, "annotation.was_cancelled must be true or false, got 'no'"),
        ({"updated_at": "2026-02-28T09:15:02"}, "annotation.updated_at must be a time with its zone"),
        ({"updated_at": "0001-01-01T00:00:00+14:00"}, "annotation.updated_at must be a time with its zone"),
        ({"updated_at": 1795194462.2}, "annotation.updated_at must be a time with its zone, got 1795194462.2"),
        ({"result": {"choices": ["none"]}}, "annotation.result must be a list of objects"),
        ({"result": ["none"]}, "annotation.result must be a list of objects"),
        ({"completed_by": "a\x00b"}, "holds a NUL character"),
    ],
)
def test_missing_or_wrong_fields_are_named(changes: dict[str, Any], message: str) -> None:
    """A body that lacks what it must have is refused, with the field's name and value (fault 16)."""
    with pytest.raises(PayloadError, match=message.replace("(", r"\(")):
        parse_bytes(altered("annotation_created", **changes))


@pytest.mark.parametrize("lead_time", [None, -1, True, "7", 1e308 * 10])
def test_senseless_durations_are_unknown(lead_time: object) -> None:
    """A negative or unreadable lead time is no evidence of anything."""
    body = altered("annotation_created", lead_time=None if lead_time == float("inf") else lead_time)
    assert labels(parse_bytes(body))[Question.CATEGORY].lead_time_s is None


def test_note_with_a_lone_surrogate_is_refused() -> None:
    """No database could hold it, so the body is quarantined instead of failing for ever."""
    note = {"from_name": "note", "to_name": "title", "type": "textarea", "value": {"text": ["\ud800"]}}
    with pytest.raises(PayloadError, match="note holds a NUL character or a lone surrogate"):
        parse_bytes(altered("annotation_created", result=[note]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body is not JSON: Expecting value at character 0"),
        (b"\xef\xbb\xbf{}", "body is not JSON: Unexpected UTF-8 BOM"),
        ('{"action": "X"}'.encode("utf-16"), "body is not UTF-8"),
        (b'{"action": "\xff"}', "body is not UTF-8: invalid start byte at byte 12"),
        (b'{"action": "A", "action": "B"}', "body has the key 'action' twice in one object"),
        (b'{"action": "A", "score": NaN}', "body holds NaN, which is not JSON"),
        (b'{"action": "A", "score": -Infinity}', "body holds -Infinity, which is not JSON"),
        (b'{"action": "A", "score": 1e999}', "body holds a number that is too large: '1e999'"),
        (b'{"action": "A", "id": ' + b"9" * 5000 + b"}", "body holds a number of 5000 digits"),
        (b"[" * 100_000, "body is nested too deeply"),
        (b"[]", r"body is a JSON list, not an object: \[\]"),
        (b"{}", "body names no action"),
        (b'{"action": 7}', "body names no action"),
        (b'{"action": "TASKS_DELETED", "tasks": 4}', "tasks must be an object or a list of objects, got 4"),
        (b'{"action": "TASKS_DELETED", "project": {"id": 7}}', "tasks must be an object or a list of objects, got None"),
        (
            b'{"action": "TASKS_DELETED", "tasks": [{}], "project": {"id": 7}}',
            r"tasks\[\].id must be an id of at most 18 digits, got None",
        ),
    ],
)
def test_hostile_bodies_are_refused_with_the_reason(body: bytes, message: str) -> None:
    """What is not strict JSON of the known shape is refused in one sentence (faults 15, 16)."""
    with pytest.raises(PayloadError, match=message):
        parse_bytes(body)


@pytest.mark.timeout(40)
def test_long_bodies_take_time_in_proportion() -> None:
    """A key that comes twice among 100,000, or as many paths in one answer, are not compared each with each (fault 15)."""
    keys = ",".join(f'"k{number}":1' for number in range(100_000))
    with pytest.raises(PayloadError, match="'k99999' twice"):
        parse_bytes(f'{{"action":"X",{keys},"k99999":2}}'.encode())
    item = {"from_name": "category", "value": {"taxonomy": [["Home", f"x{number}"] for number in range(100_000)]}}
    found = labels(parse_bytes(altered("annotation_created", result=[item, {**item, "value": {"taxonomy": [["a / " * 10**6]]}}])))
    assert found[Question.CATEGORY].outcome is Outcome.CONTRADICTORY


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    field=st.sampled_from(
        ["id", "task", "result", "was_cancelled", "updated_at", "completed_by", "lead_time", "ground_truth", "parent_prediction"]
    ),
    value=JSON_VALUES,
)
def test_any_field_may_hold_anything(field: str, value: Any) -> None:
    """Whatever a field holds, the body is read or refused; a label is never invented (fault 16)."""
    try:
        found = parse_bytes(altered("annotation_skipped_with_prefill", **{field: value}))
    except PayloadError:
        return
    if field != "was_cancelled":
        assert {event.outcome for event in labels(found).values()} == {Outcome.SKIP}


@given(said=st.lists(JSON_VALUES, max_size=3))
def test_any_answer_may_hold_anything(said: list[Any]) -> None:
    """An answer is a known leaf or it is no label."""
    item = {"from_name": "category", "to_name": "title", "type": "taxonomy", "value": {"taxonomy": said}}
    event = labels(parse_bytes(altered("annotation_created", result=[item])))[Question.CATEGORY]
    assert (event.outcome is Outcome.LABEL) == (event.value in CATEGORIES)
