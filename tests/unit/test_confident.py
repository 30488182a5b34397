"""Confident learning from top-k: cleanlab's decisions, and what it cannot do: forget, refresh, state its doubt."""

from dataclasses import replace

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality import confident
from curation.quality.confident import Confidence, estimate, refresh, undecided
from curation.quality.noise import NoiseMatrix, NotEstimable, rates
from curation.quality.pairs import PairCounts
from curation.quality.sparse import TopK

FILTERS = {"confident_learning": confident.confident_learning, "low_self_confidence": confident.low_self_confidence}


def marketplace(n: int, k: int, seed: int = 0, signal: float = 4.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Zipf classes, a fifth of the labels a sibling's; each of the classes has at least one row."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, k + 1)
    true = np.concatenate([np.arange(k), rng.choice(k, n - k, p=weights / weights.sum())])
    sibling = np.minimum(true // 10 * 10 + rng.integers(10, size=n), k - 1)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), true] += signal * (0.5 + rng.random(n))
    logits[np.arange(n), sibling] += 2 * rng.random(n)
    powers = np.exp(1.5 * logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), np.where(rng.random(n) < 0.2, sibling, true)


def same(one: Confidence, other: Confidence) -> bool:
    """Equal to the last bit."""
    parts = [(s.sums.total, s.sums.count, s.guess, s.joint.keys, s.joint.counts) for s in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*parts, strict=True))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("n", "k"), [(60, 2), (500, 5), (900, 300), (3000, 40)])
def test_with_all_probabilities_decisions_are_cleanlabs(name: str, n: int, k: int) -> None:
    """Row for row, also with classes that have one example."""
    probs, labels = marketplace(n, k)
    store = TopK.of(probs, labels, k=k)
    reference = find_label_issues(labels, probs, filter_by=name, n_jobs=1)
    assert (FILTERS[name](store, estimate(store)) == reference).all() and reference.any()


@pytest.mark.parametrize("name", FILTERS)
def test_with_ten_of_four_hundred_they_differ_only_where_it_says_so(name: str) -> None:
    """Jaccard 0.999 or better, and no guess differs outside of the rows called undecided."""
    probs, labels = marketplace(6000, 400, signal=6)
    store, dense = TopK.of(probs, labels), TopK.of(probs, labels, k=400)
    state, reference = estimate(store), find_label_issues(labels, probs, filter_by=name, n_jobs=1)
    found = FILTERS[name](store, state)
    assert (found & reference).sum() / (found | reference).sum() >= 0.999
    assert np.isin(np.flatnonzero(state.guess != estimate(dense).guess), undecided(store, state)).all()
    assert len(undecided(dense, estimate(dense))) == 0


def test_a_store_that_is_too_small_says_so() -> None:
    """Flat rows, two of three hundred classes kept: guesses differ, each of them in a row called undecided."""
    probs, labels = marketplace(3000, 300, signal=1)
    store = TopK.of(probs, labels, k=2)
    state = estimate(store)
    differing = np.flatnonzero(state.guess != estimate(TopK.of(probs, labels, k=300)).guess)
    assert len(differing) > 50 and np.isin(differing, undecided(store, state)).all()


def test_the_given_label_counts_even_outside_the_top() -> None:
    """It is the only class that the row is confident in: the guess is the label, and no issue."""
    probs = np.array([[0.5, 0.3, 0.2]] * 3 + [[0.9, 0.05, 0.05]] * 9 + [[0.1, 0.8, 0.1]] * 9)
    labels = np.array([2] * 3 + [0] * 9 + [1] * 9)
    state = estimate(TopK.of(probs, labels, k=2))
    assert state.guess[:3].tolist() == [2, 2, 2]
    assert (state.joint.dense() == compute_confident_joint(labels, probs, calibrate=False)).all()


@pytest.mark.filterwarnings("ignore:May not flag all label issues")
@pytest.mark.parametrize(("n", "k"), [(3000, 40), (4000, 200)])
def test_pruning_by_noise_rate_is_close_to_cleanlabs_default(n: int, k: int) -> None:
    """Exact ties and classes of a few rows are where they part."""
    probs, labels = marketplace(n, k, signal=6)
    store = TopK.of(probs, labels)
    found, reference = confident.prune_by_noise_rate(store, estimate(store)), find_label_issues(labels, probs, n_jobs=1)
    assert (found & reference).sum() / (found | reference).sum() > 0.9


def test_unlabelled_rows_do_not_count_and_are_never_flagged() -> None:
    """The other rows are decided as if they were alone."""
    probs, labels = marketplace(2000, 30)
    labels[::7] = -1
    kept = labels >= 0
    store, alone = TopK.of(probs, labels), TopK.of(probs[kept], labels[kept])
    for decide in (*FILTERS.values(), confident.prune_by_noise_rate):
        found = decide(store, estimate(store))
        assert not found[~kept].any() and (found[kept] == decide(alone, estimate(alone))).all()


def test_a_class_without_labels_is_never_guessed() -> None:
    """However probable: nobody says what is normal for it (fault 36)."""
    probs, labels = marketplace(2000, 30)
    labels[labels == 0] = 1
    state = estimate(TopK.of(probs, labels))
    assert np.isinf(state.thresholds[0]) and not (state.guess == 0).any()


@pytest.mark.parametrize(("n", "k"), [(0, 3), (4, 1), (1, 5)])
def test_no_rows_one_class_and_one_row_flag_nothing(n: int, k: int) -> None:
    """Nothing can be confused with anything (fault 36)."""
    store = TopK.of(np.full((n, k), 1 / k), np.zeros(n, dtype=int))
    state = estimate(store)
    for decide in (*FILTERS.values(), confident.prune_by_noise_rate):
        assert not decide(store, state).any()
    assert len(undecided(store, state)) == 0 and NoiseMatrix.of(state).n_labels.sum() == n


def test_a_refresh_is_a_full_recompute() -> None:
    """A hundred rows of three thousand get new labels and probabilities, three times over; some lose their label."""
    probs, labels = marketplace(3000, 60)
    store, rng = TopK.of(probs, labels), np.random.default_rng(1)
    state = estimate(store)
    for seed in range(3):
        rows = rng.choice(3000, 100, replace=False)
        fresh, given = marketplace(100, 60, seed=seed + 5)
        given[:10] = -1
        state = refresh(state, store, rows, TopK.of(fresh, given))
        assert same(state, estimate(store))


def test_a_changed_threshold_turns_rows_that_did_not_change() -> None:
    """A class whose rows become surer asks more of everybody."""
    probs, labels = marketplace(3000, 20)
    store = TopK.of(probs, labels)
    before = estimate(store)
    rows = np.flatnonzero(labels == 0)[:200]
    after = refresh(before, store, rows, TopK.of(np.eye(20)[np.zeros(200, dtype=int)], np.zeros(200, dtype=int)))
    others = np.setdiff1d(np.arange(3000), rows)
    assert (before.guess != after.guess)[others].any() and same(after, estimate(store))


def test_appended_rows_are_refreshed_in() -> None:
    """The state of the shorter store and the new rows give the state of the longer one."""
    probs, labels = marketplace(500, 20)
    old, new = TopK.of(probs[:400], labels[:400]), TopK.of(probs[400:], labels[400:])
    longer = TopK.concatenate([old, new])
    assert same(refresh(estimate(old), longer, np.arange(400, 500), new), estimate(longer))
    with pytest.raises(ProbabilityError, match="appended"):
        refresh(estimate(old), longer, np.arange(399), longer.take(np.arange(399)))


def test_rows_to_refresh_must_be_named_once_and_exist() -> None:
    """Nothing is written otherwise."""
    probs, labels = marketplace(50, 5)
    store = TopK.of(probs, labels)
    state, part = estimate(store), store.take(np.arange(2))
    for rows, reason in ([[3, 3], "distinct"], [[3, 50], "counted from 0"], [[-1, 3], "counted from 0"], [[1], "shape"]):
        with pytest.raises(ProbabilityError, match=reason):
            refresh(state, store, np.array(rows), part)
    with pytest.raises(ProbabilityError, match="do not fit"):
        refresh(state, store, np.arange(2), TopK.of(np.full((2, 6), 1 / 6), np.zeros(2, dtype=int)))
    with pytest.raises(ProbabilityError, match="none may go"):
        refresh(state, part, np.arange(2), part)
    with pytest.raises(ProbabilityError, match="hold NaN"):
        refresh(state, store, np.arange(2), replace(part, p=np.full_like(part.p, np.nan)))
    assert same(state, estimate(store))


def test_what_was_never_added_cannot_be_taken_away() -> None:
    """A state of other rows is found out."""
    few, many = (estimate(TopK.of(*marketplace(n, 5))) for n in (50, 500))
    with pytest.raises(ProbabilityError, match="recompute"):
        few.joint - many.joint
    with pytest.raises(ProbabilityError, match="recompute"):
        few.sums - many.sums


def test_the_lowest_scores_are_taken_in_order_of_rows_where_they_tie() -> None:
    """Also none and all of them."""
    scores = np.array([0.5, 0.1, 0.5, 0.5, 0.0])
    assert [confident.lowest(scores, n).tolist() for n in (0, 3, 9)] == [[], [0, 1, 4], [0, 1, 2, 3, 4]]


def test_the_calibrated_joint_is_cleanlabs() -> None:
    """Rows sum to the labels; cells differ by one at most, where remainders tie."""
    probs, labels = marketplace(3000, 40)
    state = estimate(TopK.of(probs, labels))
    ours, theirs = NoiseMatrix.of(state).calibrated.dense(), compute_confident_joint(labels, probs, calibrate=True)
    assert np.array_equal(ours.sum(axis=1), np.bincount(labels, minlength=40))
    assert abs(ours - theirs).max() <= 1 and (ours != theirs).mean() < 0.05


def counted(pairs: dict[tuple[int, int], int], n_labels: list[int]) -> NoiseMatrix:
    """The noise matrix of a confident joint given in cells."""
    cells = np.array([[*pair, n] for pair, n in pairs.items()])
    joint = PairCounts.of(np.repeat(cells[:, 0], cells[:, 2]), np.repeat(cells[:, 1], cells[:, 2]), len(n_labels))
    sums = confident.ClassSums(np.zeros(len(n_labels), dtype=np.int64), np.array(n_labels))
    return NoiseMatrix.of(Confidence(sums, np.zeros(0, dtype=np.int32), joint))


def test_noise_rates_come_with_counts_and_intervals() -> None:
    """Twenty of a hundred confident rows of class 0 belong to 1, five to 2; a thousand listings carry it."""
    noise = counted({(0, 0): 75, (0, 1): 20, (0, 2): 5, (1, 1): 50, (2, 2): 50}, [1000, 50, 60])
    assert noise.rate[0] == 0.25 and noise.low[0] == pytest.approx(0.175, abs=2e-3)
    assert [(s.category, s.n_confident, s.n_calibrated) for s in noise.suggestions(0)] == [(1, 20, 200), (2, 5, 50)]
    assert noise.suggestions(0, limit=1)[0].rate.high == pytest.approx(0.289, abs=2e-3)
    assert noise.rate[1] == 0 and 0 < noise.high[1] < 0.08


def test_thin_categories_are_not_estimated_and_say_why() -> None:
    """Never labelled, labelled too rarely, or labelled often and never clear (fault 36)."""
    noise = counted({(0, 0): 30, (2, 2): 4, (3, 1): 3}, [40, 0, 5, 400])
    assert np.isnan(noise.rate[1:]).all() and noise.why_not(0) is None
    assert [noise.why_not(k) for k in (1, 2, 3)] == list(NotEstimable)
    (suggestion,) = noise.suggestions(3)
    assert suggestion.n_confident == 3 and np.isnan([suggestion.rate.value, suggestion.rate.low]).all()


def test_wilson_intervals() -> None:
    """8 of 10 as in the textbooks; no hits and no misses stay inside [0, 1]; nothing counted is not a number."""
    share, low, high = rates(np.array([8, 0, 5, 0]), np.array([10, 5, 5, 0]))
    assert (low[0], high[0]) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert low[1] == 0 and high[2] == 1 and high[1] == pytest.approx(0.434, abs=1e-3)
    assert np.isnan([share[3], low[3], high[3]]).all()
