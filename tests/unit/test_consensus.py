"""Majority with explicit ties."""

from datetime import timedelta

import pytest

from curation.quality.consensus import Consensus, majority
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
    """The best values share the lead, whoever else voted (fault 39)."""
    found = majority([vote(f"person {i}", value) for i, value in enumerate(values)])
    assert found.value is None and found.is_tie


def test_a_person_has_one_vote_and_may_change_their_mind() -> None:
    """The newest counts, however often somebody answers; equal times go by annotation (fault 39)."""
    twice = [vote("anna", "x", 5), vote("anna", "x", 7), vote("anna", "y", 9), vote("bela", "y"), vote("carla", "x")]
    assert majority(twice).value == "y" and majority(twice).n_votes == 3
    assert majority([vote("anna", "y", annotation_id=2), vote("anna", "x", annotation_id=1)]).value == "y"
