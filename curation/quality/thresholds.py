"""Where to cut a score so that what is flagged is right as often as promised: Learn then Test, by exact binomial tests.

The rows that certify were used for nothing else. Flag the m listings that score highest: if the precision there were below
the target, at most w wrong ones among them would be seen with a chance of at most the risk (the exact binomial p-value of
Angelopoulos et al. 2021, "Learn then Test", section 2). Sizes are tried in an order that is fixed before any label is seen
(fixed-sequence testing, there section 3.2), so that each may spend the whole risk: the chance that the threshold found
misses the target stays below it.

Three things make the sequence find more than one that begins at the strictest score:

- *Rungs.* Only sizes are tried at which one more may be wrong (at 0.9 and a risk of 0.05: 29, 46, 61, 76, …). Every other size
  is a harder test of nearly the same, and another occasion to stop.
- *Starts.* Small heads have no power: 29 right in a row are needed at 29. Two starts, at 6 % and 20 % of the positives that
  are expected, share the risk. Precision falls as more is flagged, so that a size that passes clears all stricter ones:
  where the late start passes, the share of the early one is free again, and the walk goes on at the whole risk.
- *Sizes, not scores*, so that neither calibration nor a grid matters. Given the highest score that is left out, the labels of
  the flagged rows are independent draws with just the precision that is asked about.

Where precision does not fall as more is flagged, a start that passes says nothing of stricter cuts; the late walk keeps the
risk, the early one adds half of it at most. `tests/benchmarks/thresholds.py` has such a detector.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from curation.errors import InputError, ProbabilityError
from curation.quality.metrics import Estimate, exact_lower

EARLY, LATE = 0.06, 0.2
"""Starts, as shares of the expected positives."""

CONFIDENCE = 0.95
"""Of the two-sided intervals that are shown."""

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
Sizes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Certified:
    """A threshold and what speaks for it, or an abstention. Estimates are of the certifying rows, one of a group."""

    target: float  #: precision that is promised
    risk: float  #: chance that the promise is broken
    value: float  #: flag where score >= value; inf = never
    precision: Estimate  #: of what is flagged, as deployed, with Clopper and Pearson's interval; NaN without a threshold
    recall: Estimate  #: of the certifying rows
    n: int  #: rows, after near-duplicates and weights
    n_positive: int
    n_flagged: int
    n_more: int | None  #: further verified labels like these that would probably do; 0 with a threshold, None = cannot be said

    @property
    def holds(self) -> bool:
        """Something may be flagged."""
        return math.isfinite(self.value)

    @property
    def words(self) -> str:
        """The threshold, or why there is none and what would help."""
        if self.holds:
            return (
                f"flag from {self.value:.4g}: precision {in_words(self.precision)} of {self.n_flagged}, recall "
                f"{in_words(self.recall)}; at least {self.target:.0%} right, at a risk of {self.risk:.0%}"
            )
        if self.n_more is not None:
            return f"no threshold: about {self.n_more:,} more verified labels needed ({self.n_positive} of {self.n:,} positive)"
        if not self.n_positive:
            return f"no threshold: none of {self.n:,} verified labels is positive; verify listings that were reported"
        return f"no threshold: too much of what scores highest is wrong for {self.target:.0%}; the detector must get better"


@dataclass(frozen=True, slots=True)
class _Start:
    """A size that may be tried without the ones before."""

    size: int
    error: float  #: allowed to its own test
    after: float  #: allowed to each rung after it


@dataclass(frozen=True, slots=True)
class _Ranked:
    """N rows, the highest score first."""

    scores: Floats
    right: Sizes  #: (N + 1,) right ones among the first 0 … N

    def reach(self, sizes: Sizes) -> Sizes:
        """Sizes with all ties of their lowest score: a threshold cannot split them."""
        return np.searchsorted(-self.scores, -self.scores[sizes - 1], side="right").astype(np.int64)

    def passes(self, sizes: Sizes, target: float, error: float) -> Bools:
        """Whether each size's exact binomial p-value is at most `error`."""
        found: Bools = binom.sf(self.right[sizes] - 1, sizes, target) <= error
        return found


def certify(
    scores: Floats,
    truth: Bools,
    *,
    target: float,
    risk: float = 0.05,
    expected: float | None = None,
    enrichment: float = 1.0,
    groups: NDArray[np.generic] | None = None,
    weights: Floats | None = None,
    rng: np.random.Generator | None = None,
) -> Certified:
    """The lowest threshold whose precision is certified at `target`, or an abstention.

    scores, truth : (N,), scores finite, higher = likelier positive. expected : positives among these rows as other rows lead
    one to expect, never counted here; without it the walk begins at the first rung. groups : (N,) near-duplicates count once,
    by the first of them. enrichment : how many times likelier a positive was to be among these rows than a negative
    (`corrected`; from an estimated prevalence: `enrichment_bound`, whose error must be taken off `risk`). weights : (N,) how
    many listings each row stands for; rows are kept with chances in proportion, drawn by `rng`, so that the test stays exact.
    Raises ProbabilityError on scores that are not finite, InputError on everything else that does not fit.
    """
    _check(scores, truth, target, risk, enrichment)
    rows = np.arange(len(scores)) if groups is None else _first_of_each(groups, len(scores))
    if weights is not None:
        rows = _thinned(rows, weights, rng)
    order = rows[np.argsort(-np.asarray(scores, np.float64)[rows], kind="stable")]
    ranked = _Ranked(
        np.asarray(scores, np.float64)[order], np.append(0, np.cumsum(np.asarray(truth, bool)[order])).astype(np.int64)
    )
    wanted = corrected(target, enrichment)
    size = _largest(ranked, _starts(len(order), wanted, risk, expected), wanted)
    n_positive, k = int(ranked.right[-1]), int(ranked.right[size])
    return Certified(
        target=target,
        risk=risk,
        value=float(ranked.scores[size - 1]) if size else math.inf,
        precision=_deployed(exact(k, size), enrichment),
        recall=exact(k, n_positive),
        n=len(order),
        n_positive=n_positive,
        n_flagged=size,
        n_more=0 if size else _missing(ranked, wanted, risk),
    )


def corrected(target: float, enrichment: float) -> float:
    """The precision that enriched rows must show for `target` to hold in deployment.

    Sampling that takes positives `enrichment` times as often as negatives, and looks at nothing else, multiplies the odds of
    being right at every threshold by it (prior shift: Saerens et al. 2002, equation 2.4). The exact test holds as it is.
    """
    return target * enrichment / (target * enrichment + 1 - target)


def enrichment_bound(n_positive: int, n: int, seen: int, n_seen: int, error: float) -> float:
    """Upper bound of the enrichment of rows of which `n_positive` of `n` are positive, wrong with a chance of `error`.

    `seen` positives of `n_seen` listings drawn uniformly bound the prevalence in deployment from below (Clopper and Pearson
    1934). The promise then holds at a risk of `error` more. Raises InputError where no positive was seen.
    """
    if not (0 < n_positive < n and 0 < seen <= n_seen and 0 < error < 1):
        raise InputError(
            f"{n_positive} of {n} rows and {seen} of {n_seen} uniform draws bound no prevalence; both need positives, the rows "
            "negatives too: draw more listings uniformly"
        )
    prevalence = exact_lower(seen, n_seen, 1 - error)
    return n_positive / (n - n_positive) * (1 - prevalence) / prevalence


def exact(k: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """`k` of `n` with its two-sided exact interval (Clopper and Pearson 1934); NaN in [0, 1] where n is 0."""
    if not n:
        return Estimate(math.nan, 0.0, 1.0, 0)
    one_sided = (1 + confidence) / 2
    return Estimate(k / n, exact_lower(k, n, one_sided), 1 - exact_lower(n - k, n, one_sided), n)


@lru_cache(maxsize=64)
def rungs(n: int, target: float, error: float) -> Sizes:
    """Sizes up to `n` at which one more wrong one still certifies `target`: the w-th, from 0, is the least that bears w."""
    sizes = np.arange(1, n + 1)
    borne = binom.ppf(error, sizes, 1 - target).astype(np.int64)
    borne -= binom.cdf(borne, sizes, 1 - target) > error
    found: Sizes = sizes[np.diff(borne, prepend=-1) > 0]
    return found


def in_words(found: Estimate) -> str:
    """A share with its interval."""
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]" if found.n else "unknown"


def _starts(n: int, target: float, risk: float, expected: float | None) -> list[_Start]:
    """Early and late start, or the only one where the late one would be the first rung too."""
    half = rungs(n, target, risk / 2)
    late, early = (_at_most(half, share * (expected or 0)) for share in (LATE, EARLY))
    if late > early:
        return [_Start(early, risk / 2, risk / 2), _Start(late, risk / 2, risk)]
    whole = _at_most(rungs(n, target, risk), LATE * (expected or 0))
    return [_Start(whole, risk, risk)] if whole else []


def _at_most(sizes: Sizes, wanted: float) -> int:
    """The largest rung not above what is wanted, or the first; 0 without rungs."""
    return int(sizes[max(0, int(np.searchsorted(sizes, wanted, side="right")) - 1)]) if len(sizes) else 0


def _largest(ranked: _Ranked, starts: list[_Start], target: float) -> int:
    """The size that is certified, 0 = none: from the latest start that passes, rung by rung until one fails."""
    end = len(ranked.scores)
    for start in reversed(starts):
        first = ranked.reach(np.array([start.size]))
        if ranked.passes(first, target, start.error)[0]:
            sizes = rungs(len(ranked.scores), target, start.after)
            sizes = ranked.reach(sizes[(sizes > start.size) & (sizes <= end)])
            n_passed = int(np.cumprod(ranked.passes(sizes, target, start.after)).sum())
            return int(np.append(first, sizes)[n_passed])
        end = start.size - 1
    return 0


def _missing(ranked: _Ranked, target: float, risk: float) -> int | None:
    """Further rows after which some size would pass about half the time, were precision as it looks (add a half: Jeffreys).

    With fewer positives than the first rung nothing is known yet: what is missing if the detector finds them all.
    """
    n, n_positive = len(ranked.scores), int(ranked.right[-1])
    if not n_positive:
        return None
    sizes = np.unique(ranked.reach(np.unique(np.geomspace(1, n, 200).astype(np.int64))))
    looks = (ranked.right[sizes] + 0.5) / (sizes + 1)
    needed = np.array([_to_pass(float(p), target, risk) for p in looks])
    least = float(np.min(needed / sizes))
    first = math.log(risk) / math.log(target)
    if not math.isfinite(least) and n_positive < first:
        least = first / n_positive
    return max(1, math.ceil(least * n) - n) if math.isfinite(least) else None


def _to_pass(precision: float, target: float, risk: float) -> float:
    """Flagged rows that certify `target` about half the time at this precision; inf if that is not above it.

    Normal approximation, never below the first rung.
    """
    if precision <= target:
        return math.inf
    z = NormalDist().inv_cdf(1 - risk)
    return max(math.log(risk) / math.log(target), z * z * target * (1 - target) / (precision - target) ** 2)


def _deployed(found: Estimate, enrichment: float) -> Estimate:
    """A precision among enriched rows as it is in deployment."""
    value, low, high = (p / (p + enrichment * (1 - p)) for p in (found.value, found.low, found.high))
    return Estimate(value, low, high, found.n)


def _first_of_each(groups: NDArray[np.generic], n: int) -> Sizes:
    if len(groups) != n:
        raise InputError(f"{len(groups)} groups were given for {n} rows; give one a row")
    return np.sort(np.unique(np.asarray(groups), return_index=True)[1]).astype(np.int64)


def _thinned(rows: Sizes, weights: Floats, rng: np.random.Generator | None) -> Sizes:
    """Each row kept with a chance of its weight by the largest: what is left is drawn as deployment draws."""
    if rng is None:
        raise InputError("weights need an rng to draw by; give a seeded np.random.Generator")
    if weights.ndim != 1 or len(weights) <= rows.max(initial=-1) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(f"weights of shape {weights.shape} must be finite, at least 0 and one a row")
    mine = weights[rows]
    kept: Sizes = rows[rng.random(len(rows)) * mine.max(initial=0.0) < mine]
    return kept


def _check(scores: Floats, truth: Bools, target: float, risk: float, enrichment: float) -> None:
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise InputError(f"scores and truth must be of one length, got {scores.shape} and {truth.shape}")
    if not (0 < target < 1 and 0 < risk < 1 and 0 < enrichment < math.inf):
        raise InputError(f"target {target} and risk {risk} must be between 0 and 1, enrichment {enrichment} above 0")
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise ProbabilityError(f"{bad.size} of {len(scores)} scores are not finite, first rows {bad[:10].tolist()}; score again")
