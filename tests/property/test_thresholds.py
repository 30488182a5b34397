"""The promise of certified thresholds, by simulation where the true precision is known, and what holds for any rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from curation.quality import thresholds

N_DRAWS = 400
MOST = int(binom.ppf(0.999, N_DRAWS, 0.05))
"""Broken promises among so many draws that a risk of 5 % allows, but for one seed in a thousand."""


@pytest.mark.parametrize(("n", "share", "shift"), [(3_000, 0.2, 2.0), (10_000, 0.05, 2.48), (2_000, 0.899, 0.0)])
def test_the_true_precision_seldom_falls_below_the_target(n: int, share: float, shift: float) -> None:
    """Also where all precisions lie just below the target, the worst case (shift 0)."""
    rng, n_broken = np.random.default_rng(7), 0
    for _ in range(N_DRAWS):
        truth = rng.random(n) < share
        found = thresholds.certify(rng.standard_normal(n) + shift * truth, truth, target=0.9, expected=share * n)
        right, wrong = share * norm.sf(found.value - shift), (1 - share) * norm.sf(found.value)
        n_broken += found.holds and right / (right + wrong) < 0.9
    assert n_broken <= MOST


@pytest.mark.parametrize("way", ["known", "bounded", "weights"])
def test_enriched_rows_keep_the_promise_when_corrected(way: str) -> None:
    """Half positive among the rows, a fifth in deployment; uncorrected the promise breaks nearly always."""
    rng, n, share, broken = np.random.default_rng(8), 6_000, 0.2, {"plain": 0, way: 0}
    for _ in range(150):
        truth = rng.random(n) < 0.5
        scores = rng.standard_normal(n) + 2.0 * truth
        seen = int(rng.binomial(2_000, share))
        changes = {
            "known": {"enrichment": 4.0},
            "bounded": {"enrichment": thresholds.enrichment_bound(int(truth.sum()), n, seen, 2_000, 0.025), "risk": 0.025},
            "weights": {"weights": np.where(truth, 0.25, 1.0), "rng": rng},
        }[way]
        for name, asked in (("plain", {}), (way, changes)):
            value = thresholds.certify(scores, truth, **{"target": 0.9, "expected": n / 2, **asked}).value  # type: ignore[arg-type]
            right, wrong = share * norm.sf(value - 2.0), (1 - share) * norm.sf(value)
            broken[name] += right + wrong > 0 and right / (right + wrong) < 0.9
    assert broken["plain"] > 100 and broken[way] <= int(binom.ppf(0.999, 150, 0.05))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=120), st.floats(0.3, 0.97), st.floats(0, 200))
@settings(deadline=None)
def test_what_is_certified_is_counted_rightly(rows: list[tuple[float, bool]], target: float, expected: float) -> None:
    """On any rows: flags, precision and recall are those of the threshold, and its own test passes."""
    scores, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], dtype=bool)
    found = thresholds.certify(scores, truth, target=target, expected=expected)
    flagged = scores >= found.value
    assert flagged.sum() == found.n_flagged and found.n == len(rows)
    assert found.holds == (found.n_flagged > 0) == (found.n_more == 0)
    if found.holds:
        assert truth[flagged].mean() == pytest.approx(found.precision.value) and found.precision.value >= target
        assert binom.sf(truth[flagged].sum() - 1, flagged.sum(), target) <= 0.05
