"""What several annotators say together: the majority, with explicit ties. `crowd.py` weighs them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from curation.types import Vote


@dataclass(frozen=True, slots=True)
class Consensus:
    """The value most people gave; None where nobody voted or the best values tie.

    `confidence` is the share of people behind the best value, in [0, 1].
    """

    value: str | None
    confidence: float
    is_tie: bool
    n_votes: int


def majority(votes: Sequence[Vote]) -> Consensus:
    """The majority of people: the newest vote of each annotator counts, the order of arrival does not."""
    newest: dict[str, Vote] = {}
    for vote in votes:
        held = newest.get(vote.annotator)
        if held is None or (vote.at, vote.annotation_id) > (held.at, held.annotation_id):
            newest[vote.annotator] = vote
    if not newest:
        return Consensus(None, 0.0, is_tie=False, n_votes=0)
    (value, n_best), *others = Counter(vote.value for vote in newest.values()).most_common()
    is_tie = bool(others) and others[0][1] == n_best
    return Consensus(None if is_tie else value, n_best / len(newest), is_tie, len(newest))
