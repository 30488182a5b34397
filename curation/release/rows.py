"""One exported row a listing: the snapshot's labels joined with the listing's content."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.store.db import dump_json
from curation.store.tables import ListingRow
from curation.types import Question

BATCH = 10_000
"""Listings in memory at a time."""

VOTE_FIELDS = ("annotator", "value", "at", "origin", "annotation")
"""What is exported of a vote; `annotation` is its number in the annotation log, the rest is text."""

Row = dict[str, Any]


class Kind(StrEnum):
    """How a column is stored in each format."""

    #: free text
    TEXT = "text"
    #: text of few distinct values; dictionary-encoded in Parquet
    LABEL = "label"
    #: a finite float
    NUMBER = "number"
    #: a whole number
    INTEGER = "integer"
    #: JSON text; an object in JSONL
    JSON = "json"
    #: a list of names; joined by ``|`` in CSV
    NAMES = "names"
    #: a list of {annotator, value, at, origin, annotation}; JSON text in CSV
    VOTES = "votes"


class Content(StrEnum):
    """Whether the listing still is what the snapshot saw."""

    SAME = "same"
    #: its seller changed something about it since
    CHANGED = "changed"
    #: it is gone; only its labels are left
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Column:
    """A column's kind and what it means, for the manifest and the card."""

    kind: Kind
    words: str


def _label_columns(question: Question) -> dict[str, Column]:
    return {
        f"{question}": Column(Kind.LABEL, "resolved value; missing = unlabelled"),
        f"{question}_source": Column(Kind.LABEL, "who stands behind it: seller, report, refurbished or moderators"),
        f"{question}_confidence": Column(Kind.NUMBER, "in [0, 1]; missing for a seller's or reporter's label"),
        f"{question}_rule": Column(Kind.LABEL, "how it was decided: majority, crowd or refurbished"),
        f"{question}_run": Column(Kind.INTEGER, "training run that repaired it"),
        f"{question}_votes": Column(Kind.VOTES, "the moderators' current answers, oldest first"),
    }


COLUMNS: Mapping[str, Column] = {
    "ref": Column(Kind.TEXT, "the listing's id in the catalog"),
    "title": Column(Kind.TEXT, "seller's title"),
    "description": Column(Kind.TEXT, "seller's description"),
    "price": Column(Kind.NUMBER, "asking price in `currency`"),
    "currency": Column(Kind.LABEL, "currency code"),
    "attributes": Column(Kind.JSON, "further fields of the listing, as an object"),
    "photos": Column(Kind.NAMES, "photo files, `<sha256>.jpg`; with images they lie in images/<first two digits>/"),
    "seller_category": Column(Kind.LABEL, "category the seller picked"),
    **_label_columns(Question.CATEGORY),
    **_label_columns(Question.VIOLATION),
    "n_annotators": Column(Kind.INTEGER, "people who answered either question"),
    "split": Column(Kind.LABEL, "train, validation or test; whole near-duplicate groups"),
    "group": Column(Kind.TEXT, "near-duplicates share it"),
    "content": Column(Kind.LABEL, "same, changed or erased since the snapshot"),
}
"""Every format has these columns, in this order; an export of one question lacks the other's."""


def columns_of(questions: Collection[Question]) -> Mapping[str, Column]:
    """The columns of an export of these questions."""
    dropped = {name for question in Question if question not in questions for name in _label_columns(question)}
    return {name: column for name, column in COLUMNS.items() if name not in dropped}


def read(session: Session, manifest: Path, batch: int = BATCH) -> Iterator[list[Row]]:
    """The snapshot's listings in batches, in the order of the snapshot; never one missing, never one more."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(manifest) as file:
        for states in file.iter_batches(batch_size=batch):
            frozen = states.to_pylist()
            contents = _contents(session, frozen[0]["listing_id"], frozen[-1]["listing_id"])
            yield [_row(state, contents.get(state["listing_id"])) for state in frozen]


def _contents(session: Session, first_id: int, last_id: int) -> dict[int, Any]:
    wanted = (
        ListingRow.id,
        ListingRow.title,
        ListingRow.description,
        ListingRow.price,
        ListingRow.currency,
        ListingRow.attributes,
        ListingRow.images,
        ListingRow.content_sha256,
    )
    return {row.id: row for row in session.execute(select(*wanted).where(ListingRow.id.between(first_id, last_id)))}


def _row(state: Mapping[str, Any], listing: Any | None) -> Row:
    return {
        "ref": state["ref"],
        **_listing_fields(listing),
        "seller_category": state["seller_category"],
        **_label_fields(state, Question.CATEGORY),
        **_label_fields(state, Question.VIOLATION),
        "n_annotators": state["n_annotators"],
        "split": state["split"],
        "group": state["group_key"],
        "content": _content(state["content_sha256"], listing).value,
    }


def _listing_fields(listing: Any | None) -> Row:
    if listing is None:
        return {"title": None, "description": None, "price": None, "currency": None, "attributes": None, "photos": []}
    return {
        "title": listing.title,
        "description": listing.description,
        "price": listing.price,
        "currency": listing.currency,
        "attributes": dump_json(listing.attributes),
        "photos": [f"{photo['sha256']}.jpg" for photo in listing.images],
    }


def _label_fields(state: Mapping[str, Any], question: Question) -> Row:
    evidence = json.loads(state[f"{question}_evidence"] or "{}")
    return {
        f"{question}": state[question.value],
        f"{question}_source": state[f"{question}_source"],
        f"{question}_confidence": state[f"{question}_confidence"],
        f"{question}_rule": evidence.get("rule"),
        f"{question}_run": evidence.get("run"),
        f"{question}_votes": [{name: vote.get(name) for name in VOTE_FIELDS} for vote in evidence.get("votes", [])],
    }


def _content(sha256: str, listing: Any | None) -> Content:
    if listing is None:
        return Content.ERASED
    return Content.SAME if listing.content_sha256 == sha256 else Content.CHANGED
