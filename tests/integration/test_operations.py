"""What operators are given: units, compose, dashboard, completion, and documents whose commands exist."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from flask import Flask

from curation.cli import COMMANDS, main
from curation.store import jobs
from curation.store.people import Role
from curation.store.workspace import Workspace
from curation.worker import HANDLERS, Worker
from tests import api_world, commands
from tests.conftest import NOW

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "docs" / "deploy"
PLACEHOLDERS = {"ID": "1", "NAME": "ada", "FILE": "file.csv"}


def parsed(words: list[str]) -> click.Command:
    """The command these words call; raises where a command, option or argument does not exist."""
    command: click.Command = main
    arguments = [PLACEHOLDERS.get(word, word) for word in words]
    while isinstance(command, click.Group):
        context = click.Context(command)
        name = arguments.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"no command {name!r} in {words}"
        command = found
    command.make_context("x", arguments, resilient_parsing=False)
    return command


def unit(name: str) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=False)
    found.read_string((DEPLOY / name).read_text())
    return found


@pytest.mark.parametrize("name", ["refurbish.service", "refurbish-worker@.service"])
def test_units_start_commands_that_exist(name: str) -> None:
    """With options that exist, stopped as the service wants it, without privileges."""
    found = unit(name)["Service"]
    for key in ("execstart", "execstartpre"):
        if key in found:
            words = shlex.split(found[key].replace("$JOBS", "--without retrain"))
            assert words[0] == "/opt/refurbish/bin/refurbish" and parsed(words[1:])
    assert found["killsignal"] == "SIGTERM" and found["nonewprivileges"] == "true" and found["user"] == "refurbish"
    if shutil.which("systemd-analyze") is not None:
        done = subprocess.run(["systemd-analyze", "verify", DEPLOY / name], capture_output=True, text=True, check=False)
        assert "Unknown" not in done.stderr


def _kinds(words: list[str]) -> set[str]:
    """The kinds of jobs that a worker started so runs."""
    named = set(words[-1].split(","))
    return named if words[-2] == "--kinds" else set(HANDLERS) - named


def test_compose_runs_every_kind_of_job() -> None:
    """It parses, every command exists, and no kind of job is left to nobody."""
    found = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    kinds: set[str] = set()
    for service in found.values():
        words = shlex.split(str(service.get("command", "")))
        if words[:3] == ["python", "-m", "curation.cli"]:
            assert parsed(words[3:])
            kinds |= _kinds(words) if "worker" in words else set()
    assert kinds == set(HANDLERS)
    assert {"db", "serve", "worker", "trainer", "labelstudio"} <= found.keys()


def test_every_metric_of_the_dashboard_exists(app: Flask) -> None:
    """By the names that /metrics gives, after a request and a delivery."""
    client = app.test_client()
    client.post("/hooks/labelstudio", data=b"{}")
    text = client.get("/metrics").text
    known = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    known |= {line.partition("{")[0].split()[0] for line in text.splitlines() if line and not line.startswith("#")}
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    asked = {
        name for panel in dashboard["panels"] for one in panel["targets"] for name in re.findall(r"refurbish_\w+", one["expr"])
    }
    documented = set(re.findall(r"(?<![\w/])refurbish_[a-z_]+", (ROOT / "docs" / "operations.md").read_text()))
    assert asked and asked | documented <= known
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) and all(panel["description"] or panel["title"] for panel in dashboard["panels"])


def blocks(name: str) -> list[str]:
    """Lines of the document's blocks of commands."""
    found, language = [], None
    for line in (ROOT / "docs" / name).read_text().splitlines():
        if line.startswith("```"):
            language = line.removeprefix("```") if language is None else None
        elif language == "":
            found.append(line)
    return found


@pytest.mark.parametrize("name", ["api.md", "operations.md"])
def test_commands_of_the_documents_exist(name: str) -> None:
    """With their options, in blocks and in sentences."""
    text = (ROOT / "docs" / name).read_text()
    inline = re.findall(r"`(refurbish [^`]+)`", text)
    found = [line.split("#")[0].split(">")[0] for line in (*blocks(name), *inline) if line.startswith("refurbish ")]
    assert found
    for line in found:
        assert parsed(shlex.split(line)[1:])


def test_calls_of_the_document_work(app: Flask, workspace: Workspace) -> None:
    """Each curl line of api.md, as it stands there, gets an answer that is no refusal."""
    first, second = api_world.promote(workspace), api_world.promote(workspace, 1.0)
    assert (first, second) == ("det-0001", "det-0002")
    client = api_world.as_(app.test_client(), workspace, Role.ENGINEER)
    lines = [line for line in blocks("api.md") if line.startswith("curl ")]
    for line in lines:
        words = shlex.split(line)
        path = next(word.removeprefix("$URL") for word in words if word.startswith("$URL"))
        answer = client.post(path, data=words[words.index("-d") + 1], content_type="application/json")
        assert answer.status_code < 300, (path, answer.text)
    assert len(lines) == 4


def test_the_documents_table_is_the_api() -> None:
    """Every operation with its role, and none that is not there."""
    from webhooks.api import routes

    rows = re.findall(r"^\| (`(?:GET|POST) [^|]+) \| (\w+) \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    said = {(one, role) for cell, role in rows for one in re.findall(r"(?:GET|POST) [^`?]+", cell)}
    document = routes.described("")
    made = {
        (f"{method.upper()} {path}", one["x-role"]) for path, found in document["paths"].items() for method, one in found.items()
    }
    assert said == made | {("GET /api/v1/openapi.json", "moderator")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(sqlite_workspace: Workspace, shell: str) -> None:
    """For each shell, naming our command and its variable."""
    found = commands.run(sqlite_workspace, "completion", shell)
    assert found.exit_code == 0 and "_REFURBISH_COMPLETE" in found.stdout and "refurbish" in found.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_completes_in_a_real_bash(tmp_path: Path) -> None:
    """Commands and options, as the shell asks for them."""
    program = tmp_path / "refurbish"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from curation.cli import entry; entry()" "$@"\n')
    program.chmod(0o755)
    ask = (
        f'export PATH={tmp_path}:$PATH; eval "$(refurbish completion bash)"; '
        "COMP_WORDS=(refurbish ing); COMP_CWORD=1; _refurbish_completion refurbish; echo ${COMPREPLY[@]}; "
        "COMPREPLY=(); COMP_WORDS=(refurbish ingest --rep); COMP_CWORD=2; _refurbish_completion refurbish; echo ${COMPREPLY[@]}"
    )
    found = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split() == ["ingest", "--reports"]


def test_a_request_and_its_job_are_one_story_in_the_log(sqlite_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of the job, and the jobs that it asks for, carry the id of the request."""
    from curation import telemetry

    db = sqlite_workspace.db
    with telemetry.during(request_id="ask-5711"), db.write() as session:
        jobs.enqueue(session, "consensus", {}, key="consensus", now=NOW)
    Worker(sqlite_workspace).run(until_idle=True)
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    ours = [line for line in lines if line.get("job") == 1]
    assert ours and {line["request_id"] for line in ours} == {"ask-5711"}
    with db.write() as session:
        jobs.enqueue(session, "push", {}, key="push", now=NOW)
        assert jobs.newest(session, kind="push")[0].payload == {}


def test_doctor_says_what_to_do(workspace: Workspace) -> None:
    """Of a job that nobody takes, of one that was given up, of nobody who may sign in; each with its command."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "push", {}, key="push", now=NOW)
    waiting = {one["name"]: one for one in commands.run_json(workspace, "doctor")["checks"]}
    assert "refurbish worker" in waiting["jobs"]["words"] and "refurbish user add" in waiting["people"]["words"]
    with workspace.db.write() as session:
        job = jobs.claim(session, worker="w", now=NOW, lease_s=60)
        assert job is not None and jobs.fail(session, job, "no", now=NOW, final=True)
    dead = {one["name"]: one for one in commands.run_json(workspace, "doctor")["checks"]}
    assert dead["jobs"]["state"] == "warning" and "refurbish jobs revive" in dead["jobs"]["words"]


def test_every_new_command_is_documented() -> None:
    """In a document, with its name."""
    text = "".join((ROOT / "docs" / name).read_text() for name in ("api.md", "operations.md"))
    assert all(f"refurbish {name}" in text for name in ("openapi", "completion")) and "openapi" in COMMANDS
