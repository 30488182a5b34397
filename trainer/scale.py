"""The scale of violations' logits: how sure they may be by how often held-out ones are right, and how far that is known."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

MIN_OF_EACH = 10
"""Rows with and without a violation that the scale of its logits needs."""

SURE = 0.9
"""The probability at which it is asked how far the scale can be trusted."""

CLEARLY = 2.0
"""Standard errors by which a slope is above 0 before it is believed."""

MAX_ERROR = 2.0
"""Of a logit. Few rows say little of the scale; a score that is lowered further tells nobody apart."""

Floats = NDArray[np.float32]


def known_heads(present: Floats, weight: Floats, n_each: int = MIN_OF_EACH) -> NDArray[np.bool_]:
    """(V,) violations with so many rows of either answer that count."""
    counts = [((present == answer) & (weight > 0)).sum(0) for answer in (0, 1)]
    return np.asarray(np.minimum(*counts) >= n_each, bool)


def scale_of(
    logits: Floats, present: Floats, weight: Floats, usual: float = 1.0, shift: Floats | float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """Scale (V,) above 0 and shift (V,) with which (N, V) held-out logits are as sure as they are often right (Platt 1999).

    Then the standard error (V,) of a logit on that scale where it says SURE, MAX_ERROR at most. The `usual` scale, `shift` and 0
    for a head with fewer than ten of either answer, or whose logits do not clearly point the right way.
    """
    scale, start_at, error = (np.full(logits.shape[1], value, np.float32) for value in (usual, shift, 0.0))
    is_known = known_heads(present, weight)
    for head in range(logits.shape[1]):
        known = weight[:, head] > 0
        if not is_known[head]:
            continue
        share = weight[known, head] * (weight[known, head].sum() / np.square(weight[known, head]).sum())  # Kish 1965
        model = _line(logits[known, head], present[known, head], share)
        slope, start = float(model.coef_[0, 0]), float(model.intercept_[0])
        covariance = _covariance(logits[known, head].astype(np.float64), slope, start, share)
        if slope > CLEARLY * np.sqrt(covariance[0, 0]):
            place = np.array([(logit(SURE) - start) / slope, 1.0])
            scale[head], start_at[head] = slope, start
            error[head] = min(np.sqrt(place @ covariance @ place), MAX_ERROR)
    return scale, start_at, error


def _line(logits: Floats, present: Floats, share: Floats) -> LogisticRegression:
    """Platt's: answers count as a little less than certain, so that logits (n,) that separate them do not make it steep."""
    n_positive, n_negative = (share * present).sum(), (share * (1 - present)).sum()
    target = np.where(present > 0, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    model = LogisticRegression(C=1e3, solver="liblinear", intercept_scaling=10.0)
    sides = np.concatenate([share * target, share * (1 - target)])
    return model.fit(np.tile(logits, 2)[:, None], np.repeat([1, 0], len(logits)), sample_weight=sides)


def _covariance(logits: NDArray[np.float64], slope: float, start: float, share: Floats) -> NDArray[np.float64]:
    """Of slope and start, by their Fisher information; rows count as their `share` says. Infinite where all logits are one."""
    probs = expit(logits * slope + start)
    line = np.stack([logits, np.ones_like(logits)], 1)
    information = line.T @ (line * (share * probs * (1 - probs))[:, None])
    if np.linalg.matrix_rank(information) < 2:
        return np.full((2, 2), np.inf)
    return np.linalg.inv(information)
