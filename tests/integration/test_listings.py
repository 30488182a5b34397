"""Listings, their taxonomy and their given labels, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from curation.errors import InputError
from curation.store import labels, listings, taxonomy
from curation.store.labels import Resolved
from curation.store.listings import Counts
from curation.store.tables import Category, CategoryAlias, LabelHistory
from curation.store.workspace import Workspace
from curation.types import LabelEvent, LabelSource, Origin, Outcome, Question
from tests import builders
from tests.conftest import NOW

LATER = NOW + timedelta(hours=1)


def put(workspace: Workspace, *found: listings.Record, now: datetime = LATER) -> Counts:
    """Upsert in a transaction of its own."""
    with workspace.db.write() as session:
        return listings.upsert(session, found, now=now)


def n_history(workspace: Workspace) -> int:
    """How many label changes are remembered."""
    with workspace.db.read() as session:
        return session.execute(select(func.count()).select_from(LabelHistory)).scalar_one()


def test_everything_a_record_says_comes_back(workspace: Workspace) -> None:
    """A stored listing is the record, with an id and a group of its own."""
    photo = builders.photo(workspace)
    said = builders.record(
        photos=(photo,), flags=("counterfeit",), attributes={"n": 1.5, "é": ["x"]}, listed_at=datetime(2025, 1, 2, tzinfo=UTC)
    )
    builders.add(workspace, said)
    [found] = builders.all_listings(workspace)
    for name in ("ref", "seller_ref", "title", "description", "price", "currency", "attributes", "photos", "category", "flags"):
        assert getattr(found, name) == getattr(said, name)
    assert found.listed_at == said.listed_at and found.group_key == "r1"


def test_same_records_twice_change_nothing(workspace: Workspace) -> None:
    """The second write counts all as the same and leaves no history."""
    found = builders.records(30, flags=("counterfeit",))
    assert put(workspace, *found) == Counts(n_new=30)
    before = builders.all_listings(workspace), n_history(workspace)
    assert put(workspace, *found) == Counts(n_same=30)
    assert (builders.all_listings(workspace), n_history(workspace)) == before


def test_mixed_batch_is_counted_apart(workspace: Workspace) -> None:
    """New, changed and same records of one batch are told apart."""
    found = builders.records(3)
    put(workspace, *found[:2])
    assert put(workspace, found[0], replace(found[1], price=1.0), found[2]) == Counts(1, 1, 1)
    assert [listing.price for listing in builders.all_listings(workspace)] == [12.5, 1.0, 12.5]


def test_a_ref_twice_in_one_batch_is_refused(workspace: Workspace) -> None:
    """Which of the two would win must not be left to chance."""
    with pytest.raises(InputError, match="'r1' comes twice in one batch"):
        put(workspace, builders.record(), builders.record(price=1.0))


def test_sellers_label_follows_the_seller(workspace: Workspace) -> None:
    """While nobody else spoke, the label is what the seller says now, and each change is kept."""
    put(workspace, builders.record(flags=("counterfeit",)))
    assert builders.label(workspace, "r1", Question.VIOLATION) == ("counterfeit", "report")
    put(workspace, builders.record(category="Toys"))
    assert builders.label(workspace, "r1") == ("Toys", "seller")
    assert builders.label(workspace, "r1", Question.VIOLATION) is None
    put(workspace, builders.record(category=None))
    assert builders.label(workspace, "r1") is None and n_history(workspace) == 5


@pytest.mark.parametrize("source", [LabelSource.MODERATORS, LabelSource.REFURBISHED])
def test_stronger_source_is_never_touched(workspace: Workspace, source: LabelSource) -> None:
    """A seller who edits the listing does not overrule moderators or a repair."""
    ids = builders.add(workspace, builders.record())
    with workspace.db.write() as session:
        labels.set_label(session, ids["r1"], Question.CATEGORY, Resolved("Toys", source, 0.9, {}), now=NOW)
    assert put(workspace, builders.record(category="Home / Kitchen")) == Counts(n_changed=1)
    assert builders.label(workspace, "r1") == ("Toys", source.value)


def test_annotations_that_came_first_are_adopted(workspace: Workspace) -> None:
    """A decision on a listing that was not here yet becomes its label when it comes."""
    event = LabelEvent(
        "labelstudio:1", "9", "t", "r1", Question.CATEGORY, Outcome.LABEL, "Toys", "7", NOW, "0" * 16, Origin.MANUAL, 9.0
    )
    with workspace.db.write() as session:
        assert labels.apply_event(session, event, via="webhook", now=NOW).outcome == "orphan"
    put(workspace, builders.record())
    assert builders.label(workspace, "r1") == ("Toys", "moderators")


def test_pages_and_selections_hold_every_listing_once(workspace: Workspace) -> None:
    """Keyset pages cover all; refs and ids select without a hidden limit."""
    ids = builders.add(workspace, *builders.records(25))
    with workspace.db.read() as session:
        found = [listing.ref for page in listings.pages(session, size=7) for listing in page]
        assert sorted(found) == sorted(ids) and listings.count(session) == 25
        assert len(listings.load(session, refs=[*ids, "nobody"])) == 25
        assert [one.ref for one in listings.load(session, ids=[ids["r3"]])] == ["r3"]
        assert listings.load(session, refs=[]) == [] and listings.id_by_ref(session, ["nobody"]) == {}
        assert len(listings.load(session, limit=4)) == 4


def test_taxonomy_grows_whatever_the_order(workspace: Workspace) -> None:
    """A node is a leaf only while it has no children."""
    with workspace.db.write() as session:
        taxonomy.ensure(session, ["Home", "Home / Garden / Rakes"])
        taxonomy.ensure(session, ["Home / Garden", "Toys"])
        assert taxonomy.leaves(session) == ("Home / Garden / Rakes", "Toys")
        assert taxonomy.tree(taxonomy.leaves(session)) == {"Home": {"Garden": {"Rakes": {}}}, "Toys": {}}


def test_former_name_stands_for_the_present_one(workspace: Workspace) -> None:
    """A listing under a renamed category gets the new name and does not bring the old one back."""
    with workspace.db.write() as session:
        node = taxonomy.ensure(session, ["Home / Garden"])["Home / Garden"]
        session.add(CategoryAlias(old_path="Home / Yard", category_id=node.id, at=NOW))
    put(workspace, builders.record(category="Home / Yard"))
    assert builders.label(workspace, "r1") == ("Home / Garden", "seller")
    with workspace.db.read() as session:
        assert taxonomy.resolve(session, "Home / Yard") == "Home / Garden"
        assert taxonomy.resolve(session, "Nowhere") is None
        assert taxonomy.paths(session) == {"Home", "Home / Garden"}


def test_merged_category_counts_under_its_new_node(workspace: Workspace) -> None:
    """Where the old node still exists, the mapping row still wins (fault 42)."""
    with workspace.db.write() as session:
        nodes = taxonomy.ensure(session, ["Toys", "Games"])
        session.add(CategoryAlias(old_path="Games", category_id=nodes["Toys"].id, at=NOW))
        session.execute(update(Category).where(Category.path == "Games").values(is_leaf=False))
        session.flush()
        assert taxonomy.resolve(session, "Games") == "Toys" == taxonomy.ensure(session, ["Games"])["Games"].path


def test_two_ingests_at_once_write_each_listing_once(workspace: Workspace) -> None:
    """The same records from two threads in opposite orders: one of the two counts each as new."""
    found = builders.records(200)
    with ThreadPoolExecutor(2) as threads:
        runs = [
            threads.submit(workspace.db.retrying, lambda session, part=part: listings.upsert(session, part, now=NOW))
            for part in (found, found[::-1])
        ]
        counts = [run.result() for run in runs]
    assert sum((one for one in counts), Counts()) == Counts(n_new=200, n_same=200)
    assert len(builders.all_listings(workspace)) == 200 and n_history(workspace) == 200
