"""`refurbish` commands on a workspace, as a user types them."""

import json
from typing import Any

from click.testing import CliRunner, Result

from curation.cli import main
from curation.store.workspace import Workspace


def run(workspace: Workspace, *words: object) -> Result:
    """One command; nothing but expected errors may come out."""
    flags = ["--home", str(workspace.settings.home), "--database-url", workspace.settings.url]
    found = CliRunner().invoke(main, [*flags, *map(str, words)])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.output
    return found


def run_json(workspace: Workspace, *words: object) -> dict[str, Any]:
    """What a command prints with --json."""
    result = run(workspace, *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found
