"""The plain rival of the benchmarks: words and word pairs of title and description by sublinear tf-idf, logistic regression."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from curation.types import Listing, Split
from tests.benchmarks.catalog import Catalog

STRENGTHS = (10.0, 30.0)
"""C; the one better on the validation rows is judged. The default, 1, is 6-20 points worse."""


class Words:
    """N listings by words and word pairs; vocabulary and idf are those of some of them, `seen` is what these look like."""

    def __init__(self, listings: Sequence[Listing], rows: NDArray[np.int64]) -> None:
        self._texts = [f"{listing.title} {listing.description}" for listing in listings]
        self._vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        self.seen: csr_matrix = self._vectorizer.fit_transform([self._texts[row] for row in rows])

    def of(self, rows: NDArray[np.int64]) -> csr_matrix:
        """(n, n_words) of these rows."""
        return self._vectorizer.transform([self._texts[row] for row in rows])


def fitted(seen: csr_matrix, wanted: NDArray[np.generic], strength: float = STRENGTHS[0]) -> LogisticRegression:
    """One model of the rows that were seen."""
    return LogisticRegression(C=strength, max_iter=1000).fit(seen, wanted)


def of_categories(words: Words, catalog: Catalog) -> LogisticRegression:
    """The model of the categories that is better on the validation rows."""
    given, held = np.array(catalog.given), catalog.rows[Split.VALIDATION]
    models = [fitted(words.seen, given[catalog.rows[Split.TRAIN]], strength) for strength in STRENGTHS]
    shown = words.of(held)
    return max(models, key=lambda model: model.score(shown, given[held]))
