"""Reconciliation against a real Label Studio, without any webhook: nothing is lost for good."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from curation.errors import LabelStudioError, StaleLease
from curation.labelstudio import apply, push, reconcile, walk
from curation.labelstudio.client import Client
from curation.labelstudio.reconcile import Drift
from curation.store import inbox
from curation.store.inbox import Delivery
from curation.store.tables import AnnotationRow
from curation.store.workspace import get_state, utc_now
from curation.types import Question
from tests.labelstudio_people import Moderator, answers
from tests.live.world import World

Three = tuple[Moderator, Moderator, Moderator]


def pushed(here: World, n: int = 6) -> dict[str, int]:
    """Set up, ask about n listings, push; ref → task id."""
    here.set_up()
    here.suggest([f"r{i}" for i in range(n)], "Home / Tools")
    here.ask(*(f"r{i}" for i in range(n)))
    push.push(here.workspace, now=utc_now())
    return {ref: int(task["id"]) for ref, task in here.tasks().items()}


def heal(here: World, **options: Any) -> Drift:
    return reconcile.reconcile(here.workspace, utc_now(), **options)


def ours(here: World) -> dict[str, set[tuple[str, str]]]:
    """Current annotation states as we hold them: annotation id → (question, outcome or value)."""
    found: dict[str, set[tuple[str, str]]] = {}
    with here.workspace.db.read() as session:
        for row in session.execute(select(AnnotationRow).where(AnnotationRow.is_current.is_(True))).scalars():
            found.setdefault(row.source_id, set()).add((row.question, row.value or row.outcome))
    return found


def theirs(here: World) -> dict[str, set[tuple[str, str]]]:
    """The same as Label Studio has them, read in the simplest way."""
    found: dict[str, set[tuple[str, str]]] = {}
    for task in here.tasks().values():
        for annotation in task["annotations"]:
            said = {item["from_name"]: item["value"] for item in annotation["result"]}
            category = " / ".join(said["category"]["taxonomy"][0]) if "category" in said else "empty"
            violation = "|".join(sorted(said["violation"]["choices"])) if "violation" in said else "empty"
            if annotation["was_cancelled"]:
                category = violation = "skip"
            found[str(annotation["id"])] = {("category", category), ("violation", violation)}
    return found


def test_ten_kinds_of_change_without_a_single_hook(here: World, people: Three) -> None:
    """After an outage our log is Label Studio's, whatever was done meanwhile: zero differences (fault 11)."""
    task = pushed(here)
    anna, bela, carla = people
    changed = anna.submit(task["r0"], "Home / Tools", [])
    deleted = anna.submit(task["r1"], "Home / Tools", [])
    drafted = bela.submit(task["r2"], "Home / Tools", ["counterfeit"])
    starred = bela.submit(task["r3"], "Home / Decor", [])
    heal(here)
    anna.update(changed["id"], result=answers(None, "Home / Decor", ["counterfeit"]))  # 1 changed
    anna.delete(deleted["id"])  # 2 deleted
    here.api.post(f"/api/annotations/{drafted['id']}/convert-to-draft").raise_for_status()  # 3 turned into a draft
    bela.update(starred["id"], ground_truth=True)  # 4 starred
    carla.skip(task["r3"])  # 5 skipped
    bela.update(bela.submit(task["r0"], "Home / Tools", [])["id"], was_cancelled=True)  # 6 made, then turned into a skip
    carla.annotate(task["r1"], [])  # 7 empty
    here.api.delete(f"/api/tasks/{task['r4']}/").raise_for_status()  # 8 task deleted
    chosen = {"selectedItems": {"all": False, "included": [task["r5"]]}, "project": here.project_id}
    action = f"/api/dm/actions?id=predictions_to_annotations&project={here.project_id}"
    here.api.post(action, json=chosen).raise_for_status()  # 9 bulk: predictions to annotations
    other = carla.submit(task["r3"], "Home / Tools", [])
    carla.update(other["id"], ground_truth=True)  # 10 another star, which clears the first silently
    found = heal(here)
    assert ours(here) == theirs(here)
    assert (found.healed["deletions"], found.healed["task_deletions"]) == (2, 1)
    assert heal(here).n_missed == 0


def test_second_pass_reads_only_the_margin(here: World, people: Three) -> None:
    """With nothing new it writes nothing and misses nothing."""
    task = pushed(here)
    people[0].submit(task["r0"], "Home / Tools", [])
    first = heal(here)
    assert (first.is_full, first.n_missed, first.healed["annotations"]) == (True, 1, 1)
    second = heal(here)
    assert (second.is_full, second.n_missed) == (False, 0)


def test_ties_in_time_are_read_whole(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bulk action stamps more tasks with one time than a page holds."""
    task = pushed(here)
    chosen = {"selectedItems": {"all": True, "excluded": []}, "project": here.project_id}
    here.api.post(f"/api/dm/actions?id=predictions_to_annotations&project={here.project_id}", json=chosen).raise_for_status()
    monkeypatch.setattr(walk, "PAGE_SIZE", 2)
    found = heal(here)
    assert found.healed["annotations"] == len(task)
    assert ours(here) == theirs(here)


def test_killed_pass_goes_on_where_it_stopped(here: World, people: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is committed with its cursor, so that the next pass has less to do and loses nothing."""
    task = pushed(here)
    for ref in task:
        people[0].submit(task[ref], "Home / Tools", [])
    monkeypatch.setattr(reconcile, "TASKS_PER_WRITE", 2)
    n_writes = 0

    def dying() -> Any:
        nonlocal n_writes
        n_writes += 1
        if n_writes > 2:
            raise StaleLease("the worker was killed")
        return here.workspace.db.write()

    with pytest.raises(StaleLease):
        heal(here, writing=dying)
    assert len(ours(here)) == 4
    found = heal(here)
    assert (found.is_full, found.healed["annotations"]) == (True, 2)
    assert ours(here) == theirs(here)


def test_annotation_made_while_a_page_is_read_is_not_taken_for_deleted(
    here: World, people: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook may bring it between our reading of the page and our comparing: Label Studio is asked once more."""
    task = pushed(here, 1)
    read = Client.tasks

    def slow(self: Any, *arguments: Any, **params: Any) -> Any:
        page = read(self, *arguments, **params)
        if params.get("fields") == "all" and page and not ours(here):
            people[0].submit(task["r0"], "Home / Tools", [])
            monkeypatch.undo()
            heal(here)  # as the webhook would
        return page

    monkeypatch.setattr(Client, "tasks", slow)
    assert heal(here).healed["deletions"] == 0
    assert here.label("r0") == ("Home / Tools", "moderators")


def test_deleted_tasks_are_noticed_by_their_number(here: World, people: Three) -> None:
    """The timer's pass sweeps only when the number of tasks does not add up."""
    task = pushed(here)
    people[0].submit(task["r0"], "Home / Tools", [])
    heal(here)
    assert not heal(here, sweep=False).swept
    here.api.delete(f"/api/tasks/{task['r0']}/").raise_for_status()
    found = heal(here, sweep=False)
    assert (found.swept, found.healed["task_deletions"]) == (True, 1)
    assert here.label("r0") == ("Home / Decor", "seller")


def test_foreign_tasks_do_not_cause_sweeps(here: World) -> None:
    """Tasks that somebody uploaded by hand are none of ours, and are counted as such."""
    pushed(here)
    data = {**here.tasks()["r0"]["data"]}
    del data["listing_id"]
    here.api.post(f"/api/projects/{here.project_id}/import", json=[{"data": data}]).raise_for_status()
    heal(here)
    assert not heal(here, sweep=False).swept


def test_drift_is_remembered_until_the_hook_arrives(here: World, people: Three) -> None:
    """What reconciliation brought first was late, not missed, once its webhook comes in (fault 11)."""
    task = pushed(here)
    made = people[0].submit(task["r0"], "Home / Tools", [])
    heal(here)
    with here.workspace.db.read() as session:
        assert (get_state(session, reconcile.DRIFT) or {})["n_missed_total"] == 1
    late = {"action": "ANNOTATION_CREATED", "annotation": made, "task": here.tasks()["r0"], "project": {"id": here.project_id}}
    deliver(here, late)
    with here.workspace.db.read() as session:
        assert apply.count_missed(session) == 0


def test_switched_off_hook_is_noticed(here: World) -> None:
    """A hook that is off sends nothing that would say so; every pass looks, and remembers it for the status page (fault 12)."""
    pushed(here, 1)
    assert heal(here).hook_faults == ()
    (webhook,) = here.hooks()
    here.api.patch(f"/api/webhooks/{webhook['id']}/", json={"is_active": False}).raise_for_status()
    assert "it is switched off" in heal(here).hook_faults
    with here.workspace.db.read() as session:
        assert "it is switched off" in (get_state(session, reconcile.DRIFT) or {})["hook_faults"]


def test_foreign_page_is_refused(here: World) -> None:
    """If somebody replaced the questions, answers cannot be read; the message says how to go on."""
    pushed(here)
    page = '<View><Text name="title" value="$title"/><Choices name="mood" toName="title"><Choice value="good"/></Choices></View>'
    here.api.patch(f"/api/projects/{here.project_id}/", json={"label_config": page}).raise_for_status()
    with pytest.raises(LabelStudioError, match=r"no Taxonomy 'category'.*refurbish labelstudio setup"):
        heal(here)


def test_unreadable_task_does_not_stop_the_pass(here: World, people: Three) -> None:
    """One annotation that cannot be interpreted is counted and logged; the others come in."""
    task = pushed(here)
    people[0].annotate(task["r0"], [{"from_name": "note", "type": "textarea", "value": {"text": ["\x00"]}, "to_name": "title"}])
    people[0].submit(task["r1"], "Home / Tools", [])
    assert heal(here).n_unreadable == 1
    assert here.label("r1", Question.CATEGORY) == ("Home / Tools", "moderators")


def deliver(here: World, body: dict[str, Any]) -> None:
    """Receive a body and let a worker apply it."""
    with here.workspace.db.write() as session:
        inbox.receive(session, [Delivery("labelstudio", json.dumps(body).encode(), utc_now())])
    here.work("ingest")
