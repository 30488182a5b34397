"""Votes as triples, and CROWDLAB on them: equal to cleanlab where cleanlab is right."""

import warnings
from typing import Any

import cleanlab.internal.multiannotator_utils
import numpy as np
import pytest
from cleanlab.multiannotator import get_label_quality_multiannotator
from numpy.typing import ArrayLike, NDArray

from curation.errors import InputError, ProbabilityError
from curation.quality.crowd import crowdlab, plurality
from curation.quality.votes import Votes, believe, believe_top, gather, gather_table, newest

Table = NDArray[np.float64]


def panel(skills: tuple[float, ...], n: int = 400, k: int = 5, seed: int = 0) -> tuple[NDArray[np.int64], Table, Table]:
    """(truth, table of votes with 40 % missing, probabilities of an overconfident model)."""
    rng = np.random.default_rng(seed)
    truth, shape = rng.integers(k, size=n), (n, len(skills))
    wrong = rng.random(shape) >= np.array(skills)
    said = ((truth[:, None] + wrong * rng.integers(1, k, shape)) % k).astype(float)
    asked = rng.random(shape) < 0.6
    asked[~asked.any(axis=1), 0] = True
    odds = np.exp(3 * (rng.normal(size=(n, k)) + 2 * (np.arange(k) == truth[:, None])))
    return truth, np.where(asked, said, np.nan), odds / odds.sum(axis=1, keepdims=True)


def cleanlab_says(said: Table, probs: Table, **settings: Any) -> dict[str, Any]:
    """cleanlab's consensus, without its remarks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Any] = get_label_quality_multiannotator(
            said, probs, consensus_method="best_quality", verbose=False, return_weights=True, **settings
        )
    return found


def assert_same(said: Table, probs: Table, *, calibrate: bool = False) -> None:
    """Every figure of `crowdlab` is that of cleanlab."""
    theirs = cleanlab_says(said, probs, calibrate_probs=calibrate)
    votes = gather_table(said, probs.shape[1])
    ours = crowdlab(votes, believe(probs), calibrate=calibrate)
    quality, people = theirs["label_quality"], theirs["annotator_stats"].sort_index()
    np.testing.assert_array_equal(ours.consensus, quality["consensus_label"])
    np.testing.assert_allclose(ours.quality, quality["consensus_quality_score"], atol=1e-12)
    np.testing.assert_allclose(ours.agreement, quality["annotator_agreement"], atol=1e-12)
    np.testing.assert_allclose(ours.annotator_quality, people["annotator_quality"], atol=1e-12)
    np.testing.assert_allclose(ours.annotator_weight, theirs["annotator_weight"], atol=1e-12)
    assert ours.model_weight == pytest.approx(theirs["model_weight"])
    detailed = theirs["detailed_label_quality"].to_numpy()[votes.item, votes.annotator]
    np.testing.assert_allclose(ours.vote_quality, detailed, atol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("skills", [(0.9, 0.8), (0.95, 0.9, 0.7, 0.35, 0.35), (0.9, 0.9, 0.9, 0.0)])
def test_every_figure_is_that_of_cleanlab(skills: tuple[float, ...], k: int) -> None:
    """Careful people, careless ones, and one who is always wrong."""
    _, said, probs = panel(skills, k=k)
    assert_same(said, probs)


@pytest.mark.parametrize("k", [2, 5])
def test_calibrated_it_is_cleanlab_with_the_votes_counted_rightly(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `value_counts` mended, every figure agrees."""

    def counted(x: Table, *, num_classes: int) -> NDArray[np.int64]:
        return np.bincount(x.astype(int), minlength=num_classes)

    monkeypatch.setattr(cleanlab.internal.multiannotator_utils, "value_counts", counted)
    _, said, probs = panel((0.9, 0.8, 0.7, 0.6), k=k, seed=3)
    assert_same(said, probs, calibrate=True)


def test_calibrated_as_cleanlab_ships_it_the_consensus_is_worse() -> None:
    """The temperature runs to the end of its range and the model is not listened to."""
    truth, said, probs = panel((0.9, 0.7, 0.6, 0.5), n=2000, k=10)
    ours = crowdlab(gather_table(said, 10), believe(probs), calibrate=True)
    theirs = cleanlab_says(said, probs, calibrate_probs=True)["label_quality"]["consensus_label"].to_numpy()
    assert ours.temperature < 5
    assert (ours.consensus == truth).mean() > (theirs == truth).mean() + 0.01


def test_an_overconfident_model_is_cooled() -> None:
    """Sharpened by three, it asks for about three times the temperature."""
    _, said, probs = panel((0.9, 0.9, 0.9), n=3000)
    soft = probs ** (1 / 3) / (probs ** (1 / 3)).sum(axis=1, keepdims=True)
    votes = gather_table(said, 5)
    assert believe(probs).best_temperature(votes) == pytest.approx(3 * believe(soft).best_temperature(votes), rel=0.15)


def test_the_best_classes_do_for_the_whole_row() -> None:
    """All classes in any order give the same; three of twenty give nearly the same."""
    _, said, probs = panel((0.9, 0.8, 0.7), k=20)
    votes, order = gather_table(said, 20), np.argsort(-probs, axis=1)
    dense = crowdlab(votes, believe(probs), calibrate=True)
    whole = crowdlab(votes, believe_top(order, np.take_along_axis(probs, order, 1), 20), calibrate=True)
    np.testing.assert_allclose(whole.quality, dense.quality, atol=1e-12)
    best = order[:, :3]
    top = crowdlab(votes, believe_top(best, np.take_along_axis(probs, best, 1), 20))
    plain = crowdlab(votes, believe(probs))
    assert (top.consensus == plain.consensus).mean() > 0.99 and np.abs(top.quality - plain.quality).mean() < 0.005


def test_what_is_not_kept_has_an_equal_part_of_the_rest() -> None:
    """Two of four kept, 0.2 left: 0.1 each, before and after a temperature."""
    belief = believe_top(np.array([[2, 0]]), np.array([[0.5, 0.3]]), 4)
    votes = gather([0, 0, 0], [0, 1, 2], [1, 2, 0], (1, 3, 4))
    np.testing.assert_allclose(belief.expect(votes).voted, [0.3, 0.1, 0.5])
    soft = np.sqrt([0.3, 0.1, 0.5, 0.1])
    np.testing.assert_allclose(belief.expect(votes, 2.0).voted, (soft / soft.sum())[:3])


def test_hundreds_of_thousands_of_sellers_are_annotators_too() -> None:
    """A table would have 10^10 cells; who moderates stands out from those who sell."""
    rng, n, k = np.random.default_rng(0), 60_000, 50
    truth, seller = rng.integers(k, size=n), rng.integers(200_000, size=n)
    asked = np.repeat(rng.choice(n, 3000, replace=False), 2)
    item, annotator = np.concatenate([np.arange(n), asked]), np.concatenate([seller, 200_000 + np.tile([0, 1], 3000)])
    wrong = rng.random(len(item)) < np.where(annotator < 200_000, 0.3, 0.05)
    votes = gather(item, annotator, (truth[item] + wrong * rng.integers(1, k, len(item))) % k, (n, 200_002, k))
    top = np.where(rng.random(n) < 0.6, truth, rng.integers(k, size=n))[:, None]
    found = crowdlab(votes, believe_top(top, np.full((n, 1), 0.6), k), shrink=4)
    assert (found.consensus == truth)[np.unique(asked)].mean() > 0.93
    assert found.annotator_weight[200_000:].min() > found.annotator_weight[:200_000].mean()


def test_a_shrunk_annotator_is_near_the_average() -> None:
    """One answer shared and right is not perfection; without shrinking it would be."""
    _, said, probs = panel((0.9, 0.7, 0.7))
    said = np.column_stack([said, np.full(len(said), np.nan)])
    said[0] = said[0, ~np.isnan(said[0])][0]
    votes = gather_table(said, 5)
    raw, shrunk = crowdlab(votes, believe(probs)), crowdlab(votes, believe(probs), shrink=30)
    assert raw.annotator_weight[3] == 1.0
    assert abs(shrunk.annotator_weight[3] - shrunk.annotator_weight[:3].mean()) < 0.15


def test_a_vote_of_less_weight_gives_way() -> None:
    """One against one without a model's opinion: the suggestion accepted untouched loses."""
    _, said, probs = panel((0.9, 0.9))
    table = np.vstack([said, [[1.0, 2.0]]])
    item, annotator = np.nonzero(~np.isnan(table))
    weight = np.where((item == len(said)) & (annotator == 0), 0.2, 1.0)
    votes = gather(item, annotator, table[item, annotator], (*table.shape, 5), weight)  # type: ignore[arg-type]
    found = crowdlab(votes, believe(np.vstack([probs, np.full((1, 5), 0.2)])))
    assert found.consensus[-1] == 2 and found.agreement[-1] == pytest.approx(1 / 1.2)


def test_an_item_nobody_voted_on_gets_the_models_class_and_probability() -> None:
    """Stated, not refused: labelled and unlabelled listings go through together."""
    _, said, probs = panel((0.9, 0.8))
    votes = gather_table(np.vstack([said, [[np.nan, np.nan]]]), 5)
    found = crowdlab(votes, believe(np.vstack([probs, [[0.1, 0.1, 0.6, 0.1, 0.1]]])))
    assert found.consensus[-1] == 2 and found.quality[-1] == pytest.approx(0.6) and np.isnan(found.agreement[-1])
    np.testing.assert_allclose(found.quality[:-1], crowdlab(gather_table(said, 5), believe(probs)).quality)


def test_an_annotator_who_shares_nothing_has_no_quality() -> None:
    """NaN, weighed like the others on average, as in cleanlab."""
    _, said, probs = panel((0.9, 0.8, 0.7))
    said = np.column_stack([said[:, :2], np.full(len(said), np.nan)])
    said[np.isnan(said).all(axis=1), 2] = 1.0
    assert_same(said, probs)
    found = crowdlab(gather_table(said, 5), believe(probs))
    assert np.isnan(found.annotator_quality[2]) and found.n_shared[2] == 0


def test_one_who_answered_everything_does_not_decide_everything() -> None:
    """Careless on every listing, three careful people on most (fault 39)."""
    truth, said, probs = panel((0.95, 0.95, 0.95, 0.3))
    said[:, 3] = np.where(np.isnan(said[:, 3]), (truth + 1) % 5, said[:, 3])
    votes = gather_table(said, 5)
    found = crowdlab(votes, believe(probs), calibrate=True)
    assert (found.consensus == truth).mean() > (plurality(votes, believe(probs)) == truth).mean() + 0.02
    assert found.annotator_quality.argmin() == 3 and found.annotator_weight.argmin() == 3


def test_one_who_flips_everything_weighs_nothing_and_cannot_beat_two() -> None:
    """Two honest people agree everywhere; the third says the opposite (fault 40)."""
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=200)
    found = crowdlab(gather_table(np.stack([truth, truth, 1 - truth], axis=1), 2), believe(np.full((200, 2), 0.5)))
    assert (found.consensus == truth).all() and found.annotator_quality.argmin() == 2
    assert found.annotator_weight[2] == pytest.approx(1e-6)


def test_ties_go_to_the_model_then_the_rarer_class_then_the_lower_index() -> None:
    """Where cleanlab would draw lots the answer is the same each time."""
    votes = gather([0, 0, 1, 1, 2, 2, 3], [0, 1, 0, 1, 0, 1, 0], [0, 1, 1, 2, 2, 3, 1], (4, 2, 4))
    probs = np.array([[0.2, 0.3, 0.25, 0.25], [0.25] * 4, [0.25] * 4, [0.25] * 4])
    assert plurality(votes, believe(probs)).tolist() == [1, 2, 3, 1]
    assert plurality(gather([0, 0], [0, 1], [2, 1], (2, 2, 3))).tolist() == [1, -1]


def test_one_class_has_one_answer() -> None:
    """cleanlab divides by the number of other classes."""
    found = crowdlab(gather([0, 0, 1], [0, 1, 2], [0, 0, 0], (3, 3, 1)), believe(np.ones((3, 1))), calibrate=True)
    assert found.consensus.tolist() == [0, 0, 0] and found.quality.tolist() == [1, 1, 1]
    assert found.annotator_quality.tolist()[:2] == [1, 1] and np.isnan(found.annotator_quality[2])


def test_certain_and_impossible_probabilities_are_no_trouble() -> None:
    """Ones and zeros, calibrated, with a vote for what the model calls impossible."""
    found = crowdlab(gather_table(np.array([[0.0, 1.0], [1.0, 1.0]]), 3), believe(np.eye(3)[[0, 1]]), calibrate=True)
    assert np.isfinite(found.quality).all() and found.consensus[1] == 1


def test_the_last_vote_of_a_person_is_the_one_to_keep() -> None:
    """In the order given."""
    assert newest([0, 0, 1, 0], [7, 8, 7, 7]).tolist() == [False, True, True, True]
    assert newest([], []).tolist() == []


@pytest.mark.parametrize(
    ("item", "annotator", "label", "weight", "message"),
    [
        ([0, 1, 0], [0, 0, 0], [0, 1, 1], None, r"1 votes repeat an \(item, annotator\).*first votes \[0\]: \[\[0, 0\]\]"),
        ([0, 1, 2], [0, 0, 0], [0, 1, 2], None, r"1 values of label are outside 0..1; first votes \[2\]: \[2\]"),
        ([0, -1], [0, 0], [0, 1], None, r"values of item are outside 0..2; first votes \[1\]: \[-1\]"),
        ([0, 1], [0, 9], [0, 1], None, r"values of annotator are outside 0..1; first votes \[1\]: \[9\]"),
        ([0, 1], [0, 1], [0.0, 0.5], None, r"values of label are not whole numbers; first votes \[1\]: \[0.5\]"),
        ([0, 1], [0, 1], [np.nan, 0.0], None, r"values of label are not whole numbers; first votes \[0\]"),
        ([0, 1], [0, 1], [np.inf, 0.0], None, "not whole numbers"),
        ([0, 1], [0, 1], ["a", "b"], None, "label holds <U1"),
        ([0, 1], [0], [0, 1], None, "2 items, 1 annotators, 2 labels, 2 weights"),
        ([[0], [1]], [0, 1], [0, 1], None, r"item has shape \(2, 1\)"),
        ([0, 1], [0, 1], [0, 1], [1.0, 0.0], r"weights are not in \(0, 1\].*first votes \[1\]: \[0.0\]"),
        ([0, 1], [0, 1], [0, 1], [np.nan, 1.0], "weights are not in"),
        ([0, 1], [0, 1], [0, 1], [1.0, 1.5], "weights are not in"),
    ],
)
def test_votes_nothing_can_be_said_of_are_refused(
    item: ArrayLike, annotator: ArrayLike, label: ArrayLike, weight: ArrayLike | None, message: str
) -> None:
    """Each with the positions of the votes it is about."""
    with pytest.raises(InputError, match=message):
        gather(item, annotator, label, (3, 2, 2), weight)


@pytest.mark.parametrize(
    ("classes", "probs", "message"),
    [
        ([[0, 1], [1, 1]], [[0.5, 0.2], [0.5, 0.2]], r"name a class twice, first rows \[1\]"),
        ([[0, 3]], [[0.5, 0.2]], r"name classes outside 0..2, first rows \[0\]"),
        ([[0, 1]], [[np.nan, 0.2]], "hold NaN or infinity"),
        ([[0, 1]], [[0.9, 0.2]], "sum to more than 1"),
        ([[0, 1]], [[0.0, 0.0]], "are all zero"),
        ([[0, 1]], [[-0.1, 0.2]], "outside"),
        ([[0, 1, 2]], [[0.3, 0.3, 0.3]], "hold all classes and do not sum to 1"),
        ([[0, 1, 2, 0]], [[0.3, 0.3, 0.3, 0.1]], "must both be"),
    ],
)
def test_best_classes_that_are_none_are_refused(classes: list[list[int]], probs: list[list[float]], message: str) -> None:
    """Each with the rows it is about."""
    with pytest.raises(ProbabilityError, match=message):
        believe_top(np.array(classes), np.array(probs), 3)


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ([[np.nan, 0.5]], "hold NaN"),
        ([[0.0, 0.0]], "all zero"),
        ([[0.5, 0.6]], "do not sum to 1"),
        (np.zeros((1, 0)), "one class at least"),
    ],
)
def test_bad_probabilities_are_refused(probs: list[list[float]], message: str) -> None:
    """The same checks as for label issues."""
    with pytest.raises(ProbabilityError, match=message):
        believe(np.array(probs))


@pytest.mark.parametrize(
    ("votes", "shape", "shrink", "message"),
    [
        (gather([0, 1], [0, 1], [0, 1], (2, 2, 2)), (2, 2), 0, "no item has two votes"),
        (gather([], [], [], (0, 0, 2)), (0, 2), 0, "no item has two votes"),
        (gather([0, 0], [0, 1], [0, 1], (1, 2, 2)), (2, 2), 0, "both need the same"),
        (gather([0, 0], [0, 1], [0, 1], (1, 2, 2)), (1, 3), 0, "both need the same"),
        (gather([0, 0], [0, 1], [0, 1], (1, 2, 2)), (1, 2), -1, "shrink is -1"),
    ],
)
def test_what_the_crowd_cannot_be_asked_is_refused(votes: Votes, shape: tuple[int, int], shrink: float, message: str) -> None:
    """Nobody to compare, other items, other classes."""
    with pytest.raises(InputError, match=message):
        crowdlab(votes, believe(np.full(shape, 1 / shape[1])), shrink=shrink)
