"""What holds of consensus whatever people said."""

import warnings
from typing import Any

import numpy as np
import pytest
from cleanlab.multiannotator import get_label_quality_multiannotator
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.activelab import activelab
from curation.quality.crowd import crowdlab, plurality
from curation.quality.dawidskene import dawid_skene
from curation.quality.votes import Votes, believe, believe_top, gather, gather_table


@st.composite
def panels(draw: st.DrawFn, *, most_items: int = 40, several: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(table of votes, probabilities): every row and column has a vote; unless told otherwise, some row has two."""
    n, m, k = draw(st.integers(1, most_items)), draw(st.integers(2, 5)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table = rng.integers(k, size=(n, m)).astype(float)
    table[rng.random((n, m)) > draw(st.sampled_from([0.2, 0.6, 1.0]))] = np.nan
    table[np.isnan(table).all(axis=1), 0] = rng.integers(k)
    table[0, : m if several else 1] = rng.integers(k, size=m if several else 1)
    return table, rng.dirichlet(np.full(k, draw(st.sampled_from([0.3, 1.0, 20.0]))), n)


@given(panels())
@settings(max_examples=60, deadline=None)
def test_crowdlab_is_cleanlab(panel: tuple[Any, Any]) -> None:
    """Consensus, quality and annotators, however few, sparse or contrary the votes."""
    table, probs = panel
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = get_label_quality_multiannotator(table, probs, consensus_method="best_quality", verbose=False)
    ours = crowdlab(gather_table(table, probs.shape[1]), believe(probs))
    quality, people = theirs["label_quality"], theirs["annotator_stats"].sort_index()
    np.testing.assert_array_equal(ours.consensus, quality["consensus_label"])
    np.testing.assert_allclose(ours.quality, quality["consensus_quality_score"].clip(0, 1), atol=1e-9)
    np.testing.assert_allclose(ours.annotator_quality, people["annotator_quality"], atol=1e-9)


@given(panels(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_votes_and_the_names_of_people_do_not_matter(panel: tuple[Any, Any], random: Any) -> None:
    """Webhooks arrive in any order; who is called 0 is chance."""
    table, probs = panel
    n_items, n_people = table.shape
    item, annotator = np.nonzero(~np.isnan(table))
    label = table[item, annotator].astype(int)
    order, name = list(range(len(item))), list(range(n_people))
    random.shuffle(order)
    random.shuffle(name)
    votes = gather_table(table, probs.shape[1])
    other = gather(item[order], np.array(name)[annotator[order]], label[order], (n_items, n_people, probs.shape[1]))
    for one, two in ((crowdlab(votes, believe(probs)), crowdlab(other, believe(probs))),):
        np.testing.assert_allclose(one.quality, two.quality, atol=1e-9)
        np.testing.assert_allclose(one.annotator_quality, two.annotator_quality[name], atol=1e-9)
    np.testing.assert_allclose(dawid_skene(votes).confidence, dawid_skene(other).confidence, atol=1e-6)


@given(panels(several=False), st.floats(0, 10))
@settings(max_examples=60, deadline=None)
def test_scores_are_shares_and_nothing_is_nan(panel: tuple[Any, Any], shrink: float) -> None:
    """Votes on one item only, no agreement at all, hard probabilities: every score is in [0, 1]."""
    table, probs = panel
    hard = np.eye(probs.shape[1])[probs.argmax(axis=1)]
    votes = gather_table(table, probs.shape[1])
    for model in (probs, hard):
        found = activelab(votes, believe(model), shrink=shrink)
        assert ((found.score >= 0) & (found.score <= 1)).all()
        if found.crowd:
            assert ((found.crowd.quality >= 0) & (found.crowd.quality <= 1)).all()
            assert ((found.crowd.annotator_weight > 0) & (found.crowd.annotator_weight <= 1)).all()
        estimate = dawid_skene(votes, believe(model))
        assert ((estimate.confidence > 0) & (estimate.confidence <= 1 + 1e-9)).all()
        np.testing.assert_allclose(estimate.dense().sum(axis=1), 1)


@given(panels(), st.data())
@settings(max_examples=40, deadline=None)
def test_all_classes_kept_in_any_order_are_the_dense_row(panel: tuple[Any, Any], data: st.DataObject) -> None:
    """Sparse and dense probabilities are one thing."""
    table, probs = panel
    votes = gather_table(table, probs.shape[1])
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permuted(
        np.tile(np.arange(probs.shape[1]), (len(probs), 1)), axis=1
    )
    sparse = believe_top(order, np.take_along_axis(probs, order, axis=1), probs.shape[1])
    np.testing.assert_allclose(activelab(votes, sparse).score, activelab(votes, believe(probs)).score, atol=1e-9)


@given(panels(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_second_vote_of_the_same_person_is_refused_by_its_place(panel: tuple[Any, Any], data: st.DataObject) -> None:
    """The earlier of the two is named."""
    votes = gather_table(panel[0], panel[1].shape[1])
    again = data.draw(st.integers(0, len(votes) - 1))
    item, annotator = np.append(votes.item, votes.item[again]), np.append(votes.annotator, votes.annotator[again])
    with pytest.raises(InputError, match=rf"1 votes repeat .* first votes \[{again}\]"):
        gather(item, annotator, np.append(votes.label, 0), (votes.n_items, votes.n_annotators, votes.n_classes))


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(40, 120))
@settings(max_examples=40, deadline=None)
def test_who_flips_everything_never_beats_two_who_agree(seed: int, k: int, n: int) -> None:
    """Whatever is true: the same wrong class for each true one, against two who are always right."""
    rng = np.random.default_rng(seed)
    truth, turn = rng.integers(k, size=n), rng.integers(1, k)
    truth[: k * 3] = np.tile(np.arange(k), 3)
    votes = gather_table(np.stack([truth, truth, (truth + turn) % k], axis=1), k)
    flat = believe(np.full((n, k), 1 / k))
    np.testing.assert_array_equal(crowdlab(votes, flat).consensus, truth)
    np.testing.assert_array_equal(dawid_skene(votes).consensus, truth)
    np.testing.assert_array_equal(activelab(votes, flat).consensus, truth)


@given(panels(several=False))
@settings(max_examples=40, deadline=None)
def test_a_single_vote_or_a_clear_majority_is_the_plurality(panel: tuple[Any, Any]) -> None:
    """And ties are among the best."""
    table, probs = panel
    votes: Votes = gather_table(table, probs.shape[1])
    counts = (table[:, :, None] == np.arange(probs.shape[1])).sum(axis=1)
    found = plurality(votes, believe(probs))
    assert (counts[np.arange(len(table)), found] == counts.max(axis=1)).all()
