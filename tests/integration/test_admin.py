"""The commands that look after the store, as a user types them, on both databases."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text, update

from curation.cli import main
from curation.errors import NotFoundError
from curation.store import history, inbox, jobs, labels, listings
from curation.store.tables import JobRow, ReviewItem, SuspectRow
from curation.store.workspace import Workspace
from curation.types import AnnotationsDeleted, LabelEvent, Outcome, Question
from tests.commands import run, run_json

SOURCE = "labelstudio:1"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings file, no settings from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFURBISH_WEBHOOK_SECRET", "canary-5711")


# Database, settings, doctor


def test_an_empty_database_is_created_and_then_left_alone(tmp_path: Path, db_url: str) -> None:
    """The first upgrade creates the tables, the second changes nothing."""
    flags = ["--home", str(tmp_path / "home"), "--database-url", db_url, "db"]
    found = [
        json.loads(CliRunner().invoke(main, [*flags, *command, "--json"]).stdout)
        for command in (["upgrade"], ["upgrade"], ["current"])
    ]
    assert found[0]["before"] is None and found[0]["changed"]
    assert not found[1]["changed"] and found[2]["is_current"]


def test_commands_on_an_empty_database_say_what_to_run(tmp_path: Path) -> None:
    """Not a traceback about a missing table (fault 71)."""
    found = CliRunner().invoke(main, ["--home", str(tmp_path / "home"), "inbox", "list"])
    assert found.exit_code == 75 and "run: refurbish db upgrade" in found.stderr


def test_config_names_the_origin_of_each_setting_and_hides_secrets(
    sqlite_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag, environment, file and default are told apart; no secret is printed, in either form (fault 70)."""
    (tmp_path / "refurbish.toml").write_text('port = 9000\nlabel_studio_token = "canary-5712"\n')
    monkeypatch.setenv("REFURBISH_HOST", "0.0.0.0")
    found = run_json(sqlite_workspace, "config")
    origins = {name: found[name]["origin"] for name in ("home", "host", "port", "seed", "webhook_secret")}
    assert origins == {"home": "flag", "host": "env", "port": "file", "seed": "default", "webhook_secret": "env"}
    assert found["port"]["value"] == 9000 and found["webhook_secret"]["value"] == "********"
    both = json.dumps(found) + run(sqlite_workspace, "config").output
    assert "canary-571" not in both


@pytest.mark.parametrize(
    "address",
    [
        "u:canary-5711@h/x",
        "postgresql+psycopg:u:canary-5711@h/x",
        "postgresql+psycopg://u:canary-5711@h:port/x",
        "postgresql+psycopg://u:canary-5711/5711@h/x",
        "postgresql+psycopg://u:1/canary-5711@h/x",
        "postgresql+psycopg://h/x?user=u&password=canary-5711&sslpassword=canary-5711",
        "postgresql+psycopg://u:canary-5711@127.0.0.1:1/x?connect_timeout=1",
        "mysql://u:canary-5711@h/x",
    ],
)
@pytest.mark.parametrize("command", ["config", "doctor", "db current"])
def test_no_command_prints_a_password_of_the_database(tmp_path: Path, address: str, command: str) -> None:
    """Also where the address is mistyped, or the password stands among its options; nothing ends in a traceback (fault 70)."""
    found = CliRunner().invoke(main, ["--home", str(tmp_path), "--database-url", address, *command.split()])
    assert "canary-5711" not in found.output and isinstance(found.exception, SystemExit | None), found.exception


def test_config_hides_the_password_in_a_url(tmp_path: Path) -> None:
    """The rest of the address is shown."""
    flags = ["--home", str(tmp_path), "--database-url", "postgresql+psycopg://ada:canary-5711@db.example/x"]
    shown = CliRunner().invoke(main, [*flags, "config"]).stdout
    assert "ada:***@db.example/x" in shown and "canary-5711" not in shown


def test_doctor_is_green_on_a_fresh_install(workspace: Workspace) -> None:
    """Every check is named with what was found; what is not set up yet is a warning."""
    found = run_json(workspace, "doctor")
    states = {check["name"]: check["state"] for check in found["checks"]}
    wanted = {"database", "schema", "database writable", "durability", "clock", "disk writable", "permissions", "disk space"}
    assert found["ok"] and {name for name, state in states.items() if state == "ok"} >= wanted
    assert states["label studio"] == "warning"


def test_doctor_fails_on_an_old_schema(workspace: Workspace) -> None:
    """Exit code 1, and the command that mends it (fault 71)."""
    with workspace.db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    found = run(workspace, "doctor")
    assert found.exit_code == 1 and "run: refurbish db upgrade" in found.stdout


def test_doctor_tells_a_folder_that_anyone_can_write(sqlite_workspace: Workspace) -> None:
    """Others could replace a model (fault 76)."""
    sqlite_workspace.settings.home.chmod(0o777)
    found = run(sqlite_workspace, "doctor")
    assert found.exit_code == 1 and "chmod o-w" in found.stdout


@pytest.mark.parametrize("secret", ["", "short"])
def test_production_does_not_serve_without_a_real_secret(
    sqlite_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """Exit code 2 before a port is opened, and what to set."""
    monkeypatch.setenv("REFURBISH_ENV", "production")
    monkeypatch.setenv("REFURBISH_WEBHOOK_SECRET", secret)
    found = run(sqlite_workspace, "serve")
    assert found.exit_code == 2 and "set REFURBISH_WEBHOOK_SECRET" in found.stderr


# Inbox and jobs


def _received(workspace: Workspace, now: datetime, *bodies: bytes) -> None:
    with workspace.db.write() as session:
        inbox.receive(session, [inbox.Delivery("labelstudio", body, now) for body in bodies])


def test_a_quarantined_delivery_is_found_shown_and_replayed(workspace: Workspace, now: datetime) -> None:
    """From the reason to the body to a new job, by the commands alone."""
    _received(workspace, now, b'{"a": 1}', b"\xff\x00")
    with workspace.db.write() as session:
        [bad] = [entry.id for entry in inbox.newest(session) if entry.n_bytes == 2]
        inbox.settle(session, bad, "quarantined", now=now, reason="not JSON")
        session.execute(update(JobRow).values(state="done"))
    listed = run_json(workspace, "inbox", "list", "--state", "quarantined")
    assert [(entry["id"], entry["reason"]) for entry in listed["deliveries"]] == [(bad, "not JSON")]
    assert run_json(workspace, "inbox", "show", bad)["body_base64"] == "/wA="
    assert run_json(workspace, "inbox", "replay") == {"enqueued": 1}
    assert run_json(workspace, "inbox", "replay") == {"enqueued": 0}, "it is waiting already"
    assert "not JSON" in run(workspace, "inbox", "list").stdout


def test_named_deliveries_are_replayed_whatever_their_state(workspace: Workspace, now: datetime) -> None:
    """An id that is not there stops the command before anything is done."""
    _received(workspace, now, b"1", b"2")
    with workspace.db.write() as session:
        session.execute(update(JobRow).values(state="done"))
    wrong = run(workspace, "inbox", "replay", 1, 99)
    assert wrong.exit_code == 1 and "no delivery 99" in wrong.stderr
    assert run_json(workspace, "jobs", "list", "--state", "todo")["jobs"] == []
    assert run_json(workspace, "inbox", "replay", 1, 2) == {"enqueued": 2}


def test_a_dead_job_is_listed_and_revived(workspace: Workspace, now: datetime) -> None:
    """Its error is shown; a job that is not dead is refused by name."""
    _received(workspace, now, b"1")
    with workspace.db.write() as session:
        job = jobs.claim(session, worker="w", now=now, lease_s=60)
        assert job is not None
        jobs.fail(session, job, "disk on fire", now=now, final=True)
    assert "disk on fire" in run(workspace, "jobs", "list", "--state", "dead").stdout
    assert run_json(workspace, "jobs", "revive", job.id) == {"revived": 1}
    again = run(workspace, "jobs", "revive", job.id)
    assert again.exit_code == 1 and f"job {job.id} is not dead" in again.stderr


def test_a_dead_job_with_a_successor_is_left_dead(workspace: Workspace, now: datetime) -> None:
    """Its work was enqueued again meanwhile: the command says so instead of breaking the queue's one-of-a-kind rule."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "push", {}, key="push", now=now)
        session.execute(update(JobRow).values(state="dead"))
        jobs.enqueue(session, "push", {}, key="push", now=now)
    found = run(workspace, "jobs", "revive", 1)
    assert found.exit_code == 1 and "job 2 (push) does the same and waits already" in found.stderr


# Tokens


def test_a_token_is_shown_once_and_listed_without_itself(workspace: Workspace) -> None:
    """Created, listed by person, ended."""
    made = run_json(workspace, "token", "create", "ada", "--role", "engineer")
    listed = run(workspace, "token", "list", "--json").stdout
    assert made["token"].startswith("rfb_") and made["token"] not in listed and '"ada"' in listed
    assert run_json(workspace, "token", "revoke", 1) == {"revoked": 1}
    assert run_json(workspace, "token", "list")["tokens"][0]["revoked_at"] is not None
    assert run(workspace, "token", "revoke", 1).exit_code == 1


@pytest.mark.parametrize("name", ["", "  ", "x" * 121, "a\nb"], ids=repr)
def test_a_token_needs_a_printable_name(sqlite_workspace: Workspace, name: str) -> None:
    """Names stand in tables and logs."""
    found = run(sqlite_workspace, "token", "create", name, "--role", "admin")
    assert found.exit_code == 1 and "printable characters" in found.stderr


# History


def _event(at: datetime, source_id: str = "7", value: str = "A / B", annotator: str = "ada") -> LabelEvent:
    return LabelEvent(SOURCE, source_id, "70", "L1", Question.CATEGORY, Outcome.LABEL, value, annotator, at, "0" * 16)


def _listing(workspace: Workspace, now: datetime) -> int:
    record = listings.Record(ref="L1", title="Bicycle", category="A / C")
    with workspace.db.write() as session:
        listings.upsert(session, [record], now=now)
        return listings.id_by_ref(session, ["L1"])["L1"]


def test_history_tells_everything_of_one_listing(workspace: Workspace, now: datetime) -> None:
    """Label in force, its changes, who said what (deleted ones too), what was asked and why, what the model doubts."""
    listing_id = _listing(workspace, now)
    with workspace.db.write() as session:
        for event in (_event(now), _event(now, "8", "A / D", "bob"), AnnotationsDeleted(SOURCE, ("8",))):
            labels.apply_event(session, event, via="webhook", now=now)
        labels.recompute(session, listing_id, Question.CATEGORY, now=now)
        reason = {"code": "label_issue", "score": 0.9, "words": "looks like A / B"}
        session.add(
            ReviewItem(
                listing_id=listing_id,
                question="category",
                state="decided",
                reasons=[reason],
                priority=0.9,
                batch="b1",
                n_wanted=1,
                created_at=now,
            )
        )
        session.add(
            SuspectRow(
                listing_id=listing_id,
                question="category",
                rank=1,
                given="A / C",
                suggested="A / B",
                suggested_score=0.9,
                score=0.1,
                is_issue=True,
                reasons=[],
            )
        )
    found = run_json(workspace, "history", "L1")
    assert [(label["value"], label["source"]) for label in found["labels"]] == [("A / B", "moderators")]
    assert [change["value"] for change in found["changes"]][-1] == "A / B"
    assert [(a["annotator"], a["is_current"], a["is_deleted"]) for a in found["annotations"]] == [
        ("ada", True, False),
        ("bob", False, True),
    ]
    assert found["review"][0]["reasons"][0]["words"] == "looks like A / B" and found["suspects"][0]["rank"] == 1
    shown = run(workspace, "history", "L1").stdout
    assert all(words in shown for words in ("Bicycle", "moderators", "deleted", "looks like A / B", "Suspect"))


def test_history_shows_annotations_whose_listing_never_came(workspace: Workspace, now: datetime) -> None:
    """An orphan is found by its ref."""
    with workspace.db.write() as session:
        labels.apply_event(session, _event(now), via="webhook", now=now)
        found = history.of(session, "L1")
    assert (found.listing_id, found.title, len(found.annotations)) == (None, None, 1)


def test_history_of_an_unknown_ref_says_so(workspace: Workspace) -> None:
    """Nothing is made up."""
    with workspace.db.read() as session, pytest.raises(NotFoundError, match="'L9'"):
        history.of(session, "L9")
