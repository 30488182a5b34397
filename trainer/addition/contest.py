"""A new head beside TF-IDF with logistic regression, on the same rows: out of fold, and past a score of 0.9."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from curation.quality import flags
from curation.quality.flags import Compared
from curation.types import Listing, Split
from trainer import folds
from trainer.addition.known import Known
from trainer.addition.skeleton import Frozen, texts

STRENGTH = 10.0
"""C of the rival; the default, 1, is worse where positives are few."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """Words and word pairs by sublinear tf-idf, then weighted logistic regression."""

    words: object  #: (N, n_words) sparse

    @classmethod
    def of(cls, listings: Sequence[Listing]) -> "Rival":
        """The idf is of all listings, as the skeleton's is of all it was fitted on: no label is seen."""
        return cls(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts(listings)).tocsr())

    def scores(self, known: Known, train: NDArray[np.int64], rows: NDArray[np.int64]) -> Scores:
        """Probabilities (n,) of `rows` by what is known about `train`."""
        if not len(rows):
            return np.zeros(0)
        model = LogisticRegression(C=STRENGTH, solver="liblinear", max_iter=1000)
        model.fit(self.words[train], known.present[train], sample_weight=known.weight[train])  # type: ignore[index]
        found: Scores = model.predict_proba(self.words[rows])[:, 1]  # type: ignore[index]
        return found


def compare(frozen: Frozen, rival: Rival, known: Known, *, n_folds: int, seed: int) -> Compared:
    """Average precision of both on what moderators decided, each row by a fit that saw none of its near-duplicates.

    Both need moderators' decisions of either kind in several groups (`Known.unjudged`).
    """
    theirs = np.full(len(known), np.nan)
    strata = known.present.astype(np.int64) + 2 * known.asked
    assigned = folds.assign(strata, known.groups.tolist(), n_folds, seed)
    ours = frozen.held_out(known.present, known.weight, assigned)
    for fold in np.unique(assigned):
        rest, rows = np.flatnonzero(assigned != fold), np.flatnonzero((assigned == fold) & known.asked)
        if not len(rows):
            continue
        theirs[rows] = rival.scores(known, rest, rows)
    judged = first_of_each(known, np.flatnonzero(known.asked))
    return flags.compare(ours[judged], theirs[judged], known.present[judged], rng=np.random.default_rng(seed))


def first_of_each(known: Known, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of these rows the first of each near-duplicate group, ascending."""
    found: NDArray[np.int64] = np.sort(rows[np.unique(known.groups[rows], return_index=True)[1]])
    return found


def tested(known: Known) -> NDArray[np.int64]:
    """Decided rows of the test split, one of each group, none with a near-duplicate outside of the split."""
    others = set(known.groups[known.splits != Split.TEST.value].tolist())
    rows = [row for row in known.of(Split.TEST) if known.asked[row] and known.groups[row] not in others]
    return first_of_each(known, np.array(rows, np.int64))
