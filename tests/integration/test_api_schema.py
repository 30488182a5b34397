"""The API by its own document, as each role: no server error, and every answer as described."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.store.people import Role
from curation.store.workspace import Workspace
from tests import api_fuzz
from tests.conftest import _copied, make_workspace


@pytest.fixture
def generous(tmp_path: Path, sqlite_template: Path) -> Iterator[Workspace]:
    """A workspace whose service takes any number of requests."""
    made = make_workspace(tmp_path / "home", _copied(sqlite_template, tmp_path), api_limit=api_fuzz.GENEROUS)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("role", Role)
def test_whatever_is_asked_the_answer_is_as_described(generous: Workspace, role: Role) -> None:
    """Thousands of requests that the document allows or forbids: no 500, the described shape, nothing without a token."""
    with api_fuzz.served(generous) as (app, tokens):
        found = api_fuzz.ask(app, tokens[role], n_examples=12)
    assert found.failures == [] and found.n_server_errors == 0
    assert found.statuses.total() > 150 and {200, 400} <= found.statuses.keys()
    assert (403 in found.statuses) == (role is Role.MODERATOR)
