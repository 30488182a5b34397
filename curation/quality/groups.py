"""Whether things fall into groups of their own accord, and into how many: k-means held to its prediction strength."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError

STRENGTH = 0.8
"""Groups are real from this prediction strength on (Tibshirani and Walther 2005, section 2: 0.8 to 0.9)."""

MAX_GROUPS = 5
N_SPLITS = 10
"""Halvings over which the strength is averaged."""

N_STARTS = 4
MAX_ROUNDS = 30

N_TOPICS = 8
"""Directions of latent semantic analysis in which titles are compared."""

N_WORDS = 4
"""Words that name a group of titles."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Which group each of N things belongs to: 0 … `n_groups` - 1, the largest first."""

    group: NDArray[np.int64]  #: (N,)
    n_groups: int
    strength: float  #: in [0, 1]; 1 for a single group


@dataclass(frozen=True, slots=True)
class TitleGroup:
    """Titles that go together: the words that tell them from the others, and their rows, the most typical first."""

    words: tuple[str, ...]
    rows: NDArray[np.int64]


def find_title_groups(titles: Sequence[str], *, rng: np.random.Generator, min_size: int = 10) -> tuple[TitleGroup, ...]:
    """Groups of titles by their words (TF-IDF, latent semantic analysis, `find_groups`), the largest first.

    () where they are one group, or too few, or share no words. A title that comes twice counts once, so that reposts are no
    evidence; titles without a word that another one has are in no group.
    """
    distinct, copy_of = np.unique(np.array([title.casefold() for title in titles], dtype=np.str_), return_inverse=True)
    words, names = _words(distinct) if len(distinct) >= 2 * min_size else (None, ())
    if words is None or len(names) <= 2:
        return ()
    kept = np.flatnonzero(words.getnnz(axis=1))
    if len(kept) < 2 * min_size:
        return ()
    vectors = _topics(words[kept], int(rng.integers(2**31)))
    found = find_groups(vectors, rng=rng, min_size=min_size)
    if found.n_groups == 1:
        return ()
    return tuple(_title_group(words[kept], vectors, found.group == g, kept, names, copy_of) for g in range(found.n_groups))


def _words(titles: NDArray[np.str_]) -> tuple[Any, Sequence[str]]:
    """Sparse (N, W) TF-IDF and the W words; None where no word comes in two titles."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english")
    try:
        return vectorizer.fit_transform(titles), vectorizer.get_feature_names_out()
    except ValueError:
        return None, ()


def _topics(words: Any, seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    topics = TruncatedSVD(min(N_TOPICS, words.shape[1] - 1), random_state=seed)
    return np.asarray(normalize(topics.fit_transform(words)), dtype=np.float64)


def _title_group(
    words: Any, vectors: NDArray[Any], mine: NDArray[np.bool_], kept: NDArray[Any], names: Sequence[str], copy_of: NDArray[Any]
) -> TitleGroup:
    telling = np.asarray(words[mine].mean(axis=0) - words[~mine].mean(axis=0)).ravel()
    typical = np.flatnonzero(mine)[np.argsort(-(vectors[mine] @ vectors[mine].mean(axis=0)), kind="stable")]
    rank = np.full(copy_of.max() + 1, -1)
    rank[kept[typical]] = np.arange(len(typical))
    rows = np.flatnonzero(rank[copy_of] >= 0)
    best = tuple(str(names[i]) for i in np.argsort(-telling, kind="stable")[:N_WORDS])
    return TitleGroup(best, rows[np.argsort(rank[copy_of[rows]], kind="stable")])


def find_groups(vectors: NDArray[np.floating], *, rng: np.random.Generator, min_size: int = 10) -> Groups:
    """The most groups, at most 5 and each of `min_size` at least, that a half of the (N, D) vectors predicts of the other.

    Prediction strength (Tibshirani and Walther 2005, equation 2.1): cluster both halves; of the pairs that share a
    cluster in one, the share that the other half's centres keep together, in the worst cluster. One group where no
    number of them is that stable. Raises InputError on vectors that are not finite.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InputError(f"vectors must be finite (N, D), got shape {vectors.shape}; leave bad rows out")
    n, whole = len(vectors), Groups(np.zeros(len(vectors), dtype=np.int64), 1, 1.0)
    n_distinct = len(np.unique(vectors, axis=0)) if n else 0
    for k in range(min(MAX_GROUPS, n // max(1, 2 * min_size), n_distinct), 1, -1):
        strength = float(np.mean([_strength(vectors, k, rng) for _ in range(N_SPLITS)]))
        group = _kmeans(vectors, k, rng)[0]
        sizes = np.bincount(group, minlength=k)
        if strength >= STRENGTH and sizes.min() >= min_size:
            return Groups(np.argsort(np.argsort(-sizes, kind="stable"))[group].astype(np.int64), k, strength)
    return whole


def _strength(vectors: NDArray[np.floating], k: int, rng: np.random.Generator) -> float:
    """Of one halving."""
    order = rng.permutation(len(vectors))
    first, second = vectors[order[::2]], vectors[order[1::2]]
    centres, own = _kmeans(first, k, rng)[1], _kmeans(second, k, rng)[0]
    told = _distances(second, centres).argmin(axis=1)
    return min(_kept(told[own == g]) for g in range(k))


def _kept(told: NDArray[np.integer]) -> float:
    """Share of the pairs that are told into one group; 0 of a cluster without a pair."""
    n, sizes = len(told), np.bincount(told)
    return float((sizes * (sizes - 1)).sum() / (n * (n - 1))) if n > 1 else 0.0


def _kmeans(vectors: NDArray[np.floating], k: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Group of each row, and the centres: the best of a few starts (Lloyd 1982, k-means++).

    Written out because scikit-learn starts threads for each of these many small problems and takes several times as long.
    """
    return min((_lloyd(vectors, _start(vectors, k, rng)) for _ in range(N_STARTS)), key=lambda found: found[2])[:2]


def _start(vectors: NDArray[np.floating], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    centres = [vectors[rng.integers(len(vectors))]]
    for _ in range(1, k):
        far = _distances(vectors, np.array(centres)).min(axis=1)
        chances = far / far.sum() if far.sum() > 0 else None
        centres.append(vectors[rng.choice(len(vectors), p=chances)])
    return np.array(centres, dtype=np.float64)


def _lloyd(vectors: NDArray[np.floating], centres: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Groups, centres and the sum of squared distances; an empty group keeps its centre."""
    group = np.full(len(vectors), -1, dtype=np.int64)
    for _ in range(MAX_ROUNDS):
        distances = _distances(vectors, centres)
        nearest = distances.argmin(axis=1)
        if (nearest == group).all():
            break
        group = nearest.astype(np.int64)
        which = group[None] == np.arange(len(centres))[:, None]
        sizes = which.sum(axis=1, keepdims=True)
        centres = np.where(sizes > 0, which @ vectors / np.maximum(1, sizes), centres)
    return group, centres, float(distances.min(axis=1).sum())


def _distances(vectors: NDArray[np.floating], centres: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, k) squared."""
    found = (vectors**2).sum(axis=1)[:, None] - 2 * vectors @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(0.0, found), dtype=np.float64)
