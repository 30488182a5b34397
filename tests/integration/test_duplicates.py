"""Near-duplicate groups, on both databases."""

from typing import Any

import pytest

from curation.catalog import duplicates
from curation.store.listings import Record
from curation.store.workspace import Workspace
from curation.types import Photo
from tests import builders

LONG = "Solid oak table from a smoke-free home, seats six people, collection only please"


def listing(ref: str, title: str = "", dhash: int | None = None, **changes: Any) -> Record:
    """A listing that is like no other unless told."""
    photos = () if dhash is None else (Photo(f"{dhash:064x}", 32, 32, f"{dhash:016x}"),)
    fields = {"seller_ref": ref, "title": title or ref, "description": ref, "photos": photos}
    return builders.record(ref, **fields | changes)


def groups(workspace: Workspace) -> dict[str, str]:
    """ref → group key after grouping."""
    duplicates.assign_groups(workspace)
    return {found.ref: found.group_key for found in builders.all_listings(workspace)}


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ({"dhash": 0xF0F0, "title": "Oak table"}, {"dhash": 0xF0F3, "title": "Oak table, offers"}, True),
        ({"dhash": 0xF0F0, "title": "Oak table"}, {"dhash": 0xF0F7, "title": "Oak table"}, False),
        ({"dhash": 0xF0F0, "title": "Oak table"}, {"dhash": 0xF0F0, "title": "Winter coat"}, False),
        ({"dhash": 0xF0F0, "title": "Oak table"}, {"dhash": 0xF0F0, "title": "OAK  Table!"}, True),
        ({"title": "Oak table", "seller_ref": "s"}, {"title": "oak table!", "seller_ref": "s", "description": "a"}, True),
        ({"title": "Oak table", "seller_ref": "s"}, {"title": "Oak table", "seller_ref": "t", "description": "a"}, False),
        ({"title": "Oak table", "seller_ref": None}, {"title": "Oak table", "seller_ref": None, "description": "a"}, False),
        ({"title": "Oak table", "description": LONG}, {"title": "Oak table", "description": LONG.upper()}, True),
        ({"title": "Oak table", "description": LONG}, {"title": "Ash table", "description": LONG}, False),
        ({"group_key": "g"}, {"group_key": "g"}, True),
        ({"group_key": "g"}, {"group_key": "h"}, False),
    ],
)
def test_two_listings_are_one_item_or_two(workspace: Workspace, a: dict[str, Any], b: dict[str, Any], alike: bool) -> None:
    """Each rule on its own, with its nearest miss."""
    builders.add(workspace, listing("a", **{"description": "a"} | a), listing("b", **b))
    assert groups(workspace) == {"a": "a", "b": "a" if alike else "b"}


def test_groups_are_connected_and_named_by_the_oldest(workspace: Workspace) -> None:
    """a-b by photo and b-c by text make one group; a later link joins two groups; running again changes nothing."""
    b = listing("b", "Oak table", 7, description=LONG)
    builders.add(workspace, listing("a", "Oak table", 7), b, listing("c", "Oak table", description=LONG))
    builders.add(workspace, listing("x", group_key="g"), listing("y", group_key="g"))
    assert groups(workspace) == {"a": "a", "b": "a", "c": "a", "x": "x", "y": "x"}
    assert duplicates.assign_groups(workspace) == 0
    builders.add(workspace, listing("z", "Oak table", 7, group_key="g"))
    assert set(groups(workspace).values()) == {"a"}


def test_listing_that_changes_leaves_its_group(workspace: Workspace) -> None:
    """Groups follow what the listings say now."""
    builders.add(workspace, listing("a", "Oak table", 7), listing("b", "Oak table", 7))
    assert groups(workspace)["b"] == "a"
    builders.add(workspace, listing("b", "Winter coat", 1 << 40))
    assert groups(workspace)["b"] == "b"


def test_stock_photo_joins_nobody(sqlite_workspace: Workspace) -> None:
    """A picture on more than a hundred listings says nothing, even under similar titles."""
    builders.add(sqlite_workspace, *[listing(f"r{i}", f"Phone case model {i}", 99) for i in range(duplicates.MAX_SHARED + 1)])
    assert duplicates.assign_groups(sqlite_workspace) == 0


def test_empty_catalog_has_no_groups(workspace: Workspace) -> None:
    """Nothing to do is no error."""
    assert duplicates.assign_groups(workspace) == 0
