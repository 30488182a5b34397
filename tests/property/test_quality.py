"""What holds of labels, votes and shares whatever they are."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import ProbabilityError
from curation.quality.consensus import majority
from curation.quality.issues import find_category_issues
from curation.quality.metrics import exact_lower, threshold_for_precision, wilson
from curation.quality.validate import OutOfSample, check
from curation.types import Vote
from tests.conftest import NOW

VOTES = st.lists(
    st.builds(
        Vote,
        annotator=st.sampled_from("abcde"),
        value=st.sampled_from("xyz"),
        at=st.integers(0, 3).map(lambda s: NOW + timedelta(seconds=s)),
        annotation_id=st.integers(0, 99),
    ),
    max_size=12,
    unique_by=lambda vote: vote.annotation_id,
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Any, OutOfSample]:
    """Any labels, and any probabilities that pass the checks."""
    n, k = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    probs = rng.dirichlet(np.full(k, draw(st.sampled_from([0.05, 1.0, 20.0]))), n)
    if draw(st.booleans()):
        probs = np.eye(k)[rng.integers(k, size=n)]
    oos = OutOfSample(probs, tuple(map(str, range(k))), tuple(f"r{i}" for i in range(n)), np.zeros(n, dtype=int))
    return rng.integers(-1, k, size=n), oos


@given(VOTES, st.randoms())
def test_the_order_of_votes_does_not_matter(votes: list[Vote], random: Any) -> None:
    """Webhooks arrive in any order."""
    shuffled = list(votes)
    random.shuffle(shuffled)
    assert majority(shuffled) == majority(votes)


@given(VOTES)
def test_one_person_one_vote(votes: list[Vote]) -> None:
    """Repeating older answers of the same people changes nothing, and nobody counts twice (fault 39)."""
    found = majority(votes)
    assert found.n_votes == len({vote.annotator for vote in votes})
    newest = {vote.annotator: vote for vote in sorted(votes, key=lambda vote: (vote.at, vote.annotation_id))}
    assert majority(list(newest.values())) == found
    assert (found.value is None) == (found.is_tie or not votes)
    assert 0 <= found.confidence <= 1


@given(problems())
@settings(max_examples=60, deadline=None)
def test_every_problem_has_an_answer_that_is_a_ranking(problem: tuple[Any, OutOfSample]) -> None:
    """Whatever classes are missing: a permutation, scores in [0, 1], issues first, no issue that agrees."""
    labels, oos = problem
    found = find_category_issues(labels, oos)
    assert sorted(found.order) == list(range(len(labels)))
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert (np.diff(found.is_issue[found.order].astype(int)) <= 0).all()
    assert not (found.is_issue & ((labels == found.suggested) | (labels == -1))).any()


@given(problems(), st.data())
@settings(max_examples=60)
def test_any_row_made_nan_is_refused_by_its_number(problem: tuple[Any, OutOfSample], data: st.DataObject) -> None:
    """One NaN anywhere is enough (fault 34)."""
    labels, oos = problem
    row, column = data.draw(st.integers(0, len(labels) - 1)), data.draw(st.integers(0, len(oos.classes) - 1))
    check(oos, labels)
    oos.pred_probs[row, column] = np.nan
    with pytest.raises(ProbabilityError, match=rf"first rows \[{row}\]"):
        check(oos, labels)


@given(st.integers(0, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_intervals_contain_the_share(share: tuple[int, int], confidence: float) -> None:
    """And stay within [0, 1]."""
    k, n = share
    found = wilson(k, n, confidence)
    assert 0 <= found.low <= found.high <= 1
    assert n == 0 or found.low <= k / n <= found.high
    assert n == 0 or 0 <= exact_lower(k, n, confidence) <= k / n


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60), st.floats(0.1, 0.99))
@settings(deadline=None)
def test_a_certified_threshold_keeps_its_promise_on_its_own_rows(rows: list[tuple[float, bool]], target: float) -> None:
    """What is flagged is counted rightly, and its precision is at least the bound, the bound at least the target."""
    scores, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], dtype=bool)
    found = threshold_for_precision(scores, truth, target)
    flagged = scores >= found.value
    assert flagged.sum() == found.n_flagged
    if found.is_certified:
        assert truth[flagged].mean() == pytest.approx(found.precision)
        assert target <= found.precision_low <= found.precision
