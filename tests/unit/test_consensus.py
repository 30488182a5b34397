"""Majority with explicit ties, and CROWDLAB without its traps."""

import warnings
from datetime import timedelta

import cleanlab.internal.multiannotator_utils
import cleanlab.multiannotator
import numpy as np
import pytest
from numpy.typing import NDArray

from curation.errors import InputError, ProbabilityError
from curation.quality.consensus import Consensus, crowd, majority
from curation.types import Vote
from tests.conftest import NOW


def vote(annotator: str, value: str, after_s: int = 0, annotation_id: int = 0) -> Vote:
    return Vote(annotator, value, NOW + timedelta(seconds=after_s), annotation_id=annotation_id)


def test_nobody_voted() -> None:
    """No value, no tie."""
    assert majority([]) == Consensus(None, 0.0, is_tie=False, n_votes=0)


def test_the_majority_wins_with_its_share() -> None:
    """Two of three."""
    found = majority([vote("anna", "x"), vote("bela", "y"), vote("carla", "x")])
    assert found == Consensus("x", pytest.approx(2 / 3), is_tie=False, n_votes=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", ["xy", "xxyy", "xxyyz"])
def test_a_tie_is_said_and_nothing_is_chosen(values: str) -> None:
    """The best values share the lead, whoever else voted."""
    found = majority([vote(f"person {i}", value) for i, value in enumerate(values)])
    assert found.value is None and found.is_tie


def test_a_person_has_one_vote_and_may_change_their_mind() -> None:
    """The newest counts, however often somebody answers; equal times go by annotation."""
    twice = [vote("anna", "x", 5), vote("anna", "x", 7), vote("anna", "y", 9), vote("bela", "y"), vote("carla", "x")]
    assert majority(twice).value == "y" and majority(twice).n_votes == 3
    assert majority([vote("anna", "y", annotation_id=2), vote("anna", "x", annotation_id=1)]).value == "y"


def panel(
    accuracies: tuple[float, ...], n: int = 300, k: int = 5, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """(truth, labels by annotator with a third missing, probabilities of a fair model)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    right = rng.random((n, len(accuracies))) < np.array(accuracies)
    said = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, k, (n, len(accuracies)))) % k).astype(float)
    said[rng.random(said.shape) < 0.33] = np.nan
    said[np.isnan(said).all(axis=1), 0] = truth[np.isnan(said).all(axis=1)]
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), truth] += 2
    return truth, said, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_the_crowd_is_better_than_the_majority_and_knows_who_is_careless() -> None:
    """Three careful people and two who guess."""
    truth, said, probs = panel((0.95, 0.9, 0.9, 0.35, 0.35))
    found = crowd(said, probs)
    plain = [majority([vote(str(a), str(v)) for a, v in enumerate(row) if not np.isnan(v)]).value for row in said]
    assert (found.consensus == truth).mean() > np.mean(
        [value == f"{t:.1f}" for value, t in zip(plain, truth, strict=True)]
    ) + 0.05
    assert found.annotator_quality[:3].min() > found.annotator_quality[3:].max() + 0.2
    assert ((found.quality >= 0) & (found.quality <= 1)).all()


def test_one_who_flips_everything_gets_the_worst_quality() -> None:
    """And does not drag the others' answers along."""
    truth, said, probs = panel((0.9, 0.9, 0.9, 0.0))
    found = crowd(said, probs)
    assert found.annotator_quality.argmin() == 3 and found.annotator_quality[3] < 0.3
    assert (found.consensus == truth).mean() > 0.93


def test_one_who_answered_everything_does_not_decide_everything() -> None:
    """A careless person on every listing, careful ones on most."""
    truth, said, probs = panel((0.95, 0.95, 0.95, 0.5))
    said[:, 3] = np.where(np.isnan(said[:, 3]), (truth + 1) % 5, said[:, 3])
    assert (crowd(said, probs).consensus == truth).mean() > 0.93


def test_the_miscounting_part_of_cleanlab_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`value_counts` of float labels is wrong in cleanlab 2.9; the consensus must not depend on it."""
    _, said, probs = panel((0.9, 0.9))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("value_counts was called on float labels")

    monkeypatch.setattr(cleanlab.multiannotator, "value_counts", refuse)
    monkeypatch.setattr(cleanlab.internal.multiannotator_utils, "value_counts", refuse)
    crowd(said, probs)


def test_ties_of_people_and_model_are_broken_the_same_way_each_time() -> None:
    """cleanlab would draw from the global random state, and warn."""
    said, probs = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]), np.full((3, 3), 1 / 3)
    assert {tuple(crowd(said, probs).consensus) for _ in range(20)} == {(0, 0, 2)}


def test_people_who_never_agree_give_a_result_and_no_warning() -> None:
    """Two columns, no row in common but one."""
    said = np.array([[0.0, np.nan], [np.nan, 1.0], [0.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(crowd(said, np.full((3, 2), 0.5)).quality).all()


def test_one_class_has_one_answer() -> None:
    """cleanlab divides by the number of other classes."""
    found = crowd(np.zeros((3, 2)), np.ones((3, 1)))
    assert found.consensus.tolist() == [0, 0, 0] and found.quality.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([[np.nan, np.nan], [0.0, 1.0]], r"rows without any vote: \[0\]"),
        ([[0.0, np.nan], [1.0, np.nan]], r"annotators without any vote: \[1\]"),
        ([[0.0, np.nan], [np.nan, 1.0]], "no row has two votes"),
        ([[0.0, 2.0], [0.0, 1.0]], "from 0 to 1, got 0 to 2"),
        ([[0.0, 0.5], [0.0, 1.0]], "whole numbers"),
        ([[0.0, -1.0], [0.0, 1.0]], "whole numbers"),
        ([[0.0, 1.0]], "both need the same rows"),
        (np.zeros((2, 0)), "one at least"),
    ],
)
def test_votes_the_crowd_cannot_be_asked_about_are_refused(said: list[list[float]], message: str) -> None:
    """Each with the rows or annotators it is about."""
    with pytest.raises(InputError, match=message):
        crowd(np.array(said), np.full((2, 2), 0.5))


def test_bad_probabilities_are_refused_before_the_crowd_is_asked() -> None:
    """The same checks as for label issues."""
    with pytest.raises(ProbabilityError, match="hold NaN"):
        crowd(np.array([[0.0, 1.0]]), np.array([[np.nan, 0.5]]))
