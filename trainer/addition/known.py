"""What is known about one violation: who has it, who surely has not, who was only reported, and how much each counts."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.types import Split
from trainer import asked as asking
from trainer.config import TrainConfig
from trainer.rows import SnapshotRows

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

MIN_JUDGED = 10
"""Near-duplicate groups of each answer, decided by moderators, that a head is judged by at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """N listings in the order of a snapshot."""

    present: Mask  #: (N,) moderators said so, or users and nobody contradicted
    asked: Mask  #: (N,) moderators decided, and could have said it
    weight: Floats  #: (N,) as in training: of moderators' word, of a report, of what nobody looked at
    groups: NDArray[np.str_]  #: (N,) near-duplicate group
    splits: NDArray[np.str_]  #: (N,)

    def __len__(self) -> int:
        return len(self.present)

    def of(self, split: Split) -> NDArray[np.int64]:
        """Rows of this split."""
        return np.flatnonzero(self.splits == split.value)

    def n_groups(self, rows: Mask) -> int:
        """Near-duplicate groups with such a row: copies of a listing are one example."""
        return len(set(self.groups[rows].tolist()))

    def counts(self) -> dict[str, int]:
        """Groups by what is known; listings in all."""
        return {
            "listings": len(self),
            "positives": self.n_groups(self.present),
            "verified_positives": self.n_groups(self.present & self.asked),
            "verified_negatives": self.n_groups(~self.present & self.asked),
            "reported": self.n_groups(self.present & ~self.asked),
        }

    def missing(self, min_positive: int) -> str:
        """What keeps a head from being fitted, in words; empty if nothing does."""
        n, train = self.n_groups(self.present), self.splits == Split.TRAIN.value
        if n < min_positive:
            return f"{n} positive listings, {min_positive - n} more needed of {min_positive} (near-duplicates count once)"
        if not (self.present & train).any():
            return f"none of {n} positive listings is in the training split; 1 more there needed, have more listings decided"
        if not (~self.present & train).any():
            return (
                "every listing of the training split is positive; ingest listings, or have some decided, that have nothing wrong"
            )
        return ""

    def unjudged(self) -> str:
        """What keeps a head from being judged, in words; empty if nothing does."""
        found = self.counts()
        needed = {name: MIN_JUDGED - found[f"verified_{name}"] for name in ("positives", "negatives")}
        return ", ".join(f"{n} more verified {name}" for name, n in needed.items() if n > 0)


def known(
    rows: SnapshotRows, name: str, config: TrainConfig, *, decided: Collection[int], reported: Collection[str] = ()
) -> Known:
    """What a snapshot says about violation `name`.

    decided : ids of listings that moderators decided when they could have said it; what was decided before is as good as
    not looked at. reported : refs beside those whose flags name it.
    """
    asked, said, refs = asking.asked(rows, name, decided), asking.named(rows, name), set(reported)
    flagged = asking.reported(rows, name) | np.array([ref in refs for ref in rows.refs], bool)
    present = np.where(asked, said, flagged | said)
    weak = np.where(present, config.reported_weight, config.unreported_weight)
    weight = np.where(asked, config.verified_weight, weak).astype(np.float32)
    return Known(present, asked, weight, np.array(rows.groups, np.str_), rows.splits)
