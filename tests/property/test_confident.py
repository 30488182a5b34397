"""What holds of confident learning on any probabilities and labels, however odd."""

import numpy as np
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation.quality.confident import (
    ClassSums,
    confident_learning,
    estimate,
    low_self_confidence,
    prune_by_noise_rate,
    refresh,
    undecided,
)
from curation.quality.noise import NoiseMatrix
from curation.quality.scorers import all_scores, cut_by_expected_f1, find_suspects
from curation.quality.sparse import TopK

Problem = tuple[NDArray[np.float64], NDArray[np.int64]]


@st.composite
def problems(draw: st.DrawFn, least_label: int = -1) -> Problem:
    """Few rows of few classes, from flat to certain, labels agreeing or not; every class may be missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, k = draw(st.integers(1, 60)), draw(st.integers(2, 12))
    probs = rng.dirichlet(np.full(k, draw(st.sampled_from([0.05, 0.3, 1.0, 10.0]))), size=n)
    labels = np.where(rng.random(n) < draw(st.sampled_from([0.0, 0.5, 1.0])), probs.argmax(axis=1), rng.integers(k, size=n))
    labels[rng.random(n) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = least_label
    return probs, labels


@settings(max_examples=80, deadline=None)
@given(problems(least_label=0))
def test_all_probabilities_kept_are_cleanlab(problem: Problem) -> None:
    """The joint cell for cell, the flags row for row."""
    probs, labels = problem
    if len(np.unique(labels)) < 2:
        return
    store = TopK.of(probs, labels, k=probs.shape[1])
    state, joint = estimate(store), compute_confident_joint(labels, probs, calibrate=False)
    np.fill_diagonal(joint, np.where(np.diag(joint) == 1, state.joint.diagonal(), np.diag(joint)))
    assert (state.joint.dense() == joint).all()
    assert (confident_learning(store, state) == find_label_issues(labels, probs, filter_by="confident_learning", n_jobs=1)).all()


@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(2, 12))
def test_states_do_not_depend_on_order_and_merge(problem: Problem, k: int) -> None:
    """Sums and joint of the parts add up to those of the whole, and what is taken away again is gone."""
    probs, labels = problem
    store, cut = TopK.of(probs, labels, k=k), len(labels) // 3
    whole, one, two = ClassSums.of(store), ClassSums.of(store.take(slice(0, cut))), ClassSums.of(store.take(slice(cut, None)))
    assert ((two + one).total == whole.total).all() and ((whole - one).total == two.total).all()
    order = np.random.default_rng(cut).permutation(len(labels))
    state, shuffled = estimate(store), estimate(TopK.of(probs[order], labels[order], k=k))
    assert (state.guess[order] == shuffled.guess).all() and (state.joint.keys == shuffled.joint.keys).all()
    assert (state.joint - shuffled.joint).keys.size == 0


@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(2, 4), st.integers(0, 2**32))
def test_refreshing_is_recomputing(problem: Problem, k: int, seed: int) -> None:
    """Any rows, any new labels, rows appended or not."""
    probs, labels = problem
    rng = np.random.default_rng(seed)
    store = TopK.of(probs, labels, k=k)
    known = int(rng.integers(len(labels) + 1))
    state = estimate(store.take(slice(0, known)))
    changed = np.flatnonzero(rng.random(known) < 0.2)
    rows = np.concatenate([changed, np.arange(known, len(labels))])
    new = TopK.of(
        rng.dirichlet(np.full(probs.shape[1], 0.3), size=len(rows)), rng.integers(-1, probs.shape[1], size=len(rows)), k=k
    )
    fresh, full = refresh(state, store, rows, new), estimate(store)
    assert (fresh.guess == full.guess).all() and (fresh.sums.total == full.sums.total).all()
    assert np.array_equal(fresh.joint.keys, full.joint.keys) and np.array_equal(fresh.joint.counts, full.joint.counts)


@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(2, 12))
def test_guesses_differ_from_dense_ones_only_where_undecided(problem: Problem, k: int) -> None:
    """The count that is stated is a bound."""
    probs, labels = problem
    store, dense = TopK.of(probs, labels, k=k), TopK.of(probs, labels, k=12)
    state = estimate(store)
    differing = np.flatnonzero(state.guess != estimate(dense).guess)
    assert np.isin(differing, undecided(store, state)).all()


@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(2, 12))
def test_scores_rates_and_flags_stay_in_their_ranges(problem: Problem, k: int) -> None:
    """Scores and rates are in [0, 1] or not estimable; nothing unlabelled is flagged."""
    probs, labels = problem
    store = TopK.of(probs, labels, k=k)
    state, unlabelled = estimate(store), labels < 0
    suspects, noise = find_suspects(store, state), NoiseMatrix.of(state)
    for score in all_scores(store, suspects.wrong).values():
        assert ((score >= 0) & (score <= 1)).all()
    assert not (suspects.flagged | low_self_confidence(store, state) | prune_by_noise_rate(store, state))[unlabelled].any()
    assert ((noise.low <= noise.rate) & (noise.rate <= noise.high) | np.isnan(noise.rate)).all()
    assert np.array_equal(noise.calibrated.per_given(), noise.n_labels)
    assert suspects.flagged.sum() == cut_by_expected_f1(suspects.wrong[~unlabelled])
