"""How far users' reports can be believed, learned from what moderators decided about them.

Each report reason and each reporter is right with a rate of its own. These rates differ by a Beta distribution whose strength
the data tell (hierarchical beta-binomial model: Gelman et al., Bayesian Data Analysis, 3rd ed., section 5.3), so that a reporter
with two decided reports stays near the rate of the reasons they gave. These are the figures that people read. What the reports
of one listing say together with the model is the matter of `report_evidence.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, betaln

from curation.errors import InputError
from curation.quality import report_evidence
from curation.quality.metrics import Estimate
from curation.quality.report_evidence import Claim, Weights

STRENGTHS = np.geomspace(1, 300, 40)
USUAL_STRENGTH, SPREAD = 10.0, 1.0
"""Decided reports that a group's rate counts as before anything is known: log-normal around 10, one e-fold."""

CONFIDENCE = 0.95

Counts = tuple[int, int]
"""How many were right, of how many decided."""


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
    expected: Mapping[str, float]  #: by reporter: what their reasons' rates alone would say
    weights: Weights  #: of reports beside the model

    def probability(self, reason: str, reporters: Sequence[str | None], model: float | None = None) -> float:
        """Probability in (0, 1) that a listing reported so is a case of `reason`; `model`: the model's own, if it has one."""
        return self.weights.probability(reason, reporters, model)


def learn(claims: Sequence[Claim], base: Mapping[str, float] | None = None) -> TrackRecord:
    """The track record of reasons and reporters. `base`: share of all listings, in (0, 1), that a reason holds for.

    Raises InputError on another share.
    """
    shares = dict(base or {})
    bad = {reason: share for reason, share in shares.items() if not 0 < share < 1}
    if bad:
        raise InputError(f"a share of listings lies between 0 and 1, got {bad}; leave out what is not known")
    told: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        for who in set(claim.reporters) - {None}:
            told[str(who)].append(claim)
    by_reporter = {who: _counts((claim.reason, claim.is_right) for claim in said) for who, said in told.items()}
    found = of_counts(_counts((claim.reason, claim.is_right) for claim in claims), by_reporter)
    return replace(found, weights=report_evidence.fit(claims, shares))


def of_counts(by_reason: Mapping[str, Counts], by_reporter: Mapping[str, Mapping[str, Counts]]) -> TrackRecord:
    """The rates alone, from decided claims counted by reason, and by reporter and reason; nothing is learned of evidence."""
    pooled = _rate(sum(k for k, _ in by_reason.values()), sum(n for _, n in by_reason.values()), 0.5, 2.0)
    reasons = _shrunk(by_reason, dict.fromkeys(by_reason, pooled.precision.value))
    totals, means = {}, {}
    for who, said in by_reporter.items():
        n = sum(n for _, n in said.values())
        totals[who] = sum(k for k, _ in said.values()), n
        means[who] = sum(count * reasons[reason].precision.value for reason, (_, count) in said.items()) / n
    return TrackRecord(reasons, _shrunk(totals, means), pooled, means, Weights())


def _counts(said: Iterable[tuple[str, bool]]) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for name, is_right in said:
        k, n = found.get(name, (0, 0))
        found[name] = (k + is_right, n + 1)
    return found


def _shrunk(counts: Mapping[str, Counts], means: Mapping[str, float]) -> dict[str, Rate]:
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
