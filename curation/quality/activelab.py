"""ActiveLab (Goh & Mueller, 2023, arXiv:2301.11856): how little is known of each item, voted on or not.

cleanlab's `get_active_learning_scores`, with votes counted rightly (`docs/cleanlab.md`) and without its loops.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.quality.crowd import Crowd, check_sizes, crowdlab, plurality
from curation.quality.votes import Belief, Votes


@dataclass(frozen=True, slots=True)
class ActiveLab:
    """What one more vote would be worth, lowest score first."""

    score: NDArray[np.float64]  #: (N,) in [0, 1]; 1 = nothing to ask
    consensus: NDArray[np.int64]  #: (N,) class; the model's where nobody voted
    temperature: float  #: of the model, fitted to the votes; 1 where no item has two
    crowd: Crowd | None  #: None where no item has two votes


def activelab(votes: Votes, belief: Belief, *, shrink: float = 0.0) -> ActiveLab:
    """Scores of all N items (ActiveLab, section 3): the quality of the consensus, pulled towards 1/K where few have voted.

    `belief`: out-of-sample for items with votes. Where no item has two votes the model is not calibrated, and model
    and annotators are trusted alike. Votes of less weight pull less. `shrink` as for `crowdlab`.
    Raises InputError where votes and probabilities are not of the same items and classes.
    """
    check_sizes(votes, belief)
    if not (votes.count() > 1).any():
        return _single(votes, belief)
    crowd = crowdlab(votes, belief, calibrate=True, shrink=shrink)
    known = votes.per_annotator(votes.weight) > 0
    behind = votes.per_item(votes.weight * crowd.annotator_weight[votes.annotator]) + crowd.model_weight
    score = _pulled(crowd.quality, behind, float(crowd.annotator_weight[known].mean()), votes.n_classes)
    return ActiveLab(score, crowd.consensus, crowd.temperature, crowd)


def _single(votes: Votes, belief: Belief) -> ActiveLab:
    consensus = plurality(votes, belief)
    quality = np.clip(belief.of(np.arange(votes.n_items), consensus), 0.0, 1.0)
    return ActiveLab(_pulled(quality, 1 + votes.per_item(votes.weight), 1.0, votes.n_classes), consensus, 1.0, None)


def _pulled(quality: NDArray[np.float64], behind: NDArray[np.float64], one_more: float, n_classes: int) -> NDArray[np.float64]:
    """Mean of the quality and of knowing nothing, by the trust behind the quality and that of one more vote."""
    return (quality * behind + one_more / n_classes) / (behind + one_more)
