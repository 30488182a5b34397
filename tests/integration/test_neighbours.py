"""What a task shows beside its listing: verified neighbours, the live model's answer, and reasons of the newest run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from curation.catalog.scorer import Scorer
from curation.labelstudio import tasks
from curation.release import registry
from curation.review import neighbours, queue, suspects
from curation.review.briefing import Briefing
from curation.review.neighbours import Near, reason
from curation.store.tables import ReviewItem
from curation.store.workspace import Workspace
from curation.types import BLIND_BATCH, Question, Reason
from tests import review_world
from tests.builders import add, all_listings, photo, record
from tests.conftest import NOW
from tests.integration.test_embed import released

PATH = "Home / Garden"
N_VERIFIED = 6


def scorer_of(workspace: Workspace) -> Scorer:
    with workspace.db.read() as session:
        model = registry.live(session)
    assert model is not None
    return Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256)


@pytest.fixture
def verified(workspace: Workspace) -> Workspace:
    """A live model, and six listings whose category moderators decided."""
    released(workspace)
    picture = photo(workspace, 3)
    add(
        workspace, *(record(f"v{at}", title=f"garden rake no {at}", category=PATH, photos=(picture,)) for at in range(N_VERIFIED))
    )
    review_world.answer_all(workspace, [(f"v{at}", PATH, "anna") for at in range(N_VERIFIED)])
    return workspace


def ask(workspace: Workspace, ref: str, *reasons: Reason, batch: str = "b") -> queue.Task:
    """Ask about the listing; the task as it would be shown."""
    listing_id = {one.ref: one.id for one in all_listings(workspace)}[ref]
    with workspace.db.write() as session:
        for question in Question:
            said: list[dict[str, Any]] = [{"code": one.code, "score": one.score, "words": one.words} for one in reasons]
            item = {
                "question": question.value,
                "state": "waiting",
                "reasons": said,
                "priority": 0.5,
                "batch": batch,
                "n_wanted": 1,
            }
            session.add(ReviewItem(listing_id=listing_id, **item, created_at=NOW))
    with workspace.db.read() as session:
        (task,) = queue.tasks(session, [listing_id])
    return task


def test_a_task_shows_verified_neighbours_and_the_live_models_answer(verified: Workspace) -> None:
    """Likest first, never itself; how many agree is a reason in words, and pictures go by their name."""
    task = ask(verified, "r0")
    (shown,) = Briefing(verified).complete([task])
    assert shown.suggestion is not None and shown.suggestion.model_version == "det-0001"
    assert {one.ref for one in shown.near} <= {f"v{at}" for at in range(N_VERIFIED)} and len(shown.near) == N_VERIFIED
    found = [one.similarity for one in shown.near]
    assert found == sorted(found, reverse=True)
    assert shown.reasons[-1].words == f"All 6 most similar verified listings are in {PATH}."
    assert tasks.data(shown, "http://x")["similar"].count('<img src="http://x/media/') == tasks.N_SHOWN
    (mine,) = Briefing(verified).complete([ask(verified, "v0")])
    assert "v0" not in {one.ref for one in mine.near}


def test_a_blind_task_shows_none_of_it(verified: Workspace) -> None:
    """Neighbours and reasons would give the answer away as a suggestion does (fault 41)."""
    task = ask(verified, "r0", batch=BLIND_BATCH)
    (shown,) = Briefing(verified).complete([task])
    assert shown == task and PATH not in str(tasks.data(shown, "http://x")["similar"])
    assert tasks.predicted(shown, "v") == {"model_version": "v", "score": 0.5, "result": []}


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with the refs that are embedded from now on."""
    seen: list[str] = []
    original = neighbours.embeddings.embedded

    def watching(scorer: Any, found: Sequence[Any], media: Any) -> Any:
        seen.extend(one.ref for one in found)
        return original(scorer, found, media)

    monkeypatch.setattr(neighbours.embeddings, "embedded", watching)
    return seen


def test_vectors_are_kept_and_added_to(verified: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look embeds only what moderators decided since."""
    scorer = scorer_of(verified)
    first = neighbours.atlas(verified, scorer)
    review_world.answer_all(verified, [("r1", "Home / Lamps", "anna")])
    seen = watched(monkeypatch)
    second = neighbours.atlas(verified, scorer)
    assert seen == ["r1"] and len(second.verified) == len(first.verified) + 1
    assert np.allclose(np.linalg.norm(second.vectors, axis=1), 1, atol=1e-2)
    (file,) = (verified.settings.home / neighbours.FOLDER).iterdir()
    file.write_bytes(b"not a table")
    assert len(neighbours.atlas(verified, scorer).verified) == len(second.verified)


def test_a_listing_that_changed_is_embedded_anew(verified: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that one; its old vector is forgotten."""
    scorer = scorer_of(verified)
    first = neighbours.atlas(verified, scorer)
    add(verified, record("v2", title="a lamp instead", category=PATH))
    seen = watched(monkeypatch)
    second = neighbours.atlas(verified, scorer)
    where = [one.ref for one in second.verified].index("v2")
    assert seen == ["v2"] and len(second.verified) == len(first.verified)
    assert not np.allclose(second.vectors[where], first.vectors[where], atol=1e-2)


def test_one_of_each_near_duplicate_group_counts(workspace: Workspace) -> None:
    """Six copies of one listing are one opinion."""
    released(workspace)
    add(workspace, *(record(f"v{at}", category=PATH, group_key="same") for at in range(6)))
    review_world.answer_all(workspace, [(f"v{at}", PATH, "anna") for at in range(6)])
    assert len(neighbours.atlas(workspace, scorer_of(workspace)).verified) == 1


def test_without_model_or_verified_listings_tasks_stay_as_they_are(workspace: Workspace) -> None:
    """The page says that there is nothing to compare with."""
    add(workspace, record("r0"))
    task = ask(workspace, "r0")
    assert Briefing(workspace).complete([task]) == [task]
    assert tasks.data(task, "http://x")["similar"] == "<p>No verified listing to compare with yet.</p>"


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ("AAAAAAAA", "All 8 most similar verified listings are in A."),
        ("AAAAAAAB", "7 of the 8 most similar verified listings are in A."),
        ("AABBCCDD", "The 8 most similar verified listings are in 4 categories, 2 of them in A."),
        ("AABC", "The 4 most similar verified listings are in 3 categories, 2 of them in A."),
    ],
)
def test_how_many_neighbours_agree_is_said_in_words(categories: str, words: str) -> None:
    """Whatever their mixture."""
    said = reason([Near(f"r{at}", category, 0.5, None) for at, category in enumerate(categories)])
    assert said is not None and said.words == words


def test_too_few_neighbours_say_nothing() -> None:
    """Three listings are no evidence, nor are eight of which no two agree."""
    assert reason([Near(f"r{at}", "A", 0.5, None) for at in range(neighbours.MIN_COUNTED - 1)]) is None
    assert reason([Near(f"r{at}", f"A{at}", 0.5, None) for at in range(neighbours.K)]) is None


def test_reasons_of_an_older_run_give_way_to_those_of_the_newest(workspace: Workspace) -> None:
    """Why a listing was drawn, and what people said, stays; what a model said does not outlive it."""
    review_world.catalog(workspace, 4)
    old = Reason("label_issue", 0.9, "It looked like Sport / Bikes.")
    drawn = Reason("audit", 0.1, "Drawn at random.")
    assert ask(workspace, "r000", old, drawn).reasons == (old, drawn)  # ranked by no run since
    review_world.rank(workspace, Question.CATEGORY, review_world.suspect("r001", "A", "B", 0.8))
    told = [one.code for one in ask(workspace, "r001", old, drawn).reasons]
    assert told == ["audit", "label_issue"] and ask(workspace, "r002", drawn).reasons == (drawn,)


def test_what_text_and_photo_say_alone_is_told_with_a_doubt(workspace: Workspace) -> None:
    """Only where there is a doubt, and only what is sure of something."""
    listings = review_world.catalog(workspace, 40)
    oos = review_world.confident(listings, {"r000": review_world.PATHS[3]})
    heard = {
        ref: suspects.view_reason([("text", "Home / Tools", 0.92), ("photo", "Home / Decor", 0.41)]) for ref in ("r000", "r001")
    }
    views = {ref: one for ref, one in heard.items() if one is not None}
    found = {one.listing_ref: one for one in suspects.categories(listings, review_world.held(listings), oos, views=views)}
    words = "Text alone says Home / Tools (92%), photo alone says Home / Decor (41%)."
    assert [one.words for one in found["r000"].reasons if one.code == suspects.VIEWS] == [words]
    assert found["r001"].reasons == () and suspects.view_reason([("text", "A", 0.1)]) is None
