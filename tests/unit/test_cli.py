"""The command line as a whole: quick, self-explaining, and clear when something is wrong."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from curation import errors
from curation.cli import COMMANDS, main
from curation.errors import RefurbishError

HELP_LIMIT_S = 0.5


def _tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path, groups left out."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None, f"{name} is listed but not there"
        yield from _tree(found, (*path, name))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_and_takes_json(name: str) -> None:
    """Its help has an Example: that starts with the command's own words, and a --json switch."""
    group = click.Context(main)
    found = main.get_command(group, name)
    assert found is not None
    for path, command in _tree(found, (name,)):
        shown = CliRunner().invoke(main, [*path, "--help"], prog_name="refurbish")
        assert shown.exit_code == 0, shown.output
        words = " ".join(shown.output.split())
        assert f"Example: refurbish {' '.join(path)}" in words, path
        assert "--json" in words, path
        assert command.help, f"{path} does not say what it does"


def test_help_is_quick() -> None:
    """`refurbish --help` loads no command; best of three, as a process of its own."""
    seconds = []
    for _ in range(3):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "curation.cli", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began_s)
    assert min(seconds) < HELP_LIMIT_S


def loaded_by(module: str) -> set[str]:
    """Top-level modules of a fresh interpreter that imported this one."""
    code = f"import json, sys, {module}; print(json.dumps([m for m in sys.modules if '.' not in m]))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(found.stdout))


def test_help_loads_nothing_heavy() -> None:
    """No numpy, pandas, SQLAlchemy, Flask, torch, SDK on the way to the help text."""
    heavy = {"numpy", "pandas", "sqlalchemy", "flask", "torch", "label_studio_sdk", "sklearn", "cleanlab", "scipy", "onnxruntime"}
    assert heavy.isdisjoint(loaded_by("curation.cli"))


def test_runs_and_models_are_listed_without_numpy() -> None:
    """Which files belong to a model is read without what runs it."""
    assert {"numpy", "PIL", "onnxruntime"}.isdisjoint(loaded_by("curation.release.registry"))


def _errors() -> list[type[RefurbishError]]:
    return [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, RefurbishError)]


@pytest.mark.parametrize("error", _errors(), ids=lambda error: error.__name__)
def test_an_error_ends_with_its_code_and_no_traceback(error: type[RefurbishError], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line on stderr, the class's exit code; the traceback only with --debug."""
    arguments = ("field", "told") if error is errors.RowError else ("told",)

    @click.command()
    def failing() -> None:
        raise error(*arguments)

    monkeypatch.setattr(main, "get_command", lambda *_: failing)
    plain = CliRunner().invoke(main, ["failing"])
    assert (plain.exit_code, plain.stderr, plain.stdout) == (error.exit_code, "refurbish: told\n", "")
    assert isinstance(CliRunner().invoke(main, ["--debug", "failing"]).exception, error)


def test_a_database_that_is_away_is_told_in_one_line(tmp_path: Path) -> None:
    """Exit code 75 (try again), the reason, the password hidden, no traceback (fault 70)."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REFURBISH_")}
    environment["REFURBISH_DATABASE_URL"] = "postgresql+psycopg://u:canary-5711@127.0.0.1:1/x"
    found = subprocess.run(
        [sys.executable, "-m", "curation.cli", "--home", tmp_path, "db", "current"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 75 and found.stderr.startswith("refurbish: the database did not answer")
    assert found.stderr.count("\n") == 1 and "canary-5711" not in found.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such"], "No such command 'no-such'"),
        (["--config", "no-such.toml", "config"], "no-such.toml does not exist"),
        (["--database-url", "mysql://x", "db", "current"], "database_url starts with 'mysql'"),
        (["--home", "/proc/no-such", "db", "current"], "cannot be made"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_call_says_what_is_wrong(arguments: list[str], words: str) -> None:
    """Exit code 2, and the offending value."""
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 2 and words in found.stderr
