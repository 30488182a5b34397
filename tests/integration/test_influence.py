"""How far suggestions are followed, on both databases."""

import random

import pytest

from curation.release import influence
from curation.store.tables import ReviewItem
from curation.store.workspace import Workspace
from curation.types import BLIND_BATCH, Question
from tests import review_world
from tests.commands import run
from tests.conftest import NOW
from tests.review_world import PATHS, suspect

N = 240


@pytest.mark.parametrize(("share_that_follows", "is_notable"), [(0.8, True), (0.0, False)])
def test_following_suggestions_is_measured_by_those_asked_blind(
    workspace: Workspace, share_that_follows: float, is_notable: bool
) -> None:
    """People who mostly click yes agree with a model that errs more often than those who saw nothing (fault 41)."""
    rng = random.Random(1)
    listings = review_world.catalog(workspace, N)
    doubted, said = [], []
    for at, listing in enumerate(listings):
        true = str(listing.category)
        told = true if rng.random() < 0.6 else PATHS[(PATHS.index(true) + 1) % 4]
        doubted.append(suspect(listing.ref, true, told, 0.9))
        follows = at % 4 != 0 and rng.random() < share_that_follows
        said.append((listing.ref, told if follows else true, "anna"))
    review_world.rank(workspace, Question.CATEGORY, *doubted)
    with workspace.db.write() as session:
        for at, (listing, one) in enumerate(zip(listings, doubted, strict=True)):
            shown = (
                {"batch": BLIND_BATCH} if at % 4 == 0 else {"batch": "b", "suggestion": one.suggested, "suggestion_score": 0.9}
            )
            item = {"question": "category", "state": "pushed", "reasons": [], "priority": 0.5, "n_wanted": 1}
            session.add(ReviewItem(listing_id=listing.id, **item, **shown, created_at=NOW, pushed_at=NOW))
    assert "not measured" in run(workspace, "status").stdout
    review_world.answer_all(workspace, said)
    with workspace.db.read() as session:
        found = influence.measure(session)
    assert found.seen is not None and found.blind is not None and (found.seen.n, found.blind.n) == (180, 60)
    assert found.is_notable is is_notable and 0.4 < found.blind.value < 0.8
    assert ("raise blind_share" in run(workspace, "status").stdout) is is_notable
