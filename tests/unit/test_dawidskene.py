"""Dawid-Skene: who errs how, from votes alone; what it does with careless, hostile and lonely annotators."""

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality import dawidskene
from curation.quality.crowd import plurality
from curation.quality.dawidskene import Prior, dawid_skene, expected_counts
from curation.quality.votes import Votes, believe, gather, gather_table

PLAIN = Prior(strength=1e-9)


def panel(
    confusions: list[NDArray[np.float64]], n: int = 500, seed: int = 0, asked: float = 0.7
) -> tuple[NDArray[np.int64], Votes]:
    """(truth, votes) of annotators who answer by P(said | true)."""
    rng = np.random.default_rng(seed)
    k = len(confusions[0])
    truth = rng.integers(k, size=n)
    said = np.stack([(np.cumsum(error, axis=1)[truth] < rng.random((n, 1))).sum(axis=1) for error in confusions], axis=1)
    table = np.where(rng.random(said.shape) < asked, said, np.nan)
    table[np.isnan(table).all(axis=1), 0] = said[np.isnan(table).all(axis=1), 0]
    return truth, gather_table(table, k)


def skilled(accuracy: float, k: int) -> NDArray[np.float64]:
    """Right with this chance, else any other class."""
    return np.full((k, k), (1 - accuracy) / (k - 1)) + np.eye(k) * (accuracy - (1 - accuracy) / (k - 1))


def textbook(votes: Votes, rounds: int) -> NDArray[np.float64]:
    """The algorithm of 1979 on tables, with one smoothing vote at the start."""
    k = votes.n_classes
    said = np.zeros((votes.n_items, votes.n_annotators, k))
    said[votes.item, votes.annotator, votes.label] = 1
    posterior = (said.sum(axis=1) + 1 / k) / (said.sum(axis=(1, 2))[:, None] + 1)
    for _ in range(rounds):
        error = np.einsum("ij,ial->ajl", posterior, said) + 1e-9 / k
        error /= error.sum(axis=2, keepdims=True)
        prior = (posterior.sum(axis=0) + 1) / (len(posterior) + k)
        log = np.log(prior) + np.einsum("ial,ajl->ij", said, np.log(error))
        posterior = np.exp(log - log.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
    return np.asarray(posterior)


def test_without_a_prior_it_is_the_textbook_algorithm() -> None:
    """Dense tables and triples give the same probabilities after the same rounds."""
    _, votes = panel([skilled(a, 3) for a in (0.9, 0.8, 0.7, 0.6)])
    found = dawid_skene(votes, prior=PLAIN, max_rounds=6)
    np.testing.assert_allclose(found.dense(), textbook(votes, 6), atol=1e-6)
    assert not found.is_converged and found.n_rounds == 6


def test_it_beats_the_majority_where_people_err_in_their_own_way() -> None:
    """One is always right, three confuse two classes."""
    biased = np.array([[0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.05, 0.05, 0.9]])
    truth, votes = panel([skilled(0.97, 3), skilled(0.9, 3), biased, biased, biased], n=1500)
    found = dawid_skene(votes)
    assert found.is_converged and not found.is_fallback
    assert (found.consensus == truth).mean() > (plurality(votes) == truth).mean() + 0.03
    assert found.annotator_accuracy[:2].min() > found.annotator_accuracy[2:].max()


def test_confidence_is_near_the_share_that_is_right() -> None:
    """Annotators who err independently: what is held with 0.9 is right nine times in ten."""
    truth, votes = panel([skilled(a, 4) for a in (0.85, 0.75, 0.65, 0.55)], n=4000)
    found = dawid_skene(votes)
    assert found.confidence.mean() == pytest.approx((found.consensus == truth).mean(), abs=0.03)
    np.testing.assert_allclose(found.dense().sum(axis=1), 1)


def test_two_honest_people_cannot_lose_to_one_who_flips_everything() -> None:
    """The flipper's table is turned over, so their votes help; it is never they who win (fault 40)."""
    flip = np.array([[0.0, 1.0], [1.0, 0.0]])
    truth, votes = panel([skilled(0.97, 2), skilled(0.97, 2), flip], n=400, asked=1.0)
    found = dawid_skene(votes)
    counts = expected_counts(votes, found, 2)
    assert (found.consensus == truth).mean() > 0.98
    assert counts[0, 1] > 50 * max(counts[0, 0], 1) and found.annotator_accuracy[2] < 0.05


def test_a_turned_annotator_decides_where_honest_people_differ() -> None:
    """Their no is a yes."""
    flip = np.array([[0.02, 0.98], [0.98, 0.02]])
    truth, votes = panel([skilled(0.8, 2), skilled(0.8, 2), skilled(0.8, 2), flip], n=2000, asked=1.0)
    assert (dawid_skene(votes).consensus == truth).mean() > 0.95 > (plurality(votes) == truth).mean()


def test_one_who_answered_everything_does_not_decide_everything() -> None:
    """Careless on every item; careful people on half of them, two at a time (fault 39)."""
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=1000)
    careless = np.where(rng.random(1000) < 0.4, truth, rng.integers(4, size=1000))
    careful = np.where(rng.random((1000, 4)) < 0.9, truth[:, None], rng.integers(4, size=(1000, 4))).astype(float)
    careful[rng.random(careful.shape) < 0.5] = np.nan
    found = dawid_skene(gather_table(np.column_stack([careless, careful]), 4))
    assert found.annotator_accuracy.argmin() == 0
    asked = ~np.isnan(careful).all(axis=1)
    assert (found.consensus == truth)[asked].mean() > 0.92


def test_only_one_annotator_is_taken_at_their_word_and_it_is_said() -> None:
    """Nothing to compare with: the majority of one, marked as a fallback (fault 39)."""
    votes = gather(np.arange(100), np.zeros(100), np.arange(100) % 3, (100, 1, 3))
    found = dawid_skene(votes)
    assert found.is_fallback and (found.consensus == np.arange(100) % 3).all()
    assert found.annotator_accuracy.tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("n_shared", [dawidskene.MIN_SHARED_ITEMS - 1, dawidskene.MIN_SHARED_ITEMS])
def test_with_few_shared_items_the_majority_decides(n_shared: int) -> None:
    """At 29 the shares of the votes, at 30 the estimate (fault 39)."""
    _, votes = panel([skilled(0.9, 3)] * 3, n=n_shared, asked=1.0)
    found = dawid_skene(votes)
    assert found.is_fallback == (n_shared < dawidskene.MIN_SHARED_ITEMS)
    if found.is_fallback:
        np.testing.assert_array_equal(found.consensus, plurality(votes))
        assert set(found.confidence.round(6)) <= {round(1 / 3, 6), round(2 / 3, 6), 1.0}


def test_a_tie_in_the_fallback_goes_to_the_model() -> None:
    """Half the votes each; where nobody voted the model's probability is all there is."""
    votes = gather([0, 0], [0, 1], [0, 2], (2, 2, 3))
    found = dawid_skene(votes, believe(np.array([[0.1, 0.2, 0.7], [0.2, 0.6, 0.2]])))
    assert found.consensus.tolist() == [2, 1]
    assert found.confidence.tolist() == pytest.approx([0.5, 0.6])


def test_nobody_voted_and_no_model_leaves_no_answer() -> None:
    """-1 with confidence 0, among items that have one."""
    _, votes = panel([skilled(0.9, 3)] * 3, n=60, asked=1.0)
    more = gather(votes.item, votes.annotator, votes.label, (61, 4, 3))
    found = dawid_skene(more)
    assert found.consensus[60] == -1 and found.confidence[60] == 0 and np.isnan(found.annotator_accuracy[3])
    np.testing.assert_array_equal(found.consensus[:60], dawid_skene(votes).consensus)
    empty = dawid_skene(gather([], [], [], (2, 0, 3)))
    assert empty.consensus.tolist() == [-1, -1] and empty.is_fallback and not empty.dense().any()


def test_a_model_is_one_more_source() -> None:
    """It decides ties, carries items nobody voted on, and lifts the whole."""
    truth, votes = panel([skilled(0.7, 4)] * 3, n=1000)
    probs = np.full((1000, 4), 0.1) + 0.6 * (np.arange(4) == np.where(np.arange(1000) % 10 < 7, truth, 0)[:, None])
    alone, both = dawid_skene(votes), dawid_skene(votes, believe(probs))
    assert (both.consensus == truth).mean() > (alone.consensus == truth).mean() + 0.03


def test_few_votes_stay_near_the_others() -> None:
    """A hundred annotators with a few votes each: the prior does better than the plain estimate."""
    rng = np.random.default_rng(1)
    truth, item = rng.integers(4, size=900), np.repeat(np.arange(900), 3)
    annotator = (item * 7 + np.tile([0, 101, 223], 900) + rng.integers(50, size=2700)) % 400
    label = np.where(rng.random(2700) < 0.75, truth[item], rng.integers(4, size=2700))
    keep = np.unique(item * 400 + annotator, return_index=True)[1]
    votes = gather(item[keep], annotator[keep], label[keep], (900, 400, 4))
    ours, plain = dawid_skene(votes), dawid_skene(votes, prior=PLAIN)
    assert (ours.consensus == truth).mean() > (plain.consensus == truth).mean() + 0.02


def test_with_thousands_of_classes_only_those_named_may_be_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly the same answers from a fraction of the pairs."""
    truth, votes = panel([skilled(0.8, 20)] * 4, n=800)
    every = dawid_skene(votes)
    monkeypatch.setattr(dawidskene, "MAX_PAIRS", 0)
    named = dawid_skene(votes)
    assert len(named.item) < len(every.item) / 4
    assert (named.consensus == every.consensus).mean() > 0.97 and (named.consensus == truth).mean() > 0.85


def test_a_vote_of_less_weight_counts_for_less() -> None:
    """The same two votes against one, the two accepted untouched."""
    _, votes = panel([skilled(0.9, 2)] * 3, n=200, asked=1.0)
    item, annotator = np.append(votes.item, [200] * 3), np.append(votes.annotator, [0, 1, 2])
    label, weight = np.append(votes.label, [0, 0, 1]), np.ones(len(votes) + 3)
    assert dawid_skene(gather(item, annotator, label, (201, 3, 2), weight)).consensus[200] == 0
    weight[-3:-1] = 0.2
    assert dawid_skene(gather(item, annotator, label, (201, 3, 2), weight)).consensus[200] == 1


def test_one_class_has_one_answer() -> None:
    """And everybody is right."""
    votes = gather(np.repeat(np.arange(40), 2), np.tile([0, 1], 40), np.zeros(80), (40, 2, 1))
    found = dawid_skene(votes)
    assert not found.consensus.any() and found.confidence.min() == 1 and found.annotator_accuracy.tolist() == [1, 1]


def test_a_class_with_no_vote_or_one_is_no_trouble() -> None:
    """Probabilities stay finite and the class that nobody named wins nowhere."""
    _, votes = panel([skilled(0.9, 3)] * 3, n=200)
    wider = gather(np.append(votes.item, 200), np.append(votes.annotator, 0), np.append(votes.label, 3), (201, 3, 5))
    found = dawid_skene(wider)
    assert np.isfinite(found.prob).all() and (found.consensus != 4).all() and found.consensus[200] == 3


@pytest.mark.parametrize("prior", [(0.0, 4.0, 0.7), (2.0, 0.0, 0.7), (2.0, 4.0, 1.0), (np.nan, 4.0, 0.7)])
def test_a_prior_that_is_none_is_refused(prior: tuple[float, float, float]) -> None:
    """The values are shown."""
    with pytest.raises(InputError, match="must be above 0, accuracy between 0 and 1"):
        Prior(*prior)


def test_other_items_than_the_votes_are_refused() -> None:
    """Sizes are shown."""
    with pytest.raises(InputError, match="both need the same"):
        dawid_skene(gather([0], [0], [1], (1, 1, 2)), believe(np.full((3, 2), 0.5)))
