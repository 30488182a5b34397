"""How far users' reports can be believed, learned from what moderators decided about them.

Each report reason and each reporter is right with a rate of its own. These rates differ by a Beta distribution whose strength
the data tell (hierarchical beta-binomial model: Gelman et al., Bayesian Data Analysis, 3rd ed., section 5.3), so that a reporter
with two decided reports stays near the rate of the reasons they gave. Several reports of one listing and the model's
probability are joined in log-odds; reports are not independent, so n of them count as n / (1 + (n - 1) r) with one correlation r
(Kish 1965, the design effect; Clemen and Winkler 1985 for correlated judges), which is learned as well.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, betaln, expit, logit

from curation.errors import InputError
from curation.quality.metrics import Estimate

STRENGTHS = np.geomspace(1, 300, 40)
USUAL_STRENGTH, SPREAD = 10.0, 1.0
"""Decided reports that a group's rate counts as before anything is known: log-normal around 10, one e-fold."""

CORRELATIONS = np.linspace(0, 1, 11)
USUAL_CORRELATION = 0.5
EDGE = 1e-4
"""Probabilities are kept this far from 0 and 1: no single source decides alone."""

BASE = 0.01
"""Share of listings with a violation, where nothing better is known."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Claim:
    """One listing reported for one reason by one or several people, and whether moderators found it so."""

    reason: str
    reporters: tuple[str | None, ...]  #: who reported it, one entry a report; None = nobody knows
    is_right: bool
    model: float | None = None  #: the model's out-of-sample probability of it, if there is one


@dataclass(frozen=True, slots=True)
class Rate:
    """How often reports of one kind were right: `n_right` of `n` decided ones, and what is believed of the next one."""

    n_right: int
    n: int
    precision: Estimate  #: posterior mean with its 95 % credible interval


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """What decided claims taught. A reason or reporter that is not named has no decided claim yet."""

    reasons: Mapping[str, Rate]
    reporters: Mapping[str, Rate]
    pooled: Rate  #: of all reasons together
    correlation: float  #: of the reports of one listing, in [0, 1]
    base: Mapping[str, float]  #: share of all listings that each reason holds for
    expected: Mapping[str, float]  #: by reporter: what their reasons' rates alone would say

    def precision(self, reason: str, reporter: str | None = None) -> float:
        """Probability that a report is right: its reason's rate, moved in log-odds by what its reporter is better or worse."""
        found = self.reasons.get(reason, self.pooled).precision.value
        if reporter is None or reporter not in self.reporters:
            return found
        better = _logit(self.reporters[reporter].precision.value) - _logit(self.expected[reporter])
        return float(expit(_logit(found) + better))

    def probability(self, reason: str, reporters: Sequence[str | None], model: float | None = None) -> float:
        """Probability in (0, 1) that a listing reported so is a case of `reason`; `model`: the model's own, if it has one.

        Without a report it is the model's, or the base rate.
        """
        prior = _logit(self.base.get(reason, BASE) if model is None else model)
        return float(expit(prior + _joined(self.evidence(reason, reporters), self.correlation)))

    def evidence(self, reason: str, reporters: Sequence[str | None]) -> list[float]:
        """What each report says for `reason`, in log-odds beyond the base rate."""
        base = _logit(self.base.get(reason, BASE))
        by_reporter = {one: _logit(self.precision(reason, one)) - base for one in set(reporters)}
        return [by_reporter[one] for one in reporters]


Counts = tuple[int, int]
"""How many were right, of how many decided."""


def learn(claims: Sequence[Claim], base: Mapping[str, float] | None = None) -> TrackRecord:
    """The track record of reasons and reporters. `base`: share of all listings, in (0, 1), that a reason holds for."""
    told: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        for who in set(claim.reporters) - {None}:
            told[str(who)].append(claim)
    by_reporter = {who: _counts((claim.reason, claim.is_right) for claim in said) for who, said in told.items()}
    found = of_counts(_counts((claim.reason, claim.is_right) for claim in claims), by_reporter, base)
    return replace(found, correlation=_correlation(found, claims))


def of_counts(
    by_reason: Mapping[str, Counts], by_reporter: Mapping[str, Mapping[str, Counts]], base: Mapping[str, float] | None = None
) -> TrackRecord:
    """The same from decided claims counted by reason, and by reporter and reason; nothing is learned of the correlation."""
    shares = dict(base or {})
    bad = {reason: share for reason, share in shares.items() if not 0 < share < 1}
    if bad:
        raise InputError(f"a share of listings lies between 0 and 1, got {bad}; leave out what is not known")
    pooled = _rate(sum(k for k, _ in by_reason.values()), sum(n for _, n in by_reason.values()), 0.5, 2.0)
    reasons = _shrunk(by_reason, dict.fromkeys(by_reason, pooled.precision.value))
    totals, means = {}, {}
    for who, said in by_reporter.items():
        n = sum(n for _, n in said.values())
        totals[who] = sum(k for k, _ in said.values()), n
        means[who] = sum(count * reasons[reason].precision.value for reason, (_, count) in said.items()) / n
    return TrackRecord(reasons, _shrunk(totals, means), pooled, USUAL_CORRELATION, shares, means)


def _counts(said: Iterable[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for name, is_right in said:
        k, n = found.get(name, (0, 0))
        found[name] = (k + is_right, n + 1)
    return found


def _shrunk(counts: Mapping[str, tuple[int, int]], means: Mapping[str, float]) -> dict[str, Rate]:
    """Each group's rate, drawn towards its mean as strongly as the groups are alike."""
    strength = _strength(np.array([(*counts[name], means[name]) for name in counts], np.float64).reshape(-1, 3))
    return {name: _rate(k, n, means[name], strength) for name, (k, n) in counts.items()}


def _strength(groups: NDArray[np.float64]) -> float:
    """The most probable strength for groups (G, 3) of right, decided and mean; the usual one without any."""
    right, n, mean = (column[:, None] for column in groups.T)
    a, b = STRENGTHS * mean, STRENGTHS * (1 - mean)
    fits = (betaln(a + right, b + n - right) - betaln(a, b)).sum(0)
    usual = -0.5 * (np.log(STRENGTHS / USUAL_STRENGTH) / SPREAD) ** 2
    return float(STRENGTHS[np.argmax(fits + usual)])


def _rate(k: int, n: int, mean: float, strength: float) -> Rate:
    a, b = strength * mean + k, strength * (1 - mean) + n - k
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(betaincinv(a, b, at)) for at in (tail, 1 - tail))
    return Rate(k, n, Estimate(float(a / (a + b)), low, high, n))


def _correlation(record: TrackRecord, claims: Sequence[Claim]) -> float:
    """The correlation under which what several reports said is most probable; the usual one where there is little to learn."""
    several = [claim for claim in claims if len(claim.reporters) > 1]
    evidence = [sum(record.evidence(claim.reason, claim.reporters)) for claim in several]
    prior = [_logit(record.base.get(claim.reason, BASE) if claim.model is None else claim.model) for claim in several]
    sign = np.array([1.0 if claim.is_right else -1.0 for claim in several])
    n = np.array([len(claim.reporters) for claim in several])
    divisor = 1 + (n - 1) * CORRELATIONS[:, None]  # (R, C)
    likely = -np.logaddexp(0, -sign * (np.array(prior) + np.array(evidence) / divisor)).sum(1)
    usual = np.log(np.maximum(CORRELATIONS * (1 - CORRELATIONS), EDGE))
    return float(CORRELATIONS[np.argmax(likely + usual)])


def _joined(evidence: Sequence[float], correlation: float) -> float:
    return sum(evidence) / (1 + (len(evidence) - 1) * correlation) if evidence else 0.0


def _logit(p: float) -> float:
    return float(logit(min(max(p, EDGE), 1 - EDGE)))
