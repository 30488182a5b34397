"""Which wrong labels may be changed without asking anybody: a cut on a score, certified by moderators' answers.

A listing is *to be changed* where the suggestion differs from the given label and its score reaches the cut. Its precision,
the share of such changes that are right, is estimated from listings that were drawn at random, whatever else spoke for asking
about them: what the rule would have done to the seller's label, and what moderators decided. Listings that were asked about
because they looked doubtful tell nothing here: the ranking knows more than the score, so that at the same score they are
right more often than those that were left (`tests/benchmarks/repair_precision.py`). What was drawn need not score like what
is to be changed; therefore each verified listing stands in for an equal share of the listings to be changed, all of which
score at least as high (`stand_ins`). Where a higher score means a suggestion that is right no less often, the expected
precision of the stand-ins is at most that of the changes, and the exact binomial bound holds for it (Clopper and Pearson
1934; for unequal chances of the same mean: Hoeffding 1956, theorem 5).

Several cuts are tried. The allowed error is divided over them, and a cut that holds hands its share to the next, laxer one
(the fallback procedure, Wiens 2003): the chance that any cut is certified wrongly stays below the allowed error.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError, ProbabilityError
from curation.quality.metrics import exact_lower
from curation.quality.sparse import TopK
from curation.quality.validate import UNLABELLED

CONFIDENCE = 0.95
"""One-sided; of the bound, over all cuts together."""

MAX_CUTS = 12
STEP = 1.25
"""Each cut is tried on this many times the evidence of the one before."""

TIER = 0.2
"""Share of the would-be changes, those that score highest, about which answers are drawn."""

N_WRONG_TO_BEAR = 10
"""Enough is drawn when this many wrong ones would not stop the promise: 336 answers at 0.95, 167 at 0.9."""

TIMES_NEEDED = 4
"""A tier must hold so many times the answers that bear two wrong ones, 124 at 0.95: a smaller one is better answered whole."""

TINY = 1e-30

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Evidence:
    """E verified listings that were drawn at random, whose label the rule would change at some cut; one of a group."""

    score: Floats  #: (E,) in [0, 1]
    right: Bools  #: (E,) moderators decided for the suggestion

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: NDArray[np.integer] | Bools) -> Self:
        """Some of the rows."""
        return type(self)(self.score[rows], self.right[rows])


@dataclass(frozen=True, slots=True)
class Promise:
    """What is changed, and why that is allowed. Nothing is changed where `cut` is infinite."""

    target: float
    cut: float  #: change where score >= cut
    precision: float  #: share of the stand-ins that are right; NaN without a cut
    precision_low: float  #: its lower confidence bound, at least the target
    n: int  #: stand-ins
    n_right: int
    n_changes: int  #: listings past the cut
    n_cuts: int  #: tried
    n_evidence: int  #: all verified listings that tell something
    n_missing: int  #: verified listings that are missing to certify `next_cut`, if all are right; 0 with a cut
    next_cut: float  #: the cut that is nearest to being certified

    @property
    def holds(self) -> bool:
        """Something may be changed."""
        return math.isfinite(self.cut)


@dataclass(frozen=True, slots=True)
class _Cut:
    """One cut and its evidence."""

    value: float
    n_changes: int
    n: int
    n_right: int


def suggestions(store: TopK) -> tuple[NDArray[np.int64], Floats]:
    """(N,) the best class other than the given label, and a score in [0, 1] of its being the true one.

    The score is p_other times p_other / (p_other + p_given): that the suggestion is right, not only that the label is wrong;
    0 where the given label is at least as probable and where there is none. The labels in `store` are the sellers', also
    where moderators have decided, so that a verified row scores as it would if nobody had looked. On real ads it changes
    half as many labels again at nine right in ten as p_other alone (`tests/benchmarks/repair_precision.py`).
    """
    suggested, other = store.best_other()
    p, given = other.astype(np.float64), store.p_given.astype(np.float64)
    score = np.where((store.labels != UNLABELLED) & (p > given), p * p / np.maximum(p + given, TINY), 0.0)
    return suggested.astype(np.int64), np.clip(score, 0.0, 1.0)


def promise(
    scores: Floats,
    evidence: Evidence,
    target: float,
    *,
    confidence: float = CONFIDENCE,
) -> Promise:
    """The lowest cut at which the changes are certified to be right as often as `target`.

    `scores`: (N,) in [0, 1], of the listings that a cut would change, none of them verified. Cuts and stand-ins are chosen by
    scores alone, never by answers. Raises InputError on a target outside (0, 1), ProbabilityError on scores that are not
    in [0, 1].
    """
    if not 0 < target < 1:
        raise InputError(f"target is {target}; give a precision between 0 and 1, such as 0.95")
    _check(scores, "scores")
    _check(evidence.score, "scores of the evidence")
    error = 1 - confidence
    waiting, order = np.sort(scores), np.lexsort((~evidence.right, evidence.score))
    known = evidence.take(order)
    tried = _cuts(waiting, known, target, error)
    best, share = None, 0.0
    for cut in tried:
        share += error / len(tried)
        low = exact_lower(cut.n_right, cut.n, 1 - share)
        best, share = ((cut, low), share) if low >= target else (best, 0.0)
    return _kept(best, target, len(tried), len(known)) if best else _refused(waiting, known, target, error, len(tried))


def to_draw(scores: Floats, waiting: Bools, drawn: Bools, target: float) -> tuple[float, int]:
    """The score from which on listings should be asked about at random only, and how many further answers are wanted there.

    `scores`: (N,) of all listings that some cut would change; `waiting`, `drawn`: (N,) nobody was asked about it, or it was
    drawn at random. (inf, 0) where enough were drawn or a promise would not pay. Answers have no part in this.
    """
    _check(scores, "scores")
    cut = float(np.quantile(scores, 1 - TIER)) if len(scores) else math.inf
    tier = np.sort(scores[waiting & (scores >= cut)])
    known = np.sort(scores[drawn & (scores >= cut)])
    start = int(np.searchsorted(tier, known[0])) if len(known) else 0
    n_more = n_needed(target, N_WRONG_TO_BEAR) - len(stand_ins(known, tier[start:]))
    return (cut, n_more) if n_more > 0 and len(tier) >= TIMES_NEEDED * n_needed(target, 2) else (math.inf, 0)


def n_needed(target: float, n_wrong: int = 0, error: float = 1 - CONFIDENCE) -> int:
    """How many verified changes certify `target` if `n_wrong` of them are wrong: 59 at 0.95 if none is."""
    n = max(n_wrong + 1, math.ceil(math.log(error) / math.log(target)))
    high = n
    while exact_lower(high - n_wrong, high, 1 - error) < target:
        n, high = high, 2 * high
    while n < high:
        middle = (n + high) // 2
        n, high = (n, middle) if exact_lower(middle - n_wrong, middle, 1 - error) >= target else (middle + 1, high)
    return high


def stand_ins(verified: Floats, waiting: Floats) -> NDArray[np.int64]:
    """Rows of `verified` that stand in for all of `waiting`: as many as can be, each for an equal share.

    Both sorted, rising. With n stand-ins the i-th lowest scores at most as high as the i-th n-th of `waiting`, so
    that their distribution is nowhere above that of `waiting`. Of the sets of that size the highest is taken.
    """
    if not len(waiting) or not len(verified):
        return np.zeros(0, dtype=np.int64)
    low, high = 0, len(verified)
    while low < high:
        n = (low + high + 1) // 2
        low, high = (n, high) if bool(np.all(verified[:n] <= _floors(waiting, n))) else (low, n - 1)
    found, at = np.zeros(low, dtype=np.int64), len(verified)
    reach = np.searchsorted(verified, _floors(waiting, low), side="right")
    for i in range(low - 1, -1, -1):
        at = min(at, int(reach[i])) - 1
        found[i] = at
    return found


def _floors(waiting: Floats, n: int) -> Floats:
    """(n,) the lowest score of each n-th of `waiting`."""
    found: Floats = waiting[np.arange(n) * len(waiting) // max(n, 1)]
    return found


def _cuts(waiting: Floats, known: Evidence, target: float, error: float) -> list[_Cut]:
    """The cuts to try, strictest first: as many as their evidence can pay for."""
    n, least = len(known), n_needed(target, error=error)
    if n < least:
        return []
    n_steps = int(math.log(n / least) / math.log(STEP)) + 1
    sizes = np.unique(np.geomspace(least, n, n_steps).round().astype(int)) if n_steps > 1 else np.array([n])
    values = dict.fromkeys(float(known.score[n - size]) for size in sizes)
    cuts = [cut for cut in (_at(value, waiting, known) for value in values) if cut.n_changes]
    for n_cuts in range(min(MAX_CUTS, len(cuts)), 0, -1):
        able = [cut for cut in cuts if cut.n >= n_needed(target, error=error / n_cuts)]
        if len(able) >= n_cuts:
            return [able[i] for i in np.linspace(0, len(able) - 1, n_cuts).round().astype(int)]
    return []


def _at(value: float, waiting: Floats, known: Evidence) -> _Cut:
    past = known.take(known.score >= value)
    changes = waiting[np.searchsorted(waiting, value) :]
    chosen = past.right[stand_ins(past.score, changes)]
    return _Cut(value, len(changes), len(chosen), int(chosen.sum()))


def _kept(best: tuple[_Cut, float], target: float, n_cuts: int, n_evidence: int) -> Promise:
    cut, low = best
    return Promise(
        target=target,
        cut=cut.value,
        precision=cut.n_right / cut.n,
        precision_low=low,
        n=cut.n,
        n_right=cut.n_right,
        n_changes=cut.n_changes,
        n_cuts=n_cuts,
        n_evidence=n_evidence,
        n_missing=0,
        next_cut=cut.value,
    )


def _refused(waiting: Floats, known: Evidence, target: float, error: float, n_cuts: int) -> Promise:
    """Nothing is changed; the cut that needs the fewest further answers says how many."""
    ranks = np.unique(np.linspace(0, len(known) - 1, 50).round().astype(int)) if len(known) else []
    cuts = [cut for cut in (_at(float(known.score[i]), waiting, known) for i in ranks) if cut.n_changes]
    missing = [(n_needed(target, cut.n - cut.n_right, error) - cut.n, cut.value) for cut in cuts]
    n_missing, value = min(missing, default=(n_needed(target, error=error), 0.0))
    return Promise(
        target=target,
        cut=math.inf,
        precision=math.nan,
        precision_low=0.0,
        n=0,
        n_right=0,
        n_changes=0,
        n_cuts=n_cuts,
        n_evidence=len(known),
        n_missing=max(1, n_missing) if len(waiting) else 0,
        next_cut=value,
    )


def _check(scores: Floats, what: str) -> None:
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if scores.ndim != 1 or bad.size:
        raise ProbabilityError(f"{what} must be (N,) in [0, 1]; {bad.size} rows are not, first rows {bad[:10].tolist()}")
