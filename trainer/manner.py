"""How the violation heads are fitted: which loss, and how loud titles are, by what held-out rows say.

Catalogs differ. Where violations are kinds of goods the title tells them, where they are tricks the description does; where
answers are plain a hinge finds more, where many a violation was never found its square bears that better. So a few ways are
tried on the training rows, one thing at a time; that under which held-out violations rank highest is taken, for all heads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from trainer.config import CHOSEN, HINGE, LOGISTIC, SQUARED_HINGE
from trainer.scale import known_heads
from trainer.violations import Floats, How, Seen, folds_of, held_out

TRIED: Mapping[str, Sequence[Any]] = {"loss": (SQUARED_HINGE, HINGE), "title": (0.4, 0.2, 0.8)}
"""Of each thing, in this order; the first values are where the search begins."""

N_FOLDS = 2
MAX_ROWS = 8_000
"""Rows by which ways are compared, at most."""

SeenAt = Callable[[NDArray[np.int64], float], Seen]
"""What heads see of these rows where the characters of a title are that loud."""


def chosen(
    seen: SeenAt, present: Floats, weight: Floats, groups: NDArray[np.generic], how: How, seed: int, fixed: Sequence[str] = ()
) -> How:
    """The best way for N training rows that differs from `how` in the loss, if that is `CHOSEN`, and in what is not `fixed`.

    present, weight : (N, V); groups : (N,) near-duplicates, which are held out together. With a logistic loss, and where no
    violation has ten rows of either answer, nothing is tried.
    """
    if how.loss == LOGISTIC:
        return how
    tried = {name: values for name, values in TRIED.items() if name not in fixed and (name != "loss" or how.loss == CHOSEN)}
    found = replace(how, **{name: values[0] for name, values in tried.items()})
    rows = _some(present, weight, np.random.default_rng(seed))
    heads = np.flatnonzero(known_heads(present[rows], weight[rows]))
    if not len(heads) or all(len(values) < 2 for values in tried.values()):
        return found
    answers, folds = (present[rows][:, heads], weight[rows][:, heads]), folds_of(groups[rows], N_FOLDS, seed)

    def rank(way: How) -> float:
        logits = held_out(seen(rows, way.title), *answers, way, folds)
        return float(np.mean(list(_average_precisions(logits, *answers))))

    best = rank(found)
    for name, values in tried.items():
        for other in [replace(found, **{name: value}) for value in values[1:]]:
            if (score := rank(other)) > best:
                found, best = other, score
    return found


def _some(present: Floats, weight: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """MAX_ROWS rows at most, in their order: of each violation some that have it, half of all together, then what comes."""
    order = rng.permutation(len(present))
    there = (present[order] > 0) & (weight[order] > 0)
    n_each = MAX_ROWS // (2 * max(1, present.shape[1]))
    positive = order[np.asarray((there & (there.cumsum(0) <= n_each)).any(1), bool)]
    others = order[~np.isin(order, positive)]
    others = others[np.argsort(-(weight[others] > 0).sum(1), kind="stable")]
    return np.sort(np.concatenate([positive, others[: MAX_ROWS - len(positive)]]))


def _average_precisions(logits: Floats, present: Floats, weight: Floats) -> Iterator[float]:
    """Of each violation with both answers."""
    for head in range(present.shape[1]):
        known = weight[:, head] > 0
        yield average_precision_score(present[known, head], logits[known, head], sample_weight=weight[known, head])
