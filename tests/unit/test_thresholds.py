"""Certified thresholds and what they are reported by: known answers, corrections, abstentions, bad input."""

import math

import numpy as np
import pytest
from scipy import stats

from curation.errors import InputError, ProbabilityError
from curation.quality import flags, thresholds
from curation.quality.metrics import exact_lower

RNG_SEED = 5


def rows(n: int, n_right: int) -> tuple[np.ndarray, np.ndarray]:
    """Falling scores, the first `n_right` rows positive."""
    return np.linspace(1, 0, n), np.arange(n) < n_right


def test_rungs_are_the_least_sizes_that_bear_one_more_wrong() -> None:
    """29 right in a row certify 0.9 at 0.05, 46 bear one wrong, and each rung is tight."""
    found = thresholds.rungs(300, 0.9, 0.05)
    assert found[:5].tolist() == [29, 46, 61, 76, 89]
    for wrong, n in enumerate(found.tolist()):
        assert exact_lower(n - wrong, n, 0.95) >= 0.9 > exact_lower(max(0, n - 1 - wrong), n - 1, 0.95)


def test_a_clean_separation_is_certified_to_its_end() -> None:
    """200 right ones above 800 wrong ones: flagged as far as the bound bears, with exact intervals."""
    scores, truth = rows(1000, 200)
    found = thresholds.certify(scores, truth, target=0.9, expected=200)
    assert found.holds and found.value == scores[found.n_flagged - 1] and 200 <= found.n_flagged <= 222
    interval = stats.binomtest(200, found.n_flagged).proportion_ci(0.95, "exact")
    assert (found.precision.low, found.precision.high) == pytest.approx((interval.low, interval.high))
    assert found.recall.value == 1.0 and "at least 90% right, at a risk of 5%" in found.words


def test_three_positives_abstain_and_say_how_many_labels_are_missing() -> None:
    """Even if all three score highest: a tenth of what the first rung needs."""
    found = thresholds.certify(*rows(100, 3), target=0.9)
    assert not found.holds and found.value == math.inf and found.n_flagged == 0
    assert 800 < (found.n_more or 0) < 1000 and "more verified labels needed (3 of 100 positive)" in found.words


@pytest.mark.parametrize("n", [0, 1, 500])
def test_without_a_positive_nothing_is_flagged(n: int) -> None:
    """All negative, or no row at all: no number is made up."""
    found = thresholds.certify(*rows(n, 0), target=0.9, expected=10)
    assert not found.holds and found.n_more is None and np.isnan(found.precision.value)
    assert f"none of {n} verified labels is positive" in found.words


def test_a_detector_that_knows_nothing_is_not_helped_by_labels() -> None:
    """Half of what scores highest is wrong: no number of labels is named."""
    found = thresholds.certify(np.linspace(1, 0, 2000), np.arange(2000) % 2 == 0, target=0.9, expected=1000)
    assert not found.holds and found.n_more is None and "the detector must get better" in found.words


def test_near_duplicates_count_once() -> None:
    """A hundred copies of one right listing are one piece of evidence."""
    scores, truth = rows(200, 150)
    assert thresholds.certify(scores, truth, target=0.9).holds
    found = thresholds.certify(scores, truth, target=0.9, groups=np.maximum(np.arange(200), 140))
    assert not found.holds and (found.n, found.n_positive) == (60, 10)
    assert thresholds.certify(scores, truth, target=0.9, groups=np.arange(200) // 2).n_positive == 75


def test_ties_are_cut_together() -> None:
    """A threshold cannot split equal scores."""
    scores, truth = np.full(300, 0.5), np.arange(300) < 100
    assert not thresholds.certify(scores, truth, target=0.9, expected=100).holds
    found = thresholds.certify(scores, truth, target=0.25, expected=100)
    assert found.holds and found.n_flagged == 300


def test_the_prevalence_is_corrected_by_the_odds() -> None:
    """Half positive among the rows, 5 % in deployment: 0.9 there is 0.9942 here, and the estimate is translated back."""
    assert thresholds.corrected(0.9, 19) == pytest.approx(171 / 172)
    assert thresholds.corrected(0.9, 1) == pytest.approx(0.9)
    scores, truth = rows(4000, 2000)
    truth = truth & (np.arange(4000) != 1000)
    found = thresholds.certify(scores, truth, target=0.9, expected=2000, enrichment=19)
    assert 1000 < found.n_flagged < thresholds.certify(scores, truth, target=0.9, expected=2000).n_flagged
    n_wrong = found.n_flagged - int(truth[: found.n_flagged].sum())
    assert found.precision.value == pytest.approx(1 / (1 + 19 * n_wrong / (found.n_flagged - n_wrong)))


def test_a_prevalence_from_few_draws_costs() -> None:
    """The bound of the enrichment is above the plain ratio, and needs a positive to exist."""
    found = thresholds.enrichment_bound(500, 1000, 100, 2000, 0.025)
    assert 19 < found < 25
    with pytest.raises(InputError, match="draw more listings uniformly"):
        thresholds.enrichment_bound(500, 1000, 0, 2000, 0.025)


def test_weights_draw_rows_as_deployment_does() -> None:
    """Positives that were taken ten times too often are thinned to a tenth."""
    scores, truth = rows(20_000, 10_000)
    weights, rng = np.where(truth, 0.1, 1.0), np.random.default_rng(RNG_SEED)
    found = thresholds.certify(scores, truth, target=0.9, expected=1000, weights=weights, rng=rng)
    assert found.n_positive == pytest.approx(1000, abs=120) and found.n - found.n_positive == 10_000
    with pytest.raises(InputError, match="need an rng"):
        thresholds.certify(scores, truth, target=0.9, weights=weights)
    with pytest.raises(InputError, match="at least 0"):
        thresholds.certify(scores, truth, target=0.9, weights=-weights, rng=rng)


def test_bad_input_is_named() -> None:
    """NaN, other lengths, impossible targets."""
    scores, truth = rows(50, 20)
    broken = np.where(np.arange(50) == 7, np.nan, scores)
    for call in (
        lambda: thresholds.certify(broken, truth, target=0.9),
        lambda: flags.figures(broken, truth, 0.5, rng=np.random.default_rng(0)),
    ):
        with pytest.raises(ProbabilityError, match=r"1 of 50 scores are not finite, first rows \[7\]"):
            call()
    for changes in ({"target": 1.0}, {"risk": 0.0}, {"enrichment": 0.0}, {"enrichment": math.inf}, {"groups": np.arange(3)}):
        with pytest.raises(InputError):
            thresholds.certify(scores, truth, **{"target": 0.9, **changes})
    with pytest.raises(InputError, match="one length"):
        thresholds.certify(scores, truth[:3], target=0.9)


def test_figures_have_intervals_that_hold_them() -> None:
    """Precision and recall from 0.9 on and from the threshold on are counted; average precision is sklearn's."""
    rng = np.random.default_rng(RNG_SEED)
    truth = rng.random(400) < 0.3
    scores = np.clip(rng.random(400) * 0.6 + 0.4 * truth, 0, 1)
    found = flags.figures(scores, truth, 0.7, rng=rng)
    assert found.precision.value == truth[scores >= 0.9].mean() and found.certified_recall.value == (scores[truth] >= 0.7).mean()
    for one in (found.average_precision, found.precision, found.recall, found.certified_precision, found.certified_recall):
        assert 0 <= one.low <= one.value <= one.high <= 1
    assert 0.05 < found.average_precision.high - found.average_precision.low < 0.25
    nothing = flags.figures(scores, np.zeros(400, bool), math.inf, rng=rng)
    assert np.isnan(nothing.average_precision.value) and nothing.certified_precision.n == 0


def test_rows_stand_for_the_listings_nobody_asked_about() -> None:
    """Reported ones were all asked about, of the others every tenth: each of these stands for ten."""
    scores, reported = np.linspace(1, 0, 1000), np.arange(1000) % 2 == 0
    asked = reported | (np.arange(1000) % 20 == 1)
    found, weights = flags.stand_for(scores, asked, reported, 10_000)
    assert len(found) == asked.sum() and weights.sum() == pytest.approx(1000, rel=0.02)
    assert weights[reported[found]] == pytest.approx(1) and weights[~reported[found]] == pytest.approx(10, rel=0.1)
    head, _ = flags.stand_for(scores, asked, reported, 50)
    assert len(head) == 50 and head.max() < 100
    alone, pooled = flags.stand_for(scores, reported, reported, 10_000)
    assert len(alone) == 500 and pooled == pytest.approx(2, rel=0.02)
