"""ActiveLab scores: cleanlab's formula with the votes counted rightly, and the upstream error they go round."""

import contextlib
import io
import warnings

import cleanlab.internal.multiannotator_utils
import numpy as np
import pytest
from cleanlab.internal.util import value_counts
from cleanlab.multiannotator import get_active_learning_scores
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.activelab import activelab
from curation.quality.votes import believe, gather, gather_table
from tests.unit.test_crowd import Table, panel

FIXED = "fixed upstream, drop the work-around (docs/cleanlab.md): cleanlab counts float labels by class now"


def counted(x: Table, *, num_classes: int) -> NDArray[np.int64]:
    """What `value_counts` should return."""
    return np.bincount(x.astype(int), minlength=num_classes)


def cleanlab_scores(said: Table, probs: Table, unlabelled: Table | None = None) -> tuple[Table, Table]:
    """cleanlab's, without its remarks."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        scores, unasked = get_active_learning_scores(said, probs, unlabelled)
    return scores, unasked


def test_cleanlab_still_counts_float_labels_by_order_of_appearance() -> None:
    """The bug: one vote for class 6 of 10 is counted as one for class 0. This test fails when it is mended."""
    found = value_counts(np.array([6.0]), num_classes=10)
    assert found.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], FIXED
    assert value_counts(np.array([6]), num_classes=10).argmax() == 6


def test_cleanlab_still_scores_with_the_wrong_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The effect: mending the one function changes the scores, to ours."""
    _, said, probs = panel((0.9, 0.8, 0.7), k=10)
    shipped, _ = cleanlab_scores(said, probs)
    ours = activelab(gather_table(said, 10), believe(probs)).score
    assert np.abs(shipped - ours).max() > 0.01, FIXED
    monkeypatch.setattr(cleanlab.internal.multiannotator_utils, "value_counts", counted)
    mended, _ = cleanlab_scores(said, probs)
    np.testing.assert_allclose(ours, mended, atol=1e-12)


@pytest.mark.parametrize("k", [2, 4, 10])
def test_scores_are_cleanlabs_with_right_counts(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Voted on and not, in one go."""
    monkeypatch.setattr(cleanlab.internal.multiannotator_utils, "value_counts", counted)
    _, said, probs = panel((0.95, 0.8, 0.6, 0.3), k=k, seed=k)
    labelled, unlabelled = cleanlab_scores(said[:300], probs[:300], probs[300:])
    said[300:] = np.nan
    found = activelab(gather_table(said, k), believe(probs))
    np.testing.assert_allclose(found.score, np.concatenate([labelled, unlabelled]), atol=1e-12)


def test_one_vote_each_scores_as_in_cleanlab() -> None:
    """Nobody to compare: not calibrated, model and annotators trusted alike."""
    _, said, probs = panel((0.9, 0.8, 0.7))
    single = np.full(said.shape, np.nan)
    first = np.argmax(~np.isnan(said), axis=1)
    single[np.arange(len(said)), first] = said[np.arange(len(said)), first]
    theirs, unlabelled = cleanlab_scores(single[:350], probs[:350], probs[350:])
    single[350:] = np.nan
    found = activelab(gather_table(single, 5), believe(probs))
    assert found.crowd is None and found.temperature == 1
    np.testing.assert_allclose(found.score, np.concatenate([theirs, unlabelled]), atol=1e-12)


def test_without_any_vote_the_least_sure_comes_first() -> None:
    """The mean of the highest probability and 1/K."""
    probs = np.array([[0.9, 0.1], [0.6, 0.4]])
    found = activelab(gather([], [], [], (2, 0, 2)), believe(probs))
    np.testing.assert_allclose(found.score, [0.7, 0.55])
    assert found.consensus.tolist() == [0, 0]


def test_more_votes_for_the_same_leave_less_to_ask() -> None:
    """None, one, two and three who agree."""
    _, said, probs = panel((0.9, 0.9, 0.9))
    more = np.array([[np.nan] * 3, [1, np.nan, np.nan], [1, 1, np.nan], [1, 1, 1]])
    flat = np.full((4, 5), 0.2)
    found = activelab(gather_table(np.vstack([said, more]), 5), believe(np.vstack([probs, flat])))
    assert (np.diff(found.score[-4:]) > 0).all()


def test_a_suggestion_accepted_untouched_leaves_more_to_ask() -> None:
    """Its vote weighs less."""
    _, said, probs = panel((0.9, 0.9, 0.9))
    table = np.vstack([said, [[1.0, 1.0, np.nan]], [[1.0, 1.0, np.nan]]])
    item, annotator = np.nonzero(~np.isnan(table))
    weight = np.where((item == len(said)) & (annotator == 1), 0.2, 1.0)
    votes = gather(item, annotator, table[item, annotator], (len(table), 3, 5), weight)
    score = activelab(votes, believe(np.vstack([probs, probs[:1], probs[:1]]))).score
    assert score[-2] < score[-1]


def test_wrong_labels_are_found_better_than_by_cleanlab_as_it_ships() -> None:
    """In the first 5 %, a quarter more of the labels are wrong (`tests/benchmarks/crowd.py` has the whole comparison)."""
    truth, said, probs = panel((0.9, 0.8, 0.7, 0.6, 0.5), n=4000, k=10)
    probs = probs**0.3 / (probs**0.3).sum(axis=1, keepdims=True)
    ours = activelab(gather_table(said, 10), believe(probs))
    theirs, _ = cleanlab_scores(said, probs)
    wrong = ours.consensus != truth
    assert wrong[np.argsort(ours.score)[:200]].mean() >= 1.25 * wrong[np.argsort(theirs)[:200]].mean()


def test_one_class_leaves_nothing_to_ask() -> None:
    """All scores are 1."""
    assert activelab(gather([0, 0], [0, 1], [0, 0], (2, 2, 1)), believe(np.ones((2, 1)))).score.tolist() == [1, 1]


def test_other_items_than_the_votes_are_refused() -> None:
    """Sizes are shown."""
    with pytest.raises(InputError, match="votes are on 1 items of 2 classes, probabilities on 3 of 2"):
        activelab(gather([0], [0], [1], (1, 1, 2)), believe(np.full((3, 2), 0.5)))
