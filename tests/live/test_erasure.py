"""An erased listing in a real Label Studio, and a restored backup that catches up with it."""

from pathlib import Path

from sqlalchemy import delete

from curation import erasure_commands
from curation.labelstudio import erasure, push, reconcile
from curation.store import backup
from curation.store.tables import TaskRow
from curation.store.workspace import Workspace, utc_now
from tests import builders
from tests.labelstudio_people import Moderator
from tests.live.test_reconcile import heal, ours, pushed, theirs
from tests.live.world import World

Three = tuple[Moderator, Moderator, Moderator]


def test_tasks_of_erased_listings_are_deleted(here: World, people: Three) -> None:
    """Answered or not, known to us or not, by a job that may be repeated; reconciliation brings nothing back (fault 77)."""
    tasks = pushed(here)
    people[0].submit(tasks["r0"], "Home / Tools", [])
    heal(here)
    assert here.label("r0") == ("Home / Tools", "moderators")
    with here.workspace.db.write() as session:
        session.execute(delete(TaskRow).where(TaskRow.listing_ref == "r1"))  # a push that was killed before it noted its task
    done = [erasure_commands.begin(here.workspace, None, [ref], by="ada", reason="") for ref in ("r0", "r1")]
    erasure_commands.finish(here.workspace)
    here.work("erase")
    assert done == [1, 2] and sorted(here.tasks()) == [f"r{n}" for n in range(2, 6)]
    assert erasure.delete_tasks(here.workspace, ["r0", "r1"]) == 0
    heal(here, full=True)
    assert here.label("r0") is None and ours(here) == theirs(here) == {}
    assert "r0" not in {one.ref for one in builders.all_listings(here.workspace)}


def test_a_late_answer_on_an_erased_listing_counts_nothing(here: World, people: Three) -> None:
    """Label Studio was away when it was erased: what is said there until the job comes is no label (fault 77)."""
    tasks = pushed(here, 2)
    erasure_commands.begin(here.workspace, None, ["r0"], by="ada", reason="")
    people[0].submit(tasks["r0"], "Home / Tools", [])
    heal(here)
    assert ours(here) == {} and here.label("r0") is None
    here.work("erase")
    assert sorted(here.tasks()) == ["r1"]


def test_a_restored_backup_catches_up_by_reconciliation(here: World, people: Three, tmp_path: Path) -> None:
    """Answers, changes and deletions since the backup: afterwards both ledgers are Label Studio's (fault 74)."""
    tasks = pushed(here)
    people[0].submit(tasks["r0"], "Home / Tools", [])
    second = people[1].submit(tasks["r1"], "Home / Tools", [])
    heal(here)
    backup.take(here.workspace, tmp_path / "backup", now=utc_now())
    people[0].submit(tasks["r2"], "Home / Tools", [])
    people[1].delete(second["id"])
    heal(here)
    settings = here.workspace.settings.model_copy(update={"home": tmp_path / "new", "database_url": ""})
    backup.restore(settings, tmp_path / "backup")
    restored = Workspace.open(settings)
    again = World(restored, here.server, here.api, here.project_id)
    assert ours(again) != theirs(again)
    reconcile.reconcile(restored, utc_now())
    push.push(restored, now=utc_now())
    assert ours(again) == ours(here) == theirs(here) and len(here.tasks()) == 6
    assert [builders.label(restored, f"r{n}") for n in range(6)] == [here.label(f"r{n}") for n in range(6)]
    restored.close()
