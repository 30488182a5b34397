"""A full retrain after a violation was added: who decided before could not have said it, and denies nothing."""

from datetime import datetime, timedelta

import numpy as np
import pytest
import torch

from curation.catalog import reports
from curation.release import snapshot
from curation.store import labels, violations
from curation.store.labels import Resolved
from curation.store.workspace import Workspace
from curation.types import NO_VIOLATION, LabelSource, Question
from tests.builders import add, all_listings
from tests.integration.test_addition import TINY, listed
from trainer import given, retrain
from trainer.data import Targets
from trainer.given import Stages
from trainer.processes import ALONE

TICKETS = "fake_tickets"
N, N_OLD, N_REPORTED = 210, 150, 8


def decide(workspace: Workspace, now: datetime, numbers: range, said: str) -> None:
    """Moderators decide these listings: every fourth, which sells a ticket, is `said`."""
    with workspace.db.write() as session:
        for listing in all_listings(workspace):
            if (number := int(listing.ref[1:])) in numbers:
                found = Resolved(NO_VIOLATION if number % 4 else said, LabelSource.MODERATORS, 1.0, {})
                labels.set_label(session, listing.id, Question.VIOLATION, found, now=now)


def catalog(workspace: Workspace, now: datetime) -> None:
    """150 listings decided the day before tickets became a violation, 60 after; users reported the first eight tickets."""
    add(workspace, *listed(N))
    decide(workspace, now - timedelta(days=1), range(N_OLD), NO_VIOLATION)
    with workspace.db.write() as session:
        violations.add(session, workspace.settings, TICKETS, "Fake tickets", now=now)
        reports.note(session, TICKETS, {f"r{4 * at}": "" for at in range(N_REPORTED)}, now=now)
    decide(workspace, now + timedelta(hours=1), range(N_OLD, N), TICKETS)


def targets(workspace: Workspace, now: datetime) -> Targets:
    """What a run would learn from, in the order of the listings."""
    found = snapshot.create(workspace, now=now)
    return given.read(workspace, found.sha256, TINY, torch.device("cpu"), Stages(lambda: False), ALONE).wanted


def test_earlier_decisions_deny_no_later_violation(workspace: Workspace, now: datetime) -> None:
    """They weigh as what nobody looked at, or as a report; about the other violations they say what they said."""
    catalog(workspace, now)
    wanted, number = targets(workspace, now), np.array([int(one.ref[1:]) for one in all_listings(workspace)])
    at, is_old, is_ticket = wanted.violations.index(TICKETS), number < N_OLD, number % 4 == 0
    is_reported = is_ticket & (number < 4 * N_REPORTED)
    assert np.array_equal(wanted.is_asked[:, at], ~is_old) and np.delete(wanted.is_asked, at, 1).all()
    assert np.array_equal(wanted.violation[:, at] > 0, is_reported | (is_ticket & ~is_old))
    weak = np.where(is_reported, TINY.reported_weight, TINY.unreported_weight)
    assert wanted.violation_weight[:, at] == pytest.approx(np.where(is_old, weak, TINY.verified_weight))
    assert (np.delete(wanted.violation_weight, at, 1) == np.float32(TINY.verified_weight)).all()


def test_who_decides_again_has_been_asked(sqlite_workspace: Workspace, now: datetime) -> None:
    """The newest word counts; a label that names the violation knew of it, whenever it was given."""
    catalog(sqlite_workspace, now)
    decide(sqlite_workspace, now + timedelta(hours=2), range(40, 44), TICKETS)  # r41 to r43 keep their label and its time
    decide(sqlite_workspace, now - timedelta(days=2), range(44, 45), TICKETS)
    wanted = targets(sqlite_workspace, now)
    asked = wanted.is_asked[:, wanted.violations.index(TICKETS)]
    assert asked[[40, 44]].all() and not asked[[39, 41, 45]].any()


@pytest.mark.slow
def test_a_full_retrain_is_judged_by_who_could_have_said_it(workspace: Workspace, now: datetime) -> None:
    """Figures and threshold of the added violation come from later decisions, the others' from all of them."""
    catalog(workspace, now)
    report = retrain.run(workspace, trigger="test", now=now, config=TINY)["challenger"]["violations"]
    n = {name: one["n"] for name, one in report.items()}
    assert 0 < n.pop(TICKETS) < min(n.values()) / 2
    assert report[TICKETS]["threshold"]["n"] < N - N_OLD


def test_what_was_decided_after_the_snapshot_denies_nothing_in_it(workspace: Workspace, now: datetime) -> None:
    """A run that was lost goes on with its snapshot, in which nobody could have named what was added and decided later."""
    add(workspace, *listed(N))
    vote(workspace, now - timedelta(days=1), NO_VIOLATION)
    before = snapshot.create(workspace, now=now)
    with workspace.db.write() as session:
        violations.add(session, workspace.settings, TICKETS, "Fake tickets", now=now)
    vote(workspace, now + timedelta(hours=1), TICKETS)
    wanted = given.read(workspace, before.sha256, TINY, torch.device("cpu"), Stages(lambda: False), ALONE).wanted
    at = wanted.violations.index(TICKETS)
    assert not wanted.is_asked[:, at].any() and np.delete(wanted.is_asked, at, 1).all() and not wanted.violation[:, at].any()
    assert targets(workspace, now + timedelta(hours=2)).is_asked.all()


def vote(workspace: Workspace, at: datetime, said: str) -> None:
    """One moderator decides everything so."""
    with workspace.db.write() as session:
        for listing in all_listings(workspace):
            found = Resolved(said, LabelSource.MODERATORS, 1.0, {"votes": [{"annotator": "ada", "at": at.isoformat()}]})
            labels.set_label(session, listing.id, Question.VIOLATION, found, now=at)
