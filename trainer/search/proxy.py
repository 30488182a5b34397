"""The rows that cells are searched and judged on: tokens, with balanced answers to one question."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.types import Question
from trainer.data import Rows, Targets

MAX_ROWS = 60_000
MIN_POSITIVE = 100
"""Listings that violate a rule below which the rule is not asked about."""

MIN_TRAIN, MIN_VALIDATION = 50, 20
"""Listings with a category."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """What is asked, and of which rows of a table."""

    question: Question
    names: tuple[str, ...]  #: classes, or violations
    train: Rows
    validation: Rows
    labels: NDArray[np.int64] | NDArray[np.float32]  #: of all rows: (N,) class, -1 = unknown; or (N, V) 0/1

    def balance(self) -> dict[str, int]:
        """Training rows of each class, or of each violation and of none."""
        chosen = self.labels[self.train]
        if self.question is Question.CATEGORY:
            counts = np.bincount(chosen.astype(np.int64), minlength=len(self.names))
            return dict(zip(self.names, counts.tolist(), strict=True))
        found = dict(zip(self.names, chosen.sum(0).astype(int).tolist(), strict=True))
        return {**found, "none": int((chosen.sum(1) == 0).sum())}


def proxy(
    wanted: Targets,
    train: Rows,
    validation: Rows,
    rng: np.random.Generator,
    *,
    question: Question | None = None,
    n_most: int = MAX_ROWS,
) -> Proxy:
    """Stratified training rows, `n_most` at most; validation rows as they are.

    Of the violations each gets the same share of the rows, as far as it has so many; as many rows have none as the largest
    of them.
    Without a question it is the violations where one has enough listings in both parts, else the category: of that the
    largest classes are cut to one size. Raises InputError where neither can be asked.
    """
    usable = _usable(wanted, train, validation)
    if question is None:
        question = Question.VIOLATION if usable.size else Question.CATEGORY
    if question is Question.VIOLATION:
        if not usable.size:
            raise InputError(
                f"no violation was reported or found on {MIN_POSITIVE} of the training listings; search by --question category"
            )
        labels = wanted.violation[:, usable]
        names = tuple(wanted.violations[at] for at in usable)
        return Proxy(question, names, _balanced(labels, train, rng, n_most), validation, labels)
    known = [rows[wanted.category[rows] >= 0] for rows in (train, validation)]
    if len(known[0]) < MIN_TRAIN or len(known[1]) < MIN_VALIDATION:
        raise InputError(
            f"{len(known[0])} training and {len(known[1])} validation rows have a category, a search needs {MIN_TRAIN} "
            f"and {MIN_VALIDATION}; ingest more"
        )
    return Proxy(question, wanted.classes, _levelled(wanted.category, known[0], rng, n_most), known[1], wanted.category)


def _usable(wanted: Targets, train: Rows, validation: Rows) -> Rows:
    """Violations with enough listings to learn and one to be judged by."""
    enough = (wanted.violation[train].sum(0) >= MIN_POSITIVE) & (wanted.violation[validation].sum(0) >= 1)
    return np.asarray(np.flatnonzero(enough), np.int64)


def _balanced(labels: NDArray[np.float32], rows: Rows, rng: np.random.Generator, n_most: int) -> Rows:
    """(n,) rows, ascending: a quota of each violation and of those without any."""
    rows, quota = rng.permutation(rows), n_most // (labels.shape[1] + 1)
    parts = [rows[labels[rows, at] > 0][:quota] for at in range(labels.shape[1])]
    none = rows[labels[rows].sum(1) == 0][: max(map(len, parts))]
    return np.asarray(np.unique(np.concatenate([*parts, none])), np.int64)


def _levelled(classes: NDArray[np.int64], rows: Rows, rng: np.random.Generator, n_most: int) -> Rows:
    """(n,) rows, ascending: of each class so many at most that all together are no more than `n_most`."""
    sizes = np.bincount(classes[rows])
    most = int(sizes.max())
    while np.minimum(sizes, most).sum() > max(n_most, len(sizes)):
        most = most * 9 // 10
    order = rng.permutation(rows)
    order = order[np.argsort(classes[order], kind="stable")]
    firsts = np.cumsum(sizes) - sizes
    rank = np.arange(len(order)) - firsts[classes[order]]
    return np.asarray(np.sort(order[rank < max(most, 1)]), np.int64)
