"""Snapshots freeze one state of all labels, on both databases."""

import json
import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update

from curation.errors import InputError, IntegrityError, NotFoundError
from curation.release import labels as label_pages
from curation.release import snapshot
from curation.store import labels
from curation.store.tables import Category, CategoryAlias, LabelHistory, LabelRow, SnapshotRow
from curation.store.workspace import Workspace
from curation.types import AnnotationsDeleted, Question
from tests.release_world import PATHS, add_listings, vote


@pytest.fixture
def filled(workspace: Workspace, now: datetime) -> Workspace:
    """Twelve listings; one corrected by two people, one repaired by a run."""
    with workspace.db.write() as session:
        ids = add_listings(session, 12, now=now)
        vote(session, "ad-00000", PATHS[2], now=now)
        vote(session, "ad-00000", PATHS[2], now=now, annotator="bert")
        labels.refurbish(session, Question.CATEGORY, {ids[3]: (PATHS[0], 0.97)}, run_id=5, now=now)
    return workspace


def test_same_state_same_name_and_row(filled: Workspace, now: datetime) -> None:
    """Two snapshots of one state are one snapshot, whenever they are taken."""
    first = snapshot.create(filled, now=now)
    second = snapshot.create(filled, now=now + timedelta(hours=1))
    assert second == first
    assert first.summary["labels"]["category"] == {"moderators": 1, "refurbished": 1, "seller": 10}


def test_both_databases_agree_on_the_name(workspace: Workspace, now: datetime) -> None:
    """The sha256 is over the content alone: it is the same on SQLite, PostgreSQL and next year."""
    with workspace.db.write() as session:
        add_listings(session, 4, now=now)
    assert snapshot.create(workspace, now=now).sha256 == "8a6f78d7cb1c55d7fe3d7270a9ea852a0a10cbd5d77b8dbb31d9b9d58628bccd"


def test_any_change_gives_another_name(filled: Workspace, now: datetime) -> None:
    """One more vote, even one that changes no label, is another state."""
    first = snapshot.create(filled, now=now)
    with filled.db.write() as session:
        vote(session, "ad-00000", PATHS[2], now=now, annotator="carl")
    assert snapshot.create(filled, now=now).sha256 != first.sha256


def test_frame_carries_labels_and_provenance(filled: Workspace, now: datetime) -> None:
    """The frame has one ordered row a listing with value, source, votes and refurbishing run."""
    frame = snapshot.load(filled, snapshot.create(filled, now=now).sha256)
    assert list(frame.columns) == list(snapshot.COLUMNS)
    assert frame["listing_id"].is_monotonic_increasing and len(frame) == 12
    corrected, repaired = frame.iloc[0], frame.iloc[3]
    assert (corrected["seller_category"], corrected["category"]) == (PATHS[0], PATHS[2])
    assert [vote["annotator"] for vote in json.loads(corrected["category_evidence"])["votes"]] == ["anna", "bert"]
    assert (corrected["n_annotators"], frame["run_id"].isna().sum()) == (2, 11)
    assert (repaired["run_id"], repaired["category_source"], repaired["category_confidence"]) == (5, "refurbished", 0.97)


def test_tied_votes_are_kept_beside_the_sellers_label(filled: Workspace, now: datetime) -> None:
    """A tie decides nothing, and the snapshot still shows who said what."""
    with filled.db.write() as session:
        vote(session, "ad-00005", PATHS[0], now=now)
        vote(session, "ad-00005", PATHS[3], now=now, annotator="bert")
    row = snapshot.load(filled, snapshot.create(filled, now=now).sha256).iloc[5]
    assert row["category_source"] == "seller" and row["n_annotators"] == 2
    assert {vote["value"] for vote in json.loads(row["category_evidence"])["votes"]} == {PATHS[0], PATHS[3]}


def test_pages_give_the_same_snapshot(filled: Workspace, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name does not depend on how many listings were read at a time."""
    whole = snapshot.create(filled, now=now)
    with filled.db.read() as session:
        paged = [row for page in label_pages.pages(session, page=5) for row in page]
        assert paged == [row for page in label_pages.pages(session) for row in page]
    assert len(paged) == whole.n_listings


def test_reads_one_state_while_labels_change(filled: Workspace, now: datetime) -> None:
    """A label that changes between two pages is read as it was when the snapshot began."""
    with filled.db.read() as session:
        pages = label_pages.pages(session, page=4)
        next(pages)
        thread = threading.Thread(target=_change_everything, args=(filled,))
        thread.start()
        thread.join()
        rest = [row.category for page in pages for row in page]
    assert "changed" not in rest and len(rest) == 8


def _change_everything(workspace: Workspace) -> None:
    with workspace.db.write() as session:
        session.execute(update(LabelRow).values(value="changed"))


def test_renamed_category_counts_under_its_present_path(filled: Workspace, now: datetime) -> None:
    """Renames of renames are followed in labels and votes; the older snapshot stays as it was (fault 42)."""
    before = snapshot.create(filled, now=now)
    with filled.db.write() as session:
        balls, new = (session.query(Category).filter_by(path=path).one() for path in (PATHS[2], PATHS[1]))
        session.add(CategoryAlias(old_path="Older", category_id=balls.id, at=now))
        session.add(CategoryAlias(old_path=PATHS[2], category_id=new.id, at=now))
        session.execute(update(LabelRow).where(LabelRow.listing_id == 2).values(value="Older"))
    after = snapshot.load(filled, snapshot.create(filled, now=now).sha256)
    assert list(after["category"][[0, 1, 2]]) == [PATHS[1]] * 3
    assert snapshot.load(filled, before.sha256)["category"][0] == PATHS[2]


def test_a_changed_manifest_is_refused(filled: Workspace, now: datetime) -> None:
    """A manifest with one byte changed, or none at all, never reaches a training run (faults 48, 50)."""
    made = snapshot.create(filled, now=now)
    path = snapshot.manifest(filled, made.sha256)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="was changed, restore it"):
        snapshot.load(filled, made.sha256)
    path.unlink()
    with pytest.raises(NotFoundError, match="is gone; restore it"):
        snapshot.load(filled, made.sha256)


def test_a_lost_manifest_is_made_again(filled: Workspace, now: datetime) -> None:
    """While the state is still the same, taking the snapshot again brings the file back."""
    made = snapshot.create(filled, now=now)
    snapshot.manifest(filled, made.sha256).unlink()
    assert snapshot.create(filled, now=now).sha256 == made.sha256
    assert len(snapshot.load(filled, made.sha256)) == 12


def test_names_by_prefix(filled: Workspace, now: datetime) -> None:
    """Eight digits are enough; fewer, others and wildcards are refused."""
    made = snapshot.create(filled, now=now)
    with filled.db.read() as session:
        assert snapshot.get(session, made.sha256[:8]) == made
        for wrong in (made.sha256[:7], "%" * 8, "../../etc", "0" * 64, ""):
            with pytest.raises(NotFoundError):
                snapshot.get(session, wrong)


def test_no_listings_is_said(workspace: Workspace, now: datetime) -> None:
    """An empty catalog has nothing to freeze, and no row or file is left behind."""
    with pytest.raises(InputError, match="run `refurbish ingest` first"):
        snapshot.create(workspace, now=now)
    with workspace.db.read() as session:
        assert session.query(SnapshotRow).count() == 0
    assert not list(workspace.files.root.iterdir())


def test_what_a_run_used_stays_though_its_label_was_taken_back(filled: Workspace, now: datetime) -> None:
    """The label is the seller's again and the next snapshot another one; the run's own still says who said what (fault 44)."""
    used = snapshot.create(filled, now=now)
    with filled.db.write() as session:
        taken_back = AnnotationsDeleted("labelstudio:1", ("ad-00000-anna", "ad-00000-bert"))
        labels.apply_event(session, taken_back, via="cli", now=now + timedelta(minutes=5))
        changes = session.execute(select(LabelHistory.value, LabelHistory.source).where(LabelHistory.listing_id == 1)).all()
    after = snapshot.create(filled, now=now + timedelta(minutes=6))
    before, then = (snapshot.load(filled, one.sha256).iloc[0] for one in (used, after))
    assert after.sha256 != used.sha256 and (then["category"], then["category_source"]) == (PATHS[0], "seller")
    assert (before["category"], before["category_source"]) == (PATHS[2], "moderators")
    assert {vote["annotator"] for vote in json.loads(before["category_evidence"])["votes"]} == {"anna", "bert"}
    assert changes[0] == changes[-1] == (PATHS[0], "seller")
    assert (PATHS[2], "moderators") in changes
