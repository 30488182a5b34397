"""Whose labels are often wrong: a seller's record shifts the odds that another label of the same seller is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

PRIORS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Listings' worth of everybody's record that is added to a seller's own: the data choose one, or that sellers do not matter."""

RATE_BOUND = 1e-3
"""Rates of wrong labels are kept this far from 0 and 1."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sellers:
    """Whose label each of N rows is, and where moderators have overruled it."""

    index: NDArray[np.int64]  #: (N,) 0 … S-1, -1 = unknown
    overruled: NDArray[np.bool_]  #: (N,)


def seller_odds(
    doubt: NDArray[np.floating], sellers: Sellers, labelled: NDArray[np.bool_], verified: NDArray[np.bool_]
) -> Floats:
    """(N,) log odds that a seller's other labels are wrong, against those of all labels; 0 = like everybody.

    `doubt`: (N,) probability in [0, 1] that the label is wrong, used where no moderator has decided; verified rows
    count as wrong where the seller was overruled, as right elsewhere. Empirical Bayes: each seller's rate is drawn to
    the common one by as many listings' worth as make the rows most likely, each row predicted from the others of its seller
    (leave-one-out); where no record predicts anything, as with sellers drawn by lot, nothing is shifted. Rates are not
    estimated anew from shifted doubts: a row's own doubt would come back to it, and any record would seem to predict.
    """
    counted = labelled | verified
    known = counted & (sellers.index >= 0)
    shift = np.zeros(len(doubt))
    if counted.sum() < 2 or not known.any():
        return shift
    evidence = np.where(verified, sellers.overruled, doubt).astype(np.float64)
    others = evidence[counted & ~known]
    gain, found = max((_record(evidence[known], sellers.index[known], others, prior) for prior in PRIORS), key=lambda one: one[0])
    if gain > 0:
        shift[known] = found
    return shift


def shifted(score: NDArray[np.floating], log_odds: Floats) -> Floats:
    """The probability `score` that a label is right, its odds divided by exp(`log_odds`)."""
    odds = np.exp(-log_odds)
    exact = score.astype(np.float64)
    return np.asarray(exact * odds / np.maximum(exact * odds + 1 - exact, np.finfo(np.float64).tiny), dtype=np.float64)


def _record(evidence: Floats, seller: NDArray[np.int64], others: Floats, prior: float) -> tuple[float, Floats]:
    """Mean gain in log likelihood over the common rate, and the log odds of each row's seller, for one strength."""
    base = _bounded((evidence.sum() - evidence + others.sum()) / (len(evidence) + len(others) - 1))
    mine = np.bincount(seller, weights=evidence)[seller] - evidence
    rate = _bounded((mine + prior * base) / (np.bincount(seller)[seller] - 1 + prior))
    likelihood = (1 - evidence) * (1 - rate) / (1 - base) + evidence * rate / base
    return float(np.log(likelihood).mean()), np.asarray(logit(rate) - logit(base), dtype=np.float64)


def _bounded(rate: Floats) -> Floats:
    return np.clip(rate, RATE_BOUND, 1 - RATE_BOUND)
