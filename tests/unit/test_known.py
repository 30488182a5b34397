"""What is known about one violation: certain, weak and absent examples, and what is missing."""

from dataclasses import replace

import numpy as np

from curation.types import LabelSource, Listing, Split
from trainer.addition.known import Known, known
from trainer.config import TrainConfig
from trainer.rows import Label, SnapshotRows

CONFIG = TrainConfig(verified_weight=3.0, reported_weight=0.5, unreported_weight=0.2)
SAID: Label = ("fake|theft", LabelSource.MODERATORS)
NONE: Label = ("none", LabelSource.MODERATORS)


def listing(at: int, *flags: str) -> Listing:
    return Listing(at, f"r{at}", None, "", "", None, None, {}, (), None, flags, f"g{at}", None)


def rows(*found: tuple[Listing, Label | None]) -> SnapshotRows:
    """One listing a near-duplicate group, all in the training split."""
    listings = tuple(one for one, _ in found)
    splits = np.array([Split.TRAIN.value] * len(found))
    refs, groups = tuple(one.ref for one in listings), tuple(one.group_key for one in listings)
    return SnapshotRows(listings, refs, groups, splits, (None,) * len(found), tuple(label for _, label in found))


def known_of(n_positive: int, n_negative: int) -> Known:
    """Verified listings, each a group of its own."""
    n = n_positive + n_negative
    present = np.arange(n) < n_positive
    groups = np.array([f"g{at}" for at in range(n)])
    return Known(present, np.ones(n, bool), np.ones(n, np.float32), groups, np.array([Split.TRAIN.value] * n))


def test_moderators_outweigh_users_and_users_the_unknown() -> None:
    """Said, denied, reported, reported but denied, reported elsewhere, never looked at."""
    found = known(
        rows(
            (listing(0), SAID),
            (listing(1), NONE),
            (listing(2, "fake"), ("fake", LabelSource.REPORT)),
            (listing(3, "fake"), NONE),
            (listing(4), None),
            (listing(5), None),
        ),
        "fake",
        CONFIG,
        decided={0, 1, 3},
        reported={"r4"},
    )
    assert found.present.tolist() == [True, False, True, False, True, False]
    assert found.weight.tolist() == np.float32([3, 3, 0.5, 3, 0.5, 0.2]).tolist()
    assert found.counts()["reported"] == 2 and found.counts()["verified_negatives"] == 2


def test_a_decision_from_before_is_no_denial() -> None:
    """Moderators who could not say it did not deny it: weak negative, or weak positive once it is reported."""
    found = known(rows((listing(0), NONE), (listing(1, "fake"), NONE)), "fake", CONFIG, decided=set())
    assert found.present.tolist() == [False, True] and not found.asked.any()
    assert found.weight.tolist() == np.float32([0.2, 0.5]).tolist()


def test_a_part_of_a_name_is_not_the_name() -> None:
    """A label names whole violations."""
    found = known(rows((listing(0), ("fake_tickets", LabelSource.MODERATORS))), "fake", CONFIG, decided={0})
    assert not found.present.any()


def test_what_is_missing_is_counted_in_groups() -> None:
    """Copies of one listing are one example."""
    many = known_of(12, 5)
    copies = replace(many, groups=np.array(["g"] * 12 + [f"h{at}" for at in range(5)]))
    assert many.missing(12) == "" and many.missing(30).startswith("12 positive listings, 18 more needed of 30")
    assert copies.missing(12).startswith("1 positive listings, 11 more needed")


def test_both_answers_are_needed_where_it_is_fitted() -> None:
    """Positives in the test split only, or nothing but positives, cannot be fitted."""
    only, elsewhere = known_of(12, 0), known_of(12, 5)
    elsewhere = replace(elsewhere, splits=np.where(elsewhere.present, Split.TEST.value, elsewhere.splits))
    assert "is positive" in only.missing(10) and "training split; 1 more" in elsewhere.missing(10)


def test_too_few_decisions_judge_nothing() -> None:
    """Ten groups of either answer, by moderators."""
    assert known_of(10, 10).unjudged() == ""
    assert known_of(4, 10).unjudged() == "6 more verified positives"
    assert known_of(0, 9).unjudged() == "10 more verified positives, 1 more verified negatives"
