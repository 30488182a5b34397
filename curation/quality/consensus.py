"""What several annotators say together: majority with explicit ties, and cleanlab's consensus."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.validate import check_probabilities
from curation.types import Vote

TIE_BREAK = 1e-9
"""Far below any difference of probabilities that means something."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """The value most people gave; None where nobody voted or the best values tie.

    `confidence` is the share of people behind the best value, in [0, 1].
    """

    value: str | None
    confidence: float
    is_tie: bool
    n_votes: int


@dataclass(frozen=True, slots=True)
class CrowdConsensus:
    """CROWDLAB's answer for N items, K classes and A annotators."""

    consensus: NDArray[np.int64]  #: (N,) class index
    quality: NDArray[np.float64]  #: (N,) in [0, 1], 1 = certainly right
    annotator_quality: NDArray[np.float64]  #: (A,) in [0, 1]; NaN where nobody else answered what this one did


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


def crowd(labels_by_annotator: NDArray[np.float64], pred_probs: NDArray[np.floating]) -> CrowdConsensus:
    """CROWDLAB consensus (Goh et al., 2022, arXiv:2210.06812), as cleanlab computes it.

    `labels_by_annotator`: (N, A) class index, NaN = not asked; every row and every column has an
    answer and some row has two. `pred_probs`: (N, K) out-of-sample, rows sum to 1. Raises InputError
    or ProbabilityError where that does not hold. The consensus may be a class that nobody named,
    where the model is surer than the people; the caller decides whether to allow that.

    Deterministic: where cleanlab would draw lots (people and model both tie), the class of the lower
    index wins. cleanlab 2.9 miscounts labels held as floats (`internal.util.value_counts`), which
    spoils `calibrate_probs=True`, `quality_method="agreement"` and its active-learning scores; what is
    used here, CROWDLAB with `calibrate_probs=False`, does not go through it (a test holds that).
    """
    labels = np.asarray(labels_by_annotator, dtype=np.float64)
    check_probabilities(pred_probs)
    _check_labels(labels, pred_probs.shape)
    if pred_probs.shape[1] == 1:
        return CrowdConsensus(np.zeros(len(labels), dtype=np.int64), np.ones(len(labels)), np.ones(labels.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody agrees, or that an annotator is alone: both are in the result
        from cleanlab.multiannotator import get_label_quality_multiannotator

        found = get_label_quality_multiannotator(
            labels, _without_ties(pred_probs), consensus_method="best_quality", calibrate_probs=False, verbose=False
        )
    quality, annotators = found["label_quality"], found["annotator_stats"].sort_index()
    return CrowdConsensus(
        quality["consensus_label"].to_numpy(np.int64),
        np.clip(quality["consensus_quality_score"].to_numpy(np.float64), 0.0, 1.0),
        annotators["annotator_quality"].to_numpy(np.float64),
    )


def _without_ties(pred_probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same probabilities with equal ones made to differ by about 1e-9, in the order of the classes."""
    n_classes = pred_probs.shape[1]
    leaned = np.asarray(pred_probs, dtype=np.float64) + TIE_BREAK * np.arange(n_classes, 0, -1) / n_classes
    return np.asarray(leaned / leaned.sum(axis=1, keepdims=True), dtype=np.float64)


def _check_labels(labels: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    n, k = shape
    if labels.ndim != 2 or labels.shape[0] != n or not labels.size:
        raise InputError(
            f"labels_by_annotator has shape {labels.shape}, pred_probs {shape}; both need the same rows, one at least"
        )
    given = ~np.isnan(labels)
    if not given.any(axis=1).all():
        raise InputError(f"rows without any vote: {np.flatnonzero(~given.any(axis=1))[:10].tolist()}; leave them out")
    if not given.any(axis=0).all():
        raise InputError(f"annotators without any vote: {np.flatnonzero(~given.any(axis=0))[:10].tolist()}; leave them out")
    if not (given.sum(axis=1) > 1).any():
        raise InputError("no row has two votes; without people to compare there is no consensus to compute")
    values = labels[given]
    if (values != np.floor(values)).any() or values.min() < 0 or values.max() >= k:
        raise InputError(f"labels must be whole numbers from 0 to {k - 1}, got {values.min():g} to {values.max():g}")
