"""Our side killed without warning between Label Studio and the database."""

import subprocess

from sqlalchemy import func, select

from curation.labelstudio import push, reconcile
from curation.store.tables import AnnotationRow, LabelHistory
from curation.store.workspace import utc_now
from tests import launch
from tests.labelstudio_people import Moderator
from tests.live.world import World

Three = tuple[Moderator, Moderator, Moderator]


def killed(here: World, point: str, *words: str) -> None:
    """Run a `refurbish labelstudio` command that dies at this point."""
    environment = launch.environment(**launch.told(here.workspace.settings), crash_at=point)
    command = launch.command("labelstudio", *words)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, f"{point} was not reached: {done.stdout}{done.stderr}"


def n_rows(here: World) -> tuple[int, int]:
    """States of annotations, and changes of labels."""
    with here.workspace.db.read() as session:
        states = session.execute(select(func.count()).select_from(AnnotationRow)).scalar_one()
        return states, session.execute(select(func.count()).select_from(LabelHistory)).scalar_one()


def test_a_push_killed_before_its_note_makes_no_second_task(here: World) -> None:
    """Label Studio had made the tasks and said so: they are found and adopted, one a listing (fault 23)."""
    here.set_up()
    here.ask("r0", "r1", "r2")
    killed(here, "push.before_note", "push")
    assert len(here.tasks()) == 3
    sent = push.push(here.workspace, now=utc_now())
    assert (sent.n_created, sent.n_adopted) == (0, 3)
    assert len(here.tasks()) == 3 and set(here.states("r0").values()) == {"pushed"}


def test_a_reconciliation_killed_within_a_page_or_after_it_counts_once(here: World, people: Three) -> None:
    """Before the cursor nothing of the page is there; after it all is: the next pass ends with each answer once (fault 23)."""
    here.set_up()
    here.ask("r0", "r1", "r2")
    push.push(here.workspace, now=utc_now())
    before = n_rows(here)
    for ref in ("r0", "r1", "r2"):
        people[0].submit(here.task_id(ref), "Home / Tools", [])
    killed(here, "reconcile.before_cursor", "reconcile")
    assert n_rows(here) == before
    killed(here, "reconcile.after_page", "reconcile")
    assert n_rows(here) == (before[0] + 6, before[1] + 6)
    found = reconcile.reconcile(here.workspace, utc_now())
    assert found.n_missed == 0 and n_rows(here) == (before[0] + 6, before[1] + 6)
    assert here.label("r2") == ("Home / Tools", "moderators")
