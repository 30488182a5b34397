"""The listings of a snapshot with their labels, in one order for features, targets and predictions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curation.errors import IntegrityError, shorten
from curation.store import listings
from curation.store.workspace import Workspace
from curation.types import LabelSource, Listing, Split

if TYPE_CHECKING:
    import pandas as pd

Label = tuple[str, LabelSource]


@dataclass(frozen=True, slots=True)
class SnapshotRows:
    """N listings ordered by id, as the snapshot labels them."""

    listings: tuple[Listing, ...]
    refs: tuple[str, ...]
    groups: tuple[str, ...]
    splits: NDArray[np.str_]  #: (N,)
    category: tuple[Label | None, ...]
    violation: tuple[Label | None, ...]
    alone: tuple[str | None, ...] = ()  #: who decided the category with nobody else, None = a model, nobody or several
    voted_at: tuple[datetime | None, ...] = ()  #: when the last vote on violations was cast, None = none is kept

    def __len__(self) -> int:
        return len(self.refs)

    def of(self, split: Split) -> NDArray[np.int64]:
        """Rows of this split."""
        return np.flatnonzero(self.splits == split.value)

    def labels(self) -> tuple[Mapping[str, Label], Mapping[str, Label]]:
        """Category and violation label by ref, of those that have one."""
        category, violation = (
            {ref: label for ref, label in zip(self.refs, found, strict=True) if label}
            for found in (self.category, self.violation)
        )
        return category, violation


def load(workspace: Workspace, frame: "pd.DataFrame") -> SnapshotRows:
    """The rows of a snapshot's frame. Raises IntegrityError if one of its listings is gone."""
    ids = frame["listing_id"].tolist()
    with workspace.db.read() as session:
        by_id = {listing.id: listing for page in listings.pages(session) for listing in page}
    gone = [ref for listing_id, ref in zip(ids, frame["ref"], strict=True) if listing_id not in by_id]
    if gone:
        raise IntegrityError(f"{len(gone)} listings of the snapshot are gone, {shorten(gone)}; restore them or start a new run")
    return SnapshotRows(
        listings=tuple(by_id[listing_id] for listing_id in ids),
        refs=tuple(frame["ref"]),
        groups=tuple(frame["group_key"]),
        splits=frame["split"].to_numpy(dtype=np.str_),
        category=_labels(frame, "category"),
        violation=_labels(frame, "violation"),
        alone=tuple(map(_alone, frame["category_source"], frame["category_evidence"])),
        voted_at=tuple(map(_voted_at, frame["violation_source"], frame["violation_evidence"])),
    )


def trained_on(frame: "pd.DataFrame") -> tuple[set[str], set[str]]:
    """Refs and groups of a snapshot that a model fit on it has seen: all but its test split."""
    seen = frame[frame["split"] != Split.TEST.value]
    return set(seen["ref"]), set(seen["group_key"])


def _alone(source: object, evidence: object) -> str | None:
    names = {str(vote.get("annotator")) for vote in _votes(source, evidence)}
    return names.pop() if len(names) == 1 else None


def _voted_at(source: object, evidence: object) -> datetime | None:
    return max((datetime.fromisoformat(vote["at"]) for vote in _votes(source, evidence)), default=None)


def _votes(source: object, evidence: object) -> Sequence[Mapping[str, str]]:
    """Behind a moderators' label; empty behind another one."""
    if source != LabelSource.MODERATORS.value or not isinstance(evidence, str):
        return ()
    found: Sequence[Mapping[str, str]] = json.loads(evidence).get("votes", ())
    return found


def _labels(frame: "pd.DataFrame", question: str) -> tuple[Label | None, ...]:
    present = frame[question].notna()
    return tuple(
        (value, LabelSource(source)) if known else None
        for value, source, known in zip(frame[question], frame[f"{question}_source"], present, strict=True)
    )
