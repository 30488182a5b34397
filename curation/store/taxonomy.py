"""The taxonomy tree: paths such as ``"Home / Garden / Tools"``, their nodes, and their former names."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from curation.store.jobs import insert_new
from curation.store.tables import Category, CategoryAlias
from curation.types import PATH_SEPARATOR

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Node:
    """One category as it is called now."""

    id: int
    path: str


IN_LIMIT = 5_000
"""Values in one IN list; SQLite allows 32,766 variables and PostgreSQL 65,535."""

Tree = dict[str, Any]
"""Nested: name → its children, each again a Tree; a leaf has none."""


def leaves(session: Session) -> tuple[str, ...]:
    """All leaf paths, sorted."""
    return tuple(sorted(session.execute(select(Category.path).where(Category.is_leaf.is_(True))).scalars()))


def paths(session: Session) -> frozenset[str]:
    """The paths of all nodes, leaves and not."""
    return frozenset(session.execute(select(Category.path)).scalars())


def known(session: Session) -> frozenset[str]:
    """Every name a category can be called by: the present paths and the former ones."""
    return paths(session) | frozenset(session.execute(select(CategoryAlias.old_path)).scalars())


def tree(found: Iterable[str]) -> Tree:
    """The paths as nested dicts, names sorted at each level."""
    root: Tree = {}
    for path in sorted(found, key=lambda path: path.split(PATH_SEPARATOR)):
        node = root
        for name in path.split(PATH_SEPARATOR):
            node = node.setdefault(name, {})
    return root


def resolve(session: Session, path: str) -> str | None:
    """The present path of a category, also under a former name; None if it is unknown."""
    renamed = (
        select(Category.path).join(CategoryAlias, CategoryAlias.category_id == Category.id).where(CategoryAlias.old_path == path)
    )
    present = select(Category.path).where(Category.path == path)
    return session.execute(renamed).scalar_one_or_none() or session.execute(present).scalar_one_or_none()


def ensure(session: Session, wanted: Collection[str]) -> dict[str, Node]:
    """The category of each path; nodes that are not there are created, parents first.

    A former name stands for the node it was renamed to or merged into and is not created again.
    """
    found = _nodes(session, wanted)
    missing = sorted(set(wanted) - found.keys())
    if not missing:
        return found
    lineage = {path: _lineage(path) for path in missing}
    for depth in range(max(map(len, lineage.values()))):
        _create_level(session, {nodes[depth] for nodes in lineage.values() if len(nodes) > depth})
    return found | _nodes(session, missing)


def chunks(values: Iterable[T], size: int = IN_LIMIT) -> Iterator[Sequence[T]]:
    """The values in lists of at most `size`."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


def _lineage(path: str) -> list[str]:
    """The path's ancestors from the root on, then the path itself."""
    names = path.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(names[: depth + 1]) for depth in range(len(names))]


def _create_level(session: Session, nodes: set[str]) -> None:
    """Nodes of one depth, whose parents are there."""
    missing = sorted(nodes - _nodes(session, nodes).keys())
    parents = _nodes(session, {_parent(path) for path in missing} - {""})
    parent_ids = {path: parents[_parent(path)].id if _parent(path) else None for path in missing}
    rows = [
        {"path": path, "name": path.rpartition(PATH_SEPARATOR)[2], "parent_id": parent_ids[path], "is_leaf": True}
        for path in missing
    ]
    insert_new(session, Category, rows, ["path"])
    grown = (
        update(Category)
        .where(Category.id.in_({node.id for node in parents.values()}), Category.is_leaf.is_(True))
        .values(is_leaf=False)
    )
    session.execute(grown, execution_options={"synchronize_session": False})


def _parent(path: str) -> str:
    return path.rpartition(PATH_SEPARATOR)[0]


def _nodes(session: Session, wanted: Collection[str]) -> dict[str, Node]:
    """The nodes of those paths that are there, now or under a former name."""
    present = select(Category.path, Category.id, Category.path)
    former = select(CategoryAlias.old_path, Category.id, Category.path).join(Category, CategoryAlias.category_id == Category.id)
    found: dict[str, Node] = {}
    for part in chunks(wanted):
        for query in (present.where(Category.path.in_(part)), former.where(CategoryAlias.old_path.in_(part))):
            found.update((called, Node(key, path)) for called, key, path in session.execute(query))
    return found
