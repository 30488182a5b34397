"""Set-up and doctor against a real Label Studio."""

import dataclasses
import json

import pytest
from click.testing import CliRunner

from curation.errors import LabelStudioError
from curation.labelstudio import doctor, hook, project, push
from curation.labelstudio.payloads import ACTIONS
from curation.labelstudio.project import Setup
from curation.store.workspace import set_state, utc_now
from tests import builders
from tests.conftest import NOW
from tests.live.world import SECRET, World


def findings(here: World) -> dict[str, doctor.Check]:
    return {row.name: row for row in doctor.check(here.workspace)}


def test_set_up_creates_project_and_hook(here: World) -> None:
    """The page is ours, and one active hook brings every action with the secret header."""
    done = here.set_up()
    found = here.api.get(f"/api/projects/{done.project_id}/").json()
    assert set(found["parsed_label_config"]) == {"category", "violation", "note"}
    assert found["enable_empty_annotation"] is False
    (webhook,) = here.hooks()
    assert webhook["url"] == f"{here.workspace.settings.service_url}/hooks/labelstudio"
    assert (set(webhook["actions"]), webhook["headers"]) == (set(ACTIONS), {hook.HEADER: SECRET})
    assert webhook["is_active"] and webhook["send_payload"] and not webhook["send_for_all_actions"]


def test_second_set_up_changes_nothing(here: World) -> None:
    """It can be run on every deployment."""
    first = here.set_up()
    again = here.set_up()
    assert again == Setup(first.project_id, first.url, first.webhook_id, is_new=False, changed=(), notes=first.notes)


def test_project_is_found_again_by_its_title(here: World) -> None:
    """A workspace that forgot the project (a restored database) takes it over instead of making a second one."""
    first = here.set_up()
    with here.workspace.db.write() as session:
        set_state(session, project.STATE, {"id": 10**6, "url": f"{here.server.url}/projects/{10**6}"}, now=NOW)
    assert here.set_up().project_id == first.project_id


def test_new_categories_reach_the_page(here: World) -> None:
    """Until the set-up is run again, a push to the old page is refused."""
    here.set_up()
    builders.add(here.workspace, builders.record("new", category="Pets / Toys"))
    here.ask("r0")
    with pytest.raises(LabelStudioError, match=r"differs from the taxonomy.*refurbish labelstudio setup"):
        push.push(here.workspace, now=utc_now())
    assert here.set_up().changed == ("project updated: label_config",)
    assert push.push(here.workspace, now=utc_now()).n_created == 1


def test_deleted_project_is_made_anew(here: World) -> None:
    """The old id is not trusted."""
    first = here.set_up()
    here.api.delete(f"/api/projects/{first.project_id}/").raise_for_status()
    with pytest.raises(LabelStudioError, match="not in Label Studio any more"):
        push.push(here.workspace, now=utc_now())
    second = here.set_up()
    assert second.is_new and second.project_id != first.project_id


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"is_active": False, "actions": list(ACTIONS)}, "it is switched off"),
        ({"is_active": True}, "it does not send ANNOTATIONS_CREATED"),
        ({"headers": {}, "actions": list(ACTIONS)}, "its header X-Refurbish-Secret does not hold our secret"),
        ({"send_payload": False, "actions": list(ACTIONS)}, "it sends no payload"),
    ],
)
def test_damaged_hook_is_found_and_repaired(here: World, damage: dict[str, object], words: str) -> None:
    """The doctor says what is wrong with the hook, and the set-up puts it right."""
    done = here.set_up()
    here.api.patch(f"/api/webhooks/{done.webhook_id}/", json=damage).raise_for_status()
    found = findings(here)["webhook"]
    assert not found.ok
    assert words in found.found
    assert words in " ".join(here.set_up().changed)
    assert findings(here)["webhook"].ok


def test_patch_without_actions_wipes_them(here: World) -> None:
    """The trap that makes the full list part of every update; a later Label Studio may drop it, then so may we."""
    done = here.set_up()
    here.api.patch(f"/api/webhooks/{done.webhook_id}/", json={"is_active": True}).raise_for_status()
    assert here.hooks()[0]["actions"] == []


def test_duplicate_hooks_are_found_and_ours_removed(here: World) -> None:
    """A second hook of ours is deleted; one that an ML backend left behind is named, with what to do."""
    done = here.set_up()
    body = {"project": done.project_id, "actions": list(ACTIONS), "send_for_all_actions": False}
    url = here.workspace.settings.service_url
    here.api.post("/api/webhooks/", json={**body, "url": f"{url}/hooks/labelstudio"}).raise_for_status()
    assert not findings(here)["no duplicate webhook"].ok
    assert len(here.set_up().changed) == 1
    here.api.post("/api/webhooks/", json={**body, "url": f"{url}/ml/webhook"}).raise_for_status()
    found = findings(here)["no duplicate webhook"]
    assert not found.ok
    assert f"{url}/ml/webhook" in found.found and "ML backend" in found.advice


def test_moved_service_keeps_one_hook(here: World) -> None:
    """When the service's address changes, its hook moves along."""
    first = here.set_up()
    moved = here.workspace.settings.model_copy(update={"public_url": "http://127.0.0.1:9/prefix"})
    here.workspace = dataclasses.replace(here.workspace, settings=moved)
    assert here.set_up().webhook_id == first.webhook_id
    assert [row["url"] for row in here.hooks()] == ["http://127.0.0.1:9/prefix/hooks/labelstudio"]


def test_doctor_command_fails_until_all_is_well(here: World) -> None:
    """Exit code 1 and the advice while something is wrong (here: no service runs); never the token."""
    from curation.cli import main

    settings = here.workspace.settings
    environment = {
        "REFURBISH_HOME": str(settings.home),
        "REFURBISH_DATABASE_URL": settings.database_url,
        "REFURBISH_LABEL_STUDIO_URL": settings.label_studio_url,
        "REFURBISH_LABEL_STUDIO_TOKEN": settings.label_studio_token.get_secret_value(),
        "REFURBISH_LABEL_STUDIO_PROJECT": settings.label_studio_project,
        "REFURBISH_WEBHOOK_SECRET": SECRET,
        "REFURBISH_PORT": str(settings.port),
    }
    done = CliRunner().invoke(main, ["labelstudio", "doctor", "--fix", "--json"], env=environment)
    found = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert done.exit_code == 1
    assert [name for name, row in found.items() if not row["ok"]] == ["service"]
    assert "refurbish serve" in found["service"]["advice"]
    assert settings.label_studio_token.get_secret_value() not in done.output


def test_wrong_token_is_named(here: World) -> None:
    """401 with the way out, and nothing after it is tried."""
    from pydantic import SecretStr

    wrong = here.workspace.settings.model_copy(update={"label_studio_token": SecretStr("0" * 40)})
    here.workspace = dataclasses.replace(here.workspace, settings=wrong)
    found = findings(here)
    assert not found["token"].ok
    assert "401" in found["token"].found and "project" not in found


@pytest.mark.filterwarnings("ignore:The .parse_obj. method:DeprecationWarning")  # in the SDK's token exchange
def test_personal_access_tokens_work_too(here: World) -> None:
    """Newer Label Studios give out tokens that must be exchanged for short-lived ones."""
    from pydantic import SecretStr

    allowed = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
    here.api.post("/api/jwt/settings", json=allowed).raise_for_status()
    token = here.api.post("/api/token/").raise_for_status().json()["token"]
    personal = here.workspace.settings.model_copy(update={"label_studio_token": SecretStr(token)})
    here.workspace = dataclasses.replace(here.workspace, settings=personal)
    here.set_up()
    here.ask("r0")
    assert push.push(here.workspace, now=utc_now()).n_created == 1
    assert findings(here)["token"].ok
