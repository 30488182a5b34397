"""Every request gets along with one connection to the database: two at once would stop all of them when the pool is empty."""

import threading
from collections import Counter
from contextlib import ExitStack
from datetime import datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from curation.release import exports
from curation.store.people import Role
from curation.store.workspace import Workspace
from curation.types import Question
from tests import api_world, review_world
from tests.page_client import as_role
from webhooks import service

ADDRESSES = (
    "/",
    "/account",
    "/quality",
    "/quality?question=violation",
    "/quality?branch=Home",
    "/quality?branch=nowhere",
    "/quality/cell?given=Home&true=Sport",
    "/quality/cell?outside=Home",
    "/suspects",
    "/suspects?table=doubted&as=csv",
    "/reports",
    "/runs",
    "/runs/1",
    "/models",
    "/models?table=models&as=csv",
    "/exports",
    "/exports/1",
    "/listing?q=rake",
    "/listing/r001",
    "/api/v1/status",
    "/api/v1/suspects",
    "/api/v1/labels?ref=r001",
    "/api/v1/listings/r001",
    "/api/v1/runs",
    "/readyz",
    "/metrics",
)


@pytest.fixture
def client(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """An engineer's client over a workspace where every page has something to show."""
    review_world.catalog(workspace, 8)
    review_world.draw(workspace, ["r000", "r001"])
    review_world.answer_all(workspace, [("r000", review_world.PATHS[1], "anna"), ("r001", review_world.PATHS[1], "bela")])
    review_world.rank(workspace, Question.CATEGORY, review_world.suspect("r002", *review_world.PATHS[2:4], 0.9))
    api_world.promote(workspace)
    with workspace.db.write() as session:
        exports.ask(session, "csv", by="ada", now=now)
    return as_role(app, workspace, Role.ENGINEER, now)


def test_no_request_holds_two_connections(client: FlaskClient, workspace: Workspace) -> None:
    """On no page and in no operation does a thread take a second connection while it holds the first."""
    held, most = Counter[int](), Counter[str]()

    @event.listens_for(workspace.db.engine, "checkout")
    def taken(*_: object) -> None:
        held[threading.get_ident()] += 1
        most[address] = max(most[address], held[threading.get_ident()])

    @event.listens_for(workspace.db.engine, "checkin")
    def given(*_: object) -> None:
        held[threading.get_ident()] -= 1

    for address in ADDRESSES:
        assert client.get(address, headers={"Accept": "text/html"}, buffered=True).status_code in (200, 404), address
    assert {address: n for address, n in most.items() if n > 1} == {}


def test_one_connection_is_enough(client: FlaskClient, workspace: Workspace) -> None:
    """Where all others of the pool are in use the quality pages answer, instead of waiting for each other."""
    pool = workspace.db.engine.pool
    service.of(client.application).keeper.close()
    with ExitStack() as stack:
        for _ in range(pool.size() + pool._max_overflow - 1):  # type: ignore[attr-defined]
            stack.enter_context(workspace.db.engine.connect())
        found = {address: client.get(address).status_code for address in ADDRESSES if address.startswith("/quality")}
    assert found == {address: 404 if "nowhere" in address else 200 for address in found}
