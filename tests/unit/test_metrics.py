"""Intervals, certified thresholds and paired differences, against known values and by simulation."""

import numpy as np
import pytest
from scipy import stats

from curation.errors import InputError
from curation.quality import metrics


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (8, 10), (10, 10), (63, 240), (4999, 5000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_scipys(k: int, n: int, confidence: float) -> None:
    """The formula written out gives what scipy gives."""
    found, reference = metrics.wilson(k, n, confidence), stats.binomtest(k, n).proportion_ci(confidence, "wilson")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (8, 10), (10, 10), (950, 1000)])
def test_the_exact_bound_is_clopper_pearsons(k: int, n: int) -> None:
    """One-sided at 95 % is the lower end of the two-sided 90 % interval."""
    reference = stats.binomtest(k, n).proportion_ci(0.9, "exact").low
    assert metrics.exact_lower(k, n, 0.95) == pytest.approx(reference, abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_a_share_above_its_whole_is_refused(k: int, n: int) -> None:
    """Both bounds say so."""
    with pytest.raises(InputError, match=f"got {k} of {n}"):
        metrics.wilson(k, n)
    with pytest.raises(InputError, match=f"got {k} of {n}"):
        metrics.exact_lower(k, n)


def test_accuracy_of_nothing_is_not_a_number_with_the_widest_interval() -> None:
    """No observation, no claim."""
    found = metrics.accuracy(np.zeros(0, dtype=bool))
    assert np.isnan(found.value) and (found.low, found.high, found.n) == (0.0, 1.0, 0)
    assert metrics.accuracy(np.array([True, True, False, True])).value == 0.75


def test_average_precision_without_positives_is_not_a_number() -> None:
    """And 1 for a perfect ranking."""
    scores = np.array([0.1, 0.9, 0.8])
    assert np.isnan(metrics.average_precision(np.zeros(3, dtype=bool), scores))
    assert metrics.average_precision(np.array([False, True, True]), scores) == 1.0


def test_a_paired_difference_counts_near_duplicates_once() -> None:
    """The same rows in groups of ten give an interval about three times as wide."""
    rng = np.random.default_rng(0)
    once = rng.random(100) < 0.3
    ours, theirs = np.repeat(once, 10), np.zeros(1000, dtype=bool)
    single = metrics.paired_difference(ours, theirs, np.arange(1000).astype(str), rng=rng)
    grouped = metrics.paired_difference(ours, theirs, np.repeat(np.arange(100), 10).astype(str), rng=rng)
    assert single.value == grouped.value == pytest.approx(once.mean())
    assert (grouped.high - grouped.low) / (single.high - single.low) == pytest.approx(10**0.5, rel=0.15)


def test_a_paired_difference_of_equals_is_zero_and_of_nothing_is_unknown() -> None:
    """Its interval is all there can be."""
    rng, same, groups = np.random.default_rng(0), np.array([True, False]), np.array(["a", "b"])
    assert metrics.paired_difference(same, same, groups, rng=rng) == metrics.Estimate(0.0, 0.0, 0.0, 2)
    nothing = metrics.paired_difference(same[:0], same[:0], groups[:0], rng=rng)
    assert np.isnan(nothing.value) and (nothing.low, nothing.high) == (-1.0, 1.0)
    with pytest.raises(InputError, match="got 2, 1"):
        metrics.paired_difference(same, same[:1], groups, rng=rng)


def test_the_bootstrap_does_not_depend_on_its_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing in blocks that fit into memory gives the same draws."""
    rows = np.random.default_rng(1).random(50) < 0.5
    whole = metrics.paired_difference(rows, ~rows, np.arange(50).astype(str), rng=np.random.default_rng(2))
    monkeypatch.setattr(metrics, "DRAW_BLOCK", 333)
    assert metrics.paired_difference(rows, ~rows, np.arange(50).astype(str), rng=np.random.default_rng(2)) == whole


def test_a_clean_separation_is_certified() -> None:
    """200 true rows above 200 false ones: nearly all are flagged, none wrongly."""
    scores = np.linspace(1, 0, 400)
    found = metrics.threshold_for_precision(scores, np.arange(400) < 200, 0.95)
    assert found.is_certified and found.precision_low >= 0.95
    assert found.n_flagged == 190 and found.precision == 1.0


def test_too_few_rows_certify_nothing() -> None:
    """Ten right out of ten do not prove 95 %."""
    found = metrics.threshold_for_precision(np.linspace(1, 0.5, 10), np.ones(10, dtype=bool), 0.95)
    assert not found.is_certified and found.value == np.inf and found.n_flagged == 0


def test_equal_scores_are_cut_together() -> None:
    """A threshold cannot split a tie."""
    scores, truth = np.full(300, 0.5), np.arange(300) < 100
    assert not metrics.threshold_for_precision(scores, truth, 0.9).is_certified
    assert metrics.threshold_for_precision(scores, truth, 0.25).n_flagged == 300


def test_certificates_hold_as_often_as_promised() -> None:
    """Over 400 samples whose true precision is just below the target, hardly one in twenty is certified."""
    rng = np.random.default_rng(3)
    n_wrong = sum(metrics.threshold_for_precision(rng.random(300), rng.random(300) < 0.89, 0.9).is_certified for _ in range(400))
    assert n_wrong <= 0.05 * 400


def test_threshold_refuses_scores_that_are_not_finite_or_too_few() -> None:
    """A NaN score would sort anywhere."""
    with pytest.raises(InputError, match="finite scores"):
        metrics.threshold_for_precision(np.array([np.nan, 0.5]), np.array([True, False]), 0.9)
    with pytest.raises(InputError, match="1 finite scores are needed for 2 rows"):
        metrics.threshold_for_precision(np.array([0.5]), np.array([True, False]), 0.9)
