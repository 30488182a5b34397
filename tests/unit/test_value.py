"""What an answer is worth before it is given."""

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality import value
from curation.quality.votes import Votes, believe, gather

N, K = 2000, 6
SELLERS = 0


def market(
    accuracies: tuple[float, ...], seed: int = 0, noise: float = 0.2
) -> tuple[NDArray[np.int64], Votes, NDArray[np.float64]]:
    """(truth, the sellers' labels and one answer on the first 600 items by each person in turn, a fair model)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(K, size=N)
    other = (truth + rng.integers(1, K, N)) % K
    given = np.where(rng.random(N) < noise, other, truth)
    people = np.arange(600) % len(accuracies)
    right = rng.random(600) < np.array(accuracies)[people]
    said = np.where(right, truth[:600], (truth[:600] + rng.integers(1, K, 600)) % K)
    logits = rng.normal(size=(N, K))
    logits[np.arange(N), truth] += 2.5
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    who = np.concatenate([np.full(N, SELLERS), people + 1])
    item, label = np.concatenate([np.arange(N), np.arange(600)]), np.concatenate([given, said])
    return truth, gather(item, who, label, (N, len(accuracies) + 1, K)), probs


def test_people_are_told_apart_by_their_first_answers() -> None:
    """No item has two people; the careless one stands out, and the sellers' rate of errors is found."""
    truth, votes, probs = market((0.97, 0.95, 0.6))
    found = value.judge(votes, believe(probs), calibrate=True)
    right = votes.label == truth[votes.item]
    actual = [right[votes.annotator == a].mean() for a in range(4)]
    assert found.accuracy == pytest.approx(actual, abs=0.06)
    assert found.accuracy.argmin() == 3


def test_what_is_believed_of_a_vote_comes_true() -> None:
    """Of votes believed to be right with 0.8 about 80 % are, in every tenth that has votes."""
    truth, votes, probs = market((0.95, 0.9), seed=3)
    found = value.judge(votes, believe(probs), calibrate=True).right
    right = votes.label == truth[votes.item]
    for low in np.arange(0, 1, 0.2):
        part = (found >= low) & (found < low + 0.2)
        assert part.sum() < 50 or right[part].mean() == pytest.approx(found[part].mean(), abs=0.1)


def test_a_vote_of_less_weight_says_less() -> None:
    """The same answer, read and unread, against the model."""
    probs = np.tile([0.6, 0.3, 0.1], (2, 1))
    votes = gather([0, 1], [0, 0], [1, 1], (2, 1, 3), [1.0, 0.2])
    read, unread = value.judge(votes, believe(probs)).right
    assert read > 0.8 > 0.5 > unread > 0.3


def test_nothing_said_and_a_single_class_are_no_trouble() -> None:
    """Nobody's accuracy is the usual one."""
    nobody = value.judge(gather([], [], [], (2, 1, 3)), believe(np.full((2, 3), 1 / 3)))
    assert nobody.right.size == 0 and nobody.accuracy.tolist() == [value.USUAL_ACCURACY]
    only = value.judge(gather([0], [0], [0], (1, 1, 1)), believe(np.ones((1, 1))))
    assert only.right.tolist() == [1.0]


def test_a_first_answer_is_worth_what_it_repairs_less_what_it_spoils() -> None:
    """Simulated: labels wrong by their probability, one answer in the place of each."""
    rng = np.random.default_rng(0)
    for wrong, accuracy in ((0.7, 0.95), (0.3, 0.8), (0.02, 0.9)):
        before, after = rng.random(200_000) < wrong, rng.random(200_000) > accuracy
        expected = before.mean() - after.mean()
        assert value.first_answer([wrong], accuracy)[0] == pytest.approx(expected, abs=0.005)
    assert value.first_answer([0.05], 0.9)[0] < 0


def test_a_second_answer_is_worth_what_the_two_or_three_of_them_change() -> None:
    """Simulated: a tie is decided by a third person; wrong answers agree by chance of SAME_ERROR."""
    rng = np.random.default_rng(1)
    n, wrong, accuracy = 400_000, 0.3, 0.8
    n_errors = round(1 / value.SAME_ERROR)
    first = np.where(rng.random(n) < wrong, rng.integers(1, n_errors + 1, n), 0)  # 0 = the truth
    second, third = (np.where(rng.random(n) < accuracy, 0, rng.integers(1, n_errors + 1, n)) for _ in range(2))
    tie = first != second
    final = np.where(tie & (third == second), second, first)
    gain = ((first != 0).mean() - (final != 0).mean()) / (1 + tie.mean())
    assert value.second_answer([wrong], accuracy)[0] == pytest.approx(gain, abs=0.005)


def test_who_is_believed_is_not_asked_about_again() -> None:
    """A sure answer is worth less than asking about a label that is wrong in one of four cases; a doubted one more."""
    sure, doubted = value.second_answer([0.02, 0.6], 0.95)
    assert sure < value.first_answer([0.25], 0.95)[0] < doubted


def test_near_duplicates_that_people_decided_are_evidence() -> None:
    """The same label: less doubt; another: more; nothing said: no change; they cancel out."""
    found = value.with_group([0.5] * 4, [0, 1, 0, 1], [0, 0, 1, 1])
    assert found == pytest.approx([0.5, 1 - value.SAME_GROUP, value.SAME_GROUP, 0.5])
    assert value.with_group([0.0, 1.0], [0, 0], [0, 0]) == pytest.approx([0, 1], abs=1e-9)


def test_values_in_order_never_rise_and_keep_their_sum() -> None:
    """What fits already stays as it is."""
    found = value.in_order([0.2, 0.9, 0.5, 0.6, 0.1])
    assert (np.diff(found) <= 0).all() and found.sum() == pytest.approx(2.3)
    assert value.in_order([3.0, 2.0, 1.0]).tolist() == [3, 2, 1] and value.in_order([]).size == 0


def test_more_of_the_same_is_worth_half_and_harm_is_not_made_smaller() -> None:
    """Three at full value in a small batch, then three at half; other kinds count for themselves."""
    found = value.spread([1.0] * 7 + [0.8, -0.1], ["a"] * 7 + ["b", "a"], 20)
    assert found.tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.8, -0.1]
    assert value.spread([1.0] * 10, [0] * 10, 500).tolist() == [1.0] * 10


@pytest.mark.parametrize(
    ("first", "second", "n", "limit", "taken"),
    [
        ([0.5, 0.4, 0.3], [0.35, 0.2], 3, 3, 1),
        ([0.5, 0.4, 0.3], [0.9, 0.8, 0.7], 3, 2, 2),
        ([0.5, 0.4, 0.3], [0.3], 3, 3, 0),
        ([0.5], [0.2, 0.1, -0.1], 3, 3, 2),
        ([], [0.2, 0.1], 1, 5, 1),
        ([0.5], [], 1, 1, 0),
        ([0.5], [0.9], 0, 1, 0),
    ],
)
def test_a_second_opinion_takes_the_place_of_what_is_worth_less(
    first: list[float], second: list[float], n: int, limit: int, taken: int
) -> None:
    """Never more than the limit, never of no value, never before a better new question."""
    assert value.n_second(first, second, n, limit) == taken


@pytest.mark.parametrize(("wrong", "accuracy", "message"), [([0.5, np.nan, 2], 0.9, r"rows \[1, 2\]"), ([0.5], 1.2, "1.2")])
def test_what_is_no_share_is_refused(wrong: list[float], accuracy: float, message: str) -> None:
    """With the rows it is about."""
    with pytest.raises(InputError, match=message):
        value.first_answer(wrong, accuracy)
    with pytest.raises(InputError, match=message):
        value.second_answer(wrong, accuracy)
