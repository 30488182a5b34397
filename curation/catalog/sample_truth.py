"""The sample's truth: written beside the catalog, read only to score what the system made of it."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from curation.errors import InputError, shorten


@dataclass(frozen=True, slots=True)
class Row:
    """The truth about one listing. `violation`: a canonical answer such as ``none``; `repost_of`: an id or ``""``."""

    id: str
    category: str
    violation: str
    is_wrong: bool  #: the seller's category is not `category`
    repost_of: str


@dataclass(frozen=True, slots=True)
class Truth:
    """All rows of a truth file, by listing ref."""

    category: Mapping[str, str]  #: full path
    violation: Mapping[str, str]  #: ``none`` or names joined by ``|``
    is_wrong: Mapping[str, bool]
    repost_of: Mapping[str, str]  #: reposts only → the ref of the original

    def group_of(self, ref: str) -> str:
        """The ref of the original of a repost, its own ref otherwise: what must stay on one side of a split."""
        return self.repost_of.get(ref, ref)


class Writing:
    """An open truth file."""

    def __init__(self, table: "csv.DictWriter[str]") -> None:
        self._table = table

    def write(self, row: Row) -> None:
        self._table.writerow(asdict(row) | {"is_wrong": int(row.is_wrong)})


@contextmanager
def writing(path: Path) -> Iterator[Writing]:
    """A truth file with its header, open for rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        yield Writing(table)


def load(path: Path) -> Truth:
    """Read a truth file. Raises InputError if it is missing or is not one."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"truth file {path} does not exist; only generated catalogs have one (refurbish sample)") from None
    missing = {field.name for field in fields(Row)} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"truth file {path} lacks column {shorten(sorted(missing))} or has no rows; generate the sample again")
    return Truth(
        category={row["id"]: row["category"] for row in rows},
        violation={row["id"]: row["violation"] for row in rows},
        is_wrong={row["id"]: row["is_wrong"] == "1" for row in rows},
        repost_of={row["id"]: row["repost_of"] for row in rows if row["repost_of"]},
    )


def score_labels(truth: Truth, labels: Mapping[str, str]) -> float:
    """Share of these category labels (ref → path) that are wrong, in [0, 1]. Raises InputError on refs without truth."""
    unknown = [ref for ref in labels if ref not in truth.category]
    if unknown or not labels:
        words = f"no truth about {shorten(unknown[0])}" if unknown else "no labels to score"
        raise InputError(f"{words}; labels and truth must come from the same catalog")
    return sum(truth.category[ref] != value for ref, value in labels.items()) / len(labels)
