"""What changed between two snapshots: listings added and removed, labels that are others. Read side by side, batch by batch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.types import Question

ADDED, REMOVED, RELABELLED = "added", "removed", "relabelled"
KINDS = (ADDED, REMOVED, RELABELLED)
BATCH = 20_000
COLUMNS = ("listing_id", "ref", *(name for question in Question for name in (question.value, f"{question}_source")))


@dataclass(frozen=True, slots=True)
class Change:
    """One listing that was added or removed (`question` is empty), or one label that is another one, on whose word."""

    kind: str  #: of KINDS
    ref: str
    question: str = ""
    old: str | None = None
    new: str | None = None
    old_source: str | None = None
    new_source: str | None = None


def between(before: Path, after: Path) -> Iterator[Change]:
    """The changes from one snapshot's manifest to a later one's, in the order of the listings.

    A label that is the same on another's word is no change. Both are ordered by listing id, so memory does not grow with them.
    """
    olds, news = _rows(before), _rows(after)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old["listing_id"] < new["listing_id"]):
            yield Change(REMOVED, str((old or {})["ref"]))
            old = next(olds, None)
        elif old is None or new["listing_id"] < old["listing_id"]:
            yield Change(ADDED, str(new["ref"]))
            new = next(news, None)
        else:
            yield from _compared(old, new)
            old, new = next(olds, None), next(news, None)


def _compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    if old["ref"] != new["ref"]:  # SQLite gives the id of a listing that was erased to the next one
        yield Change(REMOVED, str(old["ref"]))
        yield Change(ADDED, str(new["ref"]))
        return
    for question in Question:
        name, source = question.value, f"{question}_source"
        if old[name] != new[name]:
            yield Change(RELABELLED, str(new["ref"]), name, old[name], new[name], old[source], new[source])


def _rows(manifest: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(manifest) as file:
        for batch in file.iter_batches(batch_size=BATCH, columns=list(COLUMNS)):
            yield from batch.to_pylist()
