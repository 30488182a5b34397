"""The surest errors, which are asked about at random only until their answers certify automatic repair.

A ranking that picked some of them would know more than the score of the repair does: those that it left would be right less
often than those that were drawn, and the promise would be broken (`docs/repair.md`).
"""

from dataclasses import dataclass

from curation.review import probabilities, repair
from curation.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Likely:
    """Listings that are asked about at random only."""

    groups: dict[int, str]  #: listing id → near-duplicate group
    n_wanted: int  #: answers that automatic repair lacks


def find(workspace: Workspace) -> Likely:
    """By the opinion of the newest run; nothing where it kept none, where `repair_share` is 0 or nothing is lacking."""
    settings = workspace.settings
    newest = probabilities.newest_judged(workspace) if settings.repair_share else None
    if newest is None or newest[2] is None:
        return Likely({}, 0)
    with workspace.db.read() as session:
        return Likely(*repair.to_draw(session, newest[1], newest[2], target=settings.repair_precision))
