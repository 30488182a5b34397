"""Live suggestions at a real Label Studio: connected by the set-up, asked when a task is opened, without a hook of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.labelstudio import doctor, push
from curation.store.workspace import utc_now
from curation.types import BLIND_BATCH
from tests.integration.test_embed import released
from tests.labelstudio_server import LabelStudioServer
from tests.live.world import SECRET, World, world
from tests.serving import Served, served


@pytest.fixture
def serving(labelstudio: LabelStudioServer, tmp_path: Path) -> Iterator[tuple[World, Served]]:
    """The real service in front of a workspace with a live model, not set up yet."""
    url = f"sqlite:///{tmp_path / 'refurbish.db'}"
    with (
        served(tmp_path, url, webhook_secret=SECRET) as service,
        world(labelstudio, tmp_path, 0, port=service.port) as here,
    ):
        released(here.workspace)
        yield here, service


def backends(here: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = here.api.get("/api/ml/", params={"project": here.project_id}).raise_for_status().json()
    return found


def bare_task(here: World, ref: str) -> int:
    """A task that nobody pushed: it has no prediction."""
    data = {**push.tasks.data(bare(here, ref), here.workspace.settings.service_url), "listing_id": ref}
    made = here.api.post("/api/tasks/", json={"project": here.project_id, "data": data}).raise_for_status().json()
    return int(made["id"])


def bare(here: World, ref: str) -> Any:
    from curation.review.queue import Task
    from curation.store import listings

    with here.workspace.db.read() as session:
        (listing,) = listings.load(session, refs=[ref])
    return Task(listing, None, (), 0.5, is_blind=False, n_wanted=1)


def suggestions(here: World) -> doctor.Check:
    return next(row for row in doctor.check(here.workspace) if row.name == "live suggestions")


def test_set_up_connects_once_and_leaves_one_hook(serving: tuple[World, Served]) -> None:
    """Label Studio adds no hook of its own, the project shows no title as version, and a second set-up changes nothing."""
    here, service = serving
    done = here.set_up()
    assert "live suggestions connected" in done.changed and done.notes == ()
    (row,) = backends(here)
    assert (row["url"], row["state"], row["model_version"]) == (f"http://127.0.0.1:{service.port}/ml", "CO", "det-0001")
    assert sorted((hook["is_active"], hook["url"].rpartition(":")[2]) for hook in here.hooks()) == [
        (False, f"{service.port}/ml/webhook"),
        (True, f"{service.port}/hooks/labelstudio"),
    ]
    assert here.api.get(f"/api/projects/{here.project_id}/").json()["model_version"] in ("", None)
    assert here.set_up().changed == ()
    assert all(row.ok for row in doctor.check(here.workspace))


def test_a_task_without_prediction_is_answered_when_it_is_opened(serving: tuple[World, Served]) -> None:
    """By the live model; one that is asked blind is answered with nothing."""
    here, _ = serving
    here.set_up()
    task_id = bare_task(here, "r1")
    (prediction,) = here.api.get(f"/api/tasks/{task_id}/").json()["predictions"]
    assert prediction["model_version"] == "det-0001" and {item["from_name"] for item in prediction["result"]} == {
        "category",
        "violation",
    }
    here.ask("r2", batch=BLIND_BATCH)
    blind = here.api.get(f"/api/tasks/{bare_task(here, 'r2')}/").json()["predictions"]
    assert [one["result"] for one in blind] == [[]]


def test_a_push_shows_its_version_beside_a_connected_backend(serving: tuple[World, Served]) -> None:
    """The backend's title must not stand in the project, or nobody would see a suggestion."""
    here, _ = serving
    here.ask("r0", "r1")
    here.set_up()
    assert push.push(here.workspace, now=utc_now()).n_predictions == 2
    assert here.api.get(f"/api/projects/{here.project_id}/").json()["model_version"] == "det-0001"
    here.api.patch(f"/api/projects/{here.project_id}/", json={"model_version": backends(here)[0]["title"]}).raise_for_status()
    assert "but its predictions are det-0001" in suggestions(here).found
    here.set_up()
    assert suggestions(here).ok and suggestions(here).found == "connected, version det-0001"


def test_a_backend_that_is_not_as_it_must_be_is_repaired(serving: tuple[World, Served]) -> None:
    """Moved to another address, or deleted by hand: the doctor says so and the set-up puts it right."""
    here, service = serving
    here.set_up()
    (row,) = backends(here)
    moved = {key: row[key] for key in ("project", "title", "auth_method", "basic_auth_user")} | {"basic_auth_pass": SECRET}
    moved["url"] = f"http://localhost:{service.port}/ml"
    here.api.patch(f"/api/ml/{row['id']}", json=moved).raise_for_status()
    assert "it asks http://localhost" in suggestions(here).found
    assert here.set_up().changed[0].startswith("live suggestions repaired: it asks http://localhost")
    assert suggestions(here).ok
    here.api.delete(f"/api/ml/{row['id']}").raise_for_status()
    assert suggestions(here).found.startswith("not connected")
    assert here.set_up().changed == ("live suggestions connected",)


def test_without_a_service_set_up_says_how_to_go_on(serving: tuple[World, Served]) -> None:
    """The project and its webhook are there all the same; later the same command connects."""
    here, service = serving
    service.stop()
    done = here.set_up()
    assert backends(here) == [] and len(here.hooks()) == 1
    assert "start `refurbish serve`, then run this again" in done.notes[0]


def test_suggestions_can_be_disconnected(serving: tuple[World, Served]) -> None:
    """Backend and idle hook go, and doctor says how they come back."""
    from curation.labelstudio import project

    here, _ = serving
    here.set_up()
    done = project.setup(here.workspace, utc_now(), suggests=False)
    assert done.changed == ("live suggestions disconnected", "idle webhook deleted")
    assert backends(here) == [] and len(here.hooks()) == 1 and suggestions(here).ok
