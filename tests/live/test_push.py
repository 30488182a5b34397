"""Tasks in a real Label Studio: one for each listing, whatever is killed or repeated."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, update

from curation.labelstudio import project, push, reconcile, refresh
from curation.labelstudio.push import Pushed
from curation.labelstudio.tasks import BLIND_SUGGESTION, MAX_TEXT, NO_SUGGESTION
from curation.review import queue
from curation.store.tables import ReviewItem, TaskRow
from curation.store.workspace import utc_now
from curation.types import BLIND_BATCH
from tests import builders
from tests.labelstudio_people import Moderator
from tests.live.world import World

Three = tuple[Moderator, Moderator, Moderator]


def send(here: World, **options: int) -> Pushed:
    return push.push(here.workspace, now=utc_now(), **options)


def test_page_shows_the_listing_and_the_suggestion(here: World) -> None:
    """Photos from our service, the seller's words, why it is asked, and what the detector would say."""
    here.set_up()
    version = here.suggest(["r0"], "Home / Tools", "counterfeit")
    here.ask("r0")
    assert send(here) == Pushed(n_created=1, n_predictions=1)
    task = here.tasks()["r0"]
    shown = task["data"]
    assert [url.rpartition("/media/")[0] for url in shown["images"]] == [here.workspace.settings.service_url] * 2
    assert (shown["title"], shown["price_text"], shown["seller_category"]) == ("Garden rake r0", "12.50 GBP", "Home / Decor")
    assert shown["reason"] == "It looks like Home / Tools."
    assert shown["suggestion_text"] == "Home / Tools (88%)\nViolation: counterfeit (88%)"
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == (version, 0.0)
    assert [item["value"] for item in prediction["result"]] == [
        {"taxonomy": [["Home", "Tools"]]},
        {"choices": ["counterfeit"]},
    ]


def test_blind_items_show_no_suggestion(here: World) -> None:
    """Neither prefilled nor a word about it, so that agreement can be measured; an empty prediction holds its place."""
    here.set_up()
    here.suggest(["r0"], "Home / Tools")
    here.ask("r0", batch=BLIND_BATCH)
    assert send(here).n_predictions == 0
    task = here.tasks()["r0"]
    assert [one["result"] for one in task["predictions"]] == [[]]
    assert task["data"]["suggestion_text"] == BLIND_SUGGESTION
    assert "Tools" not in task["data"]["reason"] + task["data"]["similar"]


def test_listings_without_photo_price_or_suggestion(here: World) -> None:
    """Every key of the page is there; a megabyte of title is cut."""
    builders.add(here.workspace, builders.record("bare", title="x" * 10**6, description="", price=None, category=None))
    here.set_up()
    here.ask("bare")
    send(here)
    shown = here.tasks()["bare"]["data"]
    assert (len(shown["title"]), shown["price_text"], shown["suggestion_text"]) == (MAX_TEXT, "No price", NO_SUGGESTION)
    assert shown["images"][0].startswith("data:image/svg+xml")


def test_next_task_is_the_one_with_the_highest_priority(here: World, people: Three) -> None:
    """Moderators get them in the order of the queue."""
    here.set_up()
    here.ask("r3", "r1", "r2")
    send(here)
    task = people[0].next_task(here.project_id)
    assert task is not None and task["data"]["listing_id"] == "r3"


def test_a_more_valuable_task_that_comes_later_is_given_out_first(here: World, people: Three) -> None:
    """Order goes by value, not by the time of the push, blind or not; what is asked anew takes a new place."""
    here.set_up()
    here.suggest(["r0", "r1"], "Home / Tools")
    here.ask("r0", priority=0.4)
    send(here)
    here.ask("r1", priority=0.6)
    here.ask("r2", priority=0.8, batch=BLIND_BATCH)
    send(here)
    assert here.order() == ["r2", "r1", "r0"]
    task = people[0].next_task(here.project_id)
    assert task is not None and task["data"]["listing_id"] == "r2"
    people[0].submit(task["id"], "Home / Tools", [], task=task)
    with here.workspace.db.write() as session:
        mine = ReviewItem.listing_id == here.listing_ids(["r0"])["r0"]
        session.execute(update(ReviewItem).where(mine).values(state="waiting", pushed_at=None, priority=0.9))
    assert send(here) == Pushed(n_reopened=1)
    assert here.order()[0] == "r0" and len(here.tasks()["r0"]["predictions"]) == 1


def test_repeating_a_push_sends_nothing(here: World) -> None:
    """What was pushed does not wait any more."""
    here.set_up()
    here.ask("r0", "r1", "r2")
    assert send(here, limit=2).n_created == 2
    assert send(here).n_created == 1
    assert send(here) == Pushed()
    assert len(here.tasks()) == 3


def test_push_killed_after_the_import_makes_no_second_task(here: World) -> None:
    """Nothing was noted here, yet Label Studio is asked first and its tasks are adopted."""
    here.set_up()
    here.ask("r0", "r1", n_wanted=2)
    send(here)
    with here.workspace.db.write() as session:  # as if the process had died between import and note
        session.execute(delete(TaskRow))
        session.execute(update(ReviewItem).values(state="waiting", pushed_at=None))
    assert send(here) == Pushed(n_adopted=2, n_reopened=2)
    assert {task["overlap"] for task in here.tasks().values()} == {2}


def test_task_deleted_behind_our_back_is_made_anew(here: World, people: Three) -> None:
    """A listing that is asked again gets a new task if its old one is gone."""
    here.set_up()
    here.ask("r0")
    send(here)
    here.api.delete(f"/api/tasks/{here.task_id('r0')}/").raise_for_status()
    with here.workspace.db.write() as session:
        session.execute(update(ReviewItem).values(state="waiting", pushed_at=None))
    assert send(here).n_created == 1
    people[0].submit(here.task_id("r0"), "Home / Tools", [])  # on SQLite the new task has the old one's id
    reconcile.reconcile(here.workspace, utc_now())
    assert here.label("r0") == ("Home / Tools", "moderators")


def test_second_opinion_goes_to_another_person(here: World, people: Three) -> None:
    """A task that wants two answers stays in the queue of others after the first."""
    here.set_up()
    here.ask("r0", n_wanted=2)
    send(here)
    people[0].submit(here.task_id("r0"), "Home / Tools", [])
    assert people[0].next_task(here.project_id) is None
    second = people[1].next_task(here.project_id)
    assert second is not None and second["data"]["listing_id"] == "r0"
    people[1].submit(second["id"], "Home / Tools", [])
    assert people[2].next_task(here.project_id) is None


def test_tie_asks_a_third_person(here: World, people: Three) -> None:
    """Two answers that differ reopen the task for one more, through the worker's push job."""
    here.set_up()
    here.ask("r0", n_wanted=2)
    send(here)
    task_id = here.task_id("r0")
    people[0].submit(task_id, "Home / Tools", [])
    people[1].submit(task_id, "Home / Decor", [])
    reconcile.reconcile(here.workspace, utc_now())
    assert here.states("r0") == {"category": "tie", "violation": "decided"}
    assert send(here) == Pushed(n_reopened=1)
    third = people[2].next_task(here.project_id)
    assert third is not None
    people[2].submit(task_id, "Home / Tools", [])
    reconcile.reconcile(here.workspace, utc_now())
    assert (here.label("r0"), here.states("r0")["category"]) == (("Home / Tools", "moderators"), "decided")


def test_withdrawn_items_leave_the_queue_and_can_come_back(here: World, people: Three) -> None:
    """The task stays, nobody is given it, and asking again reopens it."""
    here.set_up()
    here.ask("r0", "r1")
    send(here)
    with here.workspace.db.write() as session:
        queue.withdraw(session, list(here.listing_ids(["r0"]).values()))
    assert send(here) == Pushed(n_withdrawn=1)
    assert send(here) == Pushed()
    task = people[0].next_task(here.project_id)
    assert task is not None and task["data"]["listing_id"] == "r1"
    with here.workspace.db.write() as session:
        session.execute(update(ReviewItem).where(ReviewItem.state == "withdrawn").values(state="waiting"))
    assert send(here) == Pushed(n_reopened=1)
    assert here.tasks()["r0"]["is_labeled"] is False


def test_refresh_replaces_every_older_suggestion(here: World, people: Three) -> None:
    """After a promotion nobody sees the old one: neither prefilled, nor beside it, nor in words."""
    here.set_up()
    here.suggest(["r0", "r1", "r2"], "Home / Tools")
    here.ask("r0", "r1")
    here.ask("r2", batch=BLIND_BATCH)
    send(here)
    version = here.suggest(["r0", "r1", "r2"], "Electronics / Audio / Radios")
    done = refresh.refresh(here.workspace, utc_now(), grace_s=0)
    assert (done.model_version, done.n_predictions, done.n_old_versions, done.n_texts) == (version, 2, 1, 2)
    tasks = here.tasks()
    for ref in ("r0", "r1"):
        assert [prediction["model_version"] for prediction in tasks[ref]["predictions"]] == [version]
        assert tasks[ref]["data"]["suggestion_text"].startswith("Electronics / Audio / Radios")
    assert [(one["model_version"], one["result"]) for one in tasks["r2"]["predictions"]] == [(version, [])]
    assert here.api.get(f"/api/projects/{here.project_id}/").json()["model_version"] == version


def test_refresh_can_be_repeated(here: World) -> None:
    """One that was cut short leaves no second prediction of the same version."""
    here.set_up()
    here.suggest(["r0"], "Home / Tools")
    here.ask("r0")
    send(here)
    refresh.refresh(here.workspace, utc_now(), grace_s=0)
    done = refresh.refresh(here.workspace, utc_now(), grace_s=0)
    assert (done.n_predictions, done.n_old_versions, done.n_texts) == (0, 0, 0)
    assert len(here.tasks()["r0"]["predictions"]) == 1


def test_a_page_that_was_open_during_a_refresh_can_still_be_submitted(here: World, people: Three) -> None:
    """It names the prediction it was opened with; older versions go only after a while, by a job of their own."""
    here.set_up()
    here.suggest(["r0", "r1"], "Home / Tools")
    here.ask("r0", "r1")
    send(here)
    open_page = people[0].next_task(here.project_id)
    assert open_page is not None and open_page["data"]["listing_id"] == "r0"
    version = here.suggest(["r0", "r1"], "Electronics / Audio / Radios")
    assert refresh.refresh(here.workspace, utc_now()).n_old_versions == 0
    people[0].submit(open_page["id"], "Home / Tools", [], task=open_page)
    next_page = people[0].next_task(here.project_id)
    assert next_page is not None and [one["model_version"] for one in next_page["predictions"]] == [version]
    later = utc_now() + timedelta(seconds=refresh.GRACE_S + 1)
    assert refresh.refresh(here.workspace, later).n_old_versions == 1
    assert [one["model_version"] for one in here.tasks()["r1"]["predictions"]] == [version]


@pytest.mark.parametrize("stage", ["import", "switch", "forget", "reword"])
def test_refresh_killed_anywhere_is_made_whole_by_the_next(here: World, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Before the import, the switch, the end of the old ones, or the words: a suggestion is shown at any time."""
    here.set_up()
    here.suggest(["r0", "r1"], "Home / Tools")
    here.ask("r0", "r1")
    send(here)
    version = here.suggest(["r0", "r1"], "Electronics / Audio / Radios")
    module, name = {
        "import": (refresh, "_import"),
        "switch": (project, "set_version"),
        "forget": (refresh, "_retire"),
        "reword": (refresh, "_reword"),
    }[stage]
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(module, name, interrupted)
        refresh.refresh(here.workspace, utc_now(), grace_s=0)
    shown = here.api.get(f"/api/projects/{here.project_id}/").json()["model_version"]
    for task in here.tasks().values():
        assert shown in [one["model_version"] for one in task["predictions"]]
    assert refresh.refresh(here.workspace, utc_now(), grace_s=0).model_version == version
    for task in here.tasks().values():
        assert [one["model_version"] for one in task["predictions"]] == [version]
        assert task["data"]["suggestion_text"].startswith("Electronics / Audio / Radios")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("n", [1200])
def test_a_large_batch_is_sent_in_chunks(here: World, n: int) -> None:
    """More listings than one import takes, each once."""
    builders.add(here.workspace, *builders.records(n, category="Home / Decor"))
    here.set_up()
    here.suggest([f"r{i}" for i in range(n)], "Home / Tools")
    here.ask(*(f"r{i}" for i in range(n)))
    assert send(here) == Pushed(n_created=n, n_predictions=n)
    assert len(here.tasks()) == n
