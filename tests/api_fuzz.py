"""The API, asked by schemathesis everything that its own OpenAPI document allows and much that it forbids, in this process."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from unittest.mock import patch

from flask import Flask
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import openapi
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from curation.store import tokens
from curation.store.people import Role
from curation.store.service_tables import ExportRow
from curation.store.workspace import Workspace
from curation.types import Question
from tests import api_world, review_world
from tests.conftest import NOW
from webhooks import limits, service
from webhooks.app import create_app

DOCUMENT = "/api/v1/openapi.json"
GENEROUS = "1000000/second"
"""A limit on requests that no run of ours reaches: 429 everywhere would test nothing."""


@dataclass
class Found:
    """What came of it: how many answers by status, and what was wrong with any of them."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def n_server_errors(self) -> int:
        """Answers that say it was our fault, but for 503, by which the service says what is missing."""
        return sum(n for status, n in self.statuses.items() if status >= 500 and status != 503)


@contextmanager
def served(workspace: Workspace) -> Iterator[tuple[Flask, Mapping[Role, str]]]:
    """The service over a world with something in each list, and a token of each role."""
    listings = review_world.catalog(workspace, 4)
    review_world.finish_run(workspace, review_world.confident(listings))
    review_world.rank(workspace, Question.CATEGORY, review_world.suspect("r001", review_world.PATHS[1], "Sport / Bikes", 0.9))
    api_world.promote(workspace)
    with workspace.db.write() as session:
        session.add(ExportRow(format="csv", state="ready", manifest={"n": 4}, by="x", created_at=NOW, finished_at=NOW))
        by_role = {role: tokens.create(session, role.value, role, now=NOW) for role in Role}
    with patch.object(limits, "STRANGERS", GENEROUS):
        app = create_app(workspace)
    try:
        yield app, by_role
    finally:
        service.of(app).close()


def ask(app: Flask, token: str, *, n_examples: int, explore: bool = False) -> Found:
    """Ask every operation `n_examples` times for each way of asking, all checks of schemathesis on each answer but one.

    A schema cannot say which cursor is one of a list or which sha256 is stored, so a request may fit it and be refused.

    `explore`: other requests each time; else always the same.
    """
    found = Found()
    headers = {"Authorization": f"Bearer {token}"}
    for one in _schema(app, headers).get_all_operations():
        operation = one.ok()
        for mode in GenerationMode:
            _ask(operation, mode, headers, found, n_examples, explore)
    return found


def _schema(app: Flask, headers: Mapping[str, str]) -> BaseSchema:
    generation = GenerationConfig(with_security_parameters=False)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    return openapi.from_wsgi(DOCUMENT, app, config=config, headers=dict(headers))


def _ask(
    operation: APIOperation, mode: GenerationMode, headers: Mapping[str, str], found: Found, n_examples: int, explore: bool
) -> None:
    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        derandomize=not explore,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Case) -> None:
        assume(all(value not in ({}, []) for value in (case.query or {}).values()))  # these leave nothing in an address
        answer = case.call(headers=dict(headers))
        found.statuses[answer.status_code] += 1
        case.validate_response(answer, headers=dict(headers), excluded_checks=[positive_data_acceptance])

    try:
        with suppress(Unsatisfiable):  # an operation without arguments has nothing that could be wrong
            each()
    except FailureGroup as error:
        found.failures.append(f"{operation.label}, {mode.value}: {error}")
