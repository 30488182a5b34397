"""Categories that a model takes for each other, those of them that it cannot tell apart, and catch-alls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from curation.quality.breadth import Breadth, by_label, unusual
from curation.quality.metrics import Estimate, share
from curation.quality.validate import OutOfSample

MIN_CROSSINGS = 3
"""Fewer listings that crossed over are an anecdote."""

TOLD_APART = 0.75
"""Two categories are worth merging where the model knows which is which in fewer than three cases of four. Wrong labels
alone would have to swap a quarter of both to do that."""

SCATTERED = 2.5
"""A catch-all falls into more groups than categories of its size do, by this many robust deviations of the logarithm."""

MAX_PAIRS = 200
"""Pairs looked at closely, most crossings first."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two categories that the model takes for each other, both ways oftener than chance would."""

    a: int
    b: int
    there: Estimate  #: share of a's listings that the model puts into b
    back: Estimate  #: share of b's listings that the model puts into a
    told_apart: Estimate | None  #: given one listing of each, how often the model knows which is which: 0.5 = never
    is_merge: bool  #: no better told apart than wrong labels could explain


@dataclass(frozen=True, slots=True)
class Target:
    """Where a catch-all's listings go."""

    index: int
    share: Estimate


@dataclass(frozen=True, slots=True)
class CatchAll:
    """A category whose listings go to many others, more of them than wrong labels could explain."""

    index: int
    elsewhere: Estimate
    n_groups: float
    targets: tuple[Target, ...]  #: most listings first


@dataclass(frozen=True, slots=True)
class Findings:
    """Mutual confusions, most listings first, and catch-alls, most groups first."""

    confusions: tuple[Confusion, ...]
    catch_alls: tuple[CatchAll, ...]


def find(labels: NDArray[np.integer], oos: OutOfSample, breadth: Breadth, *, noise: float = 0.0) -> Findings:
    """What is wrong with the categories themselves, as the model sees it, beyond wrong labels at rate `noise` in [0, 1].

    **Confusions**: pairs of estimable categories with at least 3 listings each way and the lower end of both shares
    above chance, which is the share of third categories' listings that go there. `is_merge` rests on `told_apart`, the
    area under the ROC curve of log p_b - log p_a over the listings that the model finds most likely to be one of the two
    (Hanley and McNeil 1982): neither a temperature of the model nor a difference in size changes it. Wrong labels at
    rate e in both leave it at 1 - e, so its upper end must lie below 1 - max(1/4, `noise`).

    **Catch-alls**: categories that fall into unusually many groups and whose listings go elsewhere more than `noise`
    explains. What a catch-all shares with one of its targets is no merge.
    """
    scattered = _scattered(breadth, noise)
    pairs = tuple(_confusions(labels, oos, breadth, noise, scattered))
    merges = {pair for one in pairs if one.is_merge for pair in ((one.a, one.b), (one.b, one.a))}
    return Findings(pairs, tuple(_catch_alls(breadth, scattered, merges)))


def _confusions(
    labels: NDArray[np.integer], oos: OutOfSample, breadth: Breadth, noise: float, scattered: dict[int, float]
) -> Iterator[Confusion]:
    counts, limit = _counts(breadth), min(TOLD_APART, 1 - noise)
    rows_of = by_label(labels, len(counts))
    for a, b, there, back in _mutual(breadth, counts):
        told = _told_apart(rows_of[a], rows_of[b], a, b, oos, breadth)
        alike = told is not None and told.high < limit
        yield Confusion(a, b, there, back, told, alike and (a in scattered) == (b in scattered))


def _scattered(breadth: Breadth, noise: float) -> dict[int, float]:
    """Index and number of groups of the categories that stand out and lose more than `noise`, most groups first."""
    thick = breadth.estimable
    groups = np.array([one.n_groups for one in thick], dtype=np.float64)
    bound = unusual(np.log(groups), np.array([one.n for one in thick]), SCATTERED)
    found = {
        one.index: float(n)
        for one, n, limit in zip(thick, groups, bound, strict=True)
        if np.log(n) > limit and one.elsewhere is not None and one.elsewhere.low > noise
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _catch_alls(breadth: Breadth, scattered: dict[int, float], merges: set[tuple[int, int]]) -> Iterator[CatchAll]:
    counts, into = _counts(breadth), _sent(breadth)
    ways_of = by_label(breadth.crossings[:, 0], len(counts))
    for a, n_groups in scattered.items():
        n, ways = int(counts[a]), breadth.crossings[ways_of[a], 1:].tolist()
        chances = [(into[b] - n_there) / max(1, int(counts.sum()) - n - int(counts[b])) for b, n_there in ways]
        targets = tuple(
            Target(b, there)
            for (b, n_there), chance in zip(ways, chances, strict=True)
            if n_there >= MIN_CROSSINGS and (a, b) not in merges and (there := share(n_there, n)) and there.low > chance
        )
        elsewhere = breadth.categories[a].elsewhere
        if elsewhere and len(targets) > 1:
            yield CatchAll(a, elsewhere, n_groups, targets)


def _mutual(breadth: Breadth, counts: NDArray[np.int64]) -> Iterator[tuple[int, int, Estimate, Estimate]]:
    """(a, b, share of a's that goes to b, share of b's that goes to a), a < b, of the pairs above chance both ways."""
    thick = {one.index for one in breadth.estimable}
    sent = {(int(a), int(b)): int(n) for a, b, n in breadth.crossings if n >= MIN_CROSSINGS and a in thick and b in thick}
    into, n_labelled = _sent(breadth), int(counts.sum())
    pairs = [(a, b, n, sent[b, a]) for (a, b), n in sent.items() if a < b and (b, a) in sent]
    pairs.sort(key=lambda pair: (-pair[2] - pair[3], pair[:2]))
    for a, b, n_there, n_back in pairs[:MAX_PAIRS]:
        n_third = max(1, n_labelled - int(counts[a] + counts[b]))
        chances = (into[b] - n_there) / n_third, (into[a] - n_back) / n_third
        there, back = share(n_there, int(counts[a])), share(n_back, int(counts[b]))
        if there and back and there.low > chances[0] and back.low > chances[1]:
            yield a, b, there, back


def _told_apart(
    of_a: NDArray[np.int64], of_b: NDArray[np.int64], a: int, b: int, oos: OutOfSample, breadth: Breadth
) -> Estimate | None:
    """Area under the curve with its 95 % interval; None with fewer than 3 listings of either."""
    first, second = (rows[np.isin(breadth.best[rows], (a, b))] for rows in (of_a, of_b))
    n, m = len(first), len(second)
    if min(n, m) < MIN_CROSSINGS:
        return None
    probs = np.log(np.maximum(oos.pred_probs[np.concatenate([first, second])[:, None], [a, b]].astype(np.float64), 1e-300))
    ranks = rankdata(probs[:, 1] - probs[:, 0])
    area = float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)
    half = 1.96 * math.sqrt(max(0.0, spread) / (n * m))
    return Estimate(area, max(0.0, area - half), min(1.0, area + half), n + m)


def _counts(breadth: Breadth) -> NDArray[np.int64]:
    return np.array([one.n for one in breadth.categories], dtype=np.int64)


def _sent(breadth: Breadth) -> NDArray[np.int64]:
    """(K,) listings of other labels that are put into each class."""
    weights = breadth.crossings[:, 2]
    return np.bincount(breadth.crossings[:, 1], weights=weights, minlength=len(breadth.categories)).astype(np.int64)
