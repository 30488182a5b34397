"""What users' reports of a listing say beyond the model, in log-odds, learned from what moderators decided.

A hierarchical logistic regression (Gelman and Hill 2007, Data Analysis Using Regression, ch. 14), at its most probable values:

    logit P(right) = κ logit(model) - logit(base) + μ + α_reason + Σ γ_reporter + β₁ log n + β₂ (n - 1)

with n reports and normal priors, α and γ around 0. Without a decision a single report of a listing that no model has seen is
right with even odds. Decided listings need not be a random sample of what it is fitted on: they are chosen by the model and
the reports, and both stand in the formula. How much a further report adds is learned, since reporters copy each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, logit

EDGE = 1e-4
"""Probabilities are kept this far from 0 and 1: no single source decides alone."""

BASE = 0.01
"""Share of listings with a violation, where nothing better is known."""

COMMON = ("model", "level", "log_n", "more")
PRIOR_MEANS = np.array([1.0, 0.0, 1.0, 0.3])
PRIOR_SDS = np.array([0.15, 0.7, 0.3, 0.1])
"""Of κ, μ, β₁ and β₂: a second report multiplies the odds by 2.7 where nothing is known. Chosen on seeds 100 to 105 of
`tests.benchmarks.reports`, which prints seeds 0 to 9."""

REASON_SD, REPORTER_SD = 0.3, 0.7

Floats = NDArray[np.float64]
Reporters = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """One listing reported for one reason by one or several people, and whether moderators found it so."""

    reason: str
    reporters: tuple[str | None, ...]  #: who reported it, one entry a report; None = nobody knows
    is_right: bool
    model: float | None = None  #: the model's out-of-sample probability of it, if there is one


@dataclass(frozen=True, slots=True)
class Weights:
    """The fitted numbers; those of a reason or reporter that is not named are 0."""

    common: tuple[float, ...] = tuple(map(float, PRIOR_MEANS))  #: κ, μ, β₁, β₂
    reasons: Mapping[str, float] = field(default_factory=dict)
    reporters: Mapping[str, float] = field(default_factory=dict)
    base: Mapping[str, float] = field(default_factory=dict)  #: share of all listings that each reason holds for

    def probability(self, reason: str, reporters: Reporters, model: float | None) -> float:
        """Probability in (0, 1) that a listing reported so is a case of `reason`; without one the model's or the base rate."""
        base = log_odds(self.base.get(reason, BASE))
        seen = base if model is None else log_odds(model)
        if not reporters:
            return float(expit(seen))
        known = self.reasons.get(reason, 0.0) + sum(self.reporters.get(who, 0.0) for who in reporters if who is not None)
        return float(expit(_row(seen, len(reporters)) @ np.array(self.common) - base + known))


def fit(claims: Sequence[Claim], base: Mapping[str, float]) -> Weights:
    """The most probable weights. `base`: share of all listings, in (0, 1), that a reason holds for."""
    if not claims:
        return Weights(base=dict(base))
    reasons = sorted({claim.reason for claim in claims})
    people = sorted({who for claim in claims for who in claim.reporters if who is not None})
    offset = np.array([-log_odds(base.get(claim.reason, BASE)) for claim in claims])
    design = _design(claims, base, reasons, people)
    sign = np.array([1.0 if claim.is_right else -1.0 for claim in claims])
    means = np.concatenate([PRIOR_MEANS, np.zeros(len(reasons) + len(people))])
    sds = np.concatenate([PRIOR_SDS, np.full(len(reasons), REASON_SD), np.full(len(people), REPORTER_SD)])

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = sign * (design @ w + offset)
        apart = (w - means) / sds
        value = np.logaddexp(0, -margin).sum() + 0.5 * (apart**2).sum()
        return float(value), -(design.T @ (sign * expit(-margin))) + apart / sds

    w = minimize(loss, means, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    n, m = len(COMMON), len(COMMON) + len(reasons)
    named = dict(zip(reasons, map(float, w[n:m]), strict=True)), dict(zip(people, map(float, w[m:]), strict=True))
    return Weights(tuple(map(float, w[:n])), *named, dict(base))


def log_odds(p: float) -> float:
    """Of a probability, kept from the edges."""
    return float(logit(min(max(p, EDGE), 1 - EDGE)))


def _row(seen: float, n: int) -> Floats:
    return np.array([seen, 1.0, np.log(n), n - 1.0])


def _design(claims: Sequence[Claim], base: Mapping[str, float], reasons: list[str], people: list[str]) -> csr_matrix:
    """(C, 4 + reasons + reporters)."""
    at_reason = {name: len(COMMON) + at for at, name in enumerate(reasons)}
    at_person = {name: len(COMMON) + len(reasons) + at for at, name in enumerate(people)}
    rows, columns, values = [], [], []
    for row, claim in enumerate(claims):
        seen = log_odds(base.get(claim.reason, BASE) if claim.model is None else claim.model)
        entries = [*enumerate(_row(seen, len(claim.reporters))), (at_reason[claim.reason], 1.0)]
        entries += [(at_person[who], 1.0) for who in claim.reporters if who is not None]
        for column, value in entries:
            rows.append(row)
            columns.append(column)
            values.append(float(value))
    return csr_matrix((values, (rows, columns)), shape=(len(claims), len(COMMON) + len(reasons) + len(people)))
