"""Catalogs with next to nothing in a category: a run goes on for the others, and says what it cannot tell."""

from datetime import datetime
from typing import Any

import pytest

from curation.release import registry
from curation.store.workspace import Workspace
from tests import commands
from tests.builders import add, record
from tests.integration.test_retrain import TINY, WORDS
from trainer import retrain

PATHS = list(WORDS)


def paths_of(name: str, n: int) -> list[str | None]:
    """The categories of n listings."""
    kinds: dict[str, list[str | None]] = {
        "one category": [PATHS[0]] * n,
        "one example": [PATHS[at % 2] for at in range(n - 1)] + [PATHS[2]],
        "one example and many without": [PATHS[at % 2] if at % 3 else None for at in range(n - 1)] + [PATHS[2]],
    }
    return kinds[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one category", "one example", "one example and many without"])
def test_a_run_over_a_thin_catalog_ends(sqlite_workspace: Workspace, now: datetime, name: str) -> None:
    """With a model, a ranking of all listings, and "not estimable" where there is too little (fault 36)."""
    found: list[Any] = [
        record(f"r{at}", category=path, title=f"{WORDS[path or PATHS[1]]} {at}", photos=())
        for at, path in enumerate(paths_of(name, 48))
    ]
    add(sqlite_workspace, *found)
    report = retrain.run(sqlite_workspace, trigger="thin", now=now, config=TINY)
    assert report["state"] == "promoted" and report["n_classes"] == len(set(paths_of(name, 48)) - {None})
    with sqlite_workspace.db.read() as session:
        assert registry.live_name(session) == report["model"]
    shown = commands.run(sqlite_workspace, "noise")
    assert shown.exit_code == 0 and ("not estimable" in shown.stdout) is (name != "one category")
