"""Whole numbers are served only where they lose next to nothing."""

import json
from typing import Any

import numpy as np
import pytest

from curation.errors import InputError
from curation.release.gates import Check
from curation.release.rounding import Answers, rounded
from curation.settings import Settings
from tests.unit.test_gates import right


def answers(n_right: int, probs: np.ndarray, cut: float = np.inf) -> Answers:
    """One file's answers on 1,000 rows."""
    return Answers(right(n_right, 1000), probs, np.array([cut]))


RANKED = np.linspace(0, 1, 100)[:, None]
TRUTH = RANKED > 0.8


def small(n_right: int, probs: np.ndarray, cut: float = np.inf, **settings: Any) -> Check:
    """The file in whole numbers against one with 700 right answers, a perfect ranking and a threshold of 0.9."""
    return rounded(answers(700, RANKED, 0.9), answers(n_right, probs, cut), TRUTH, ["counterfeit"], Settings(**settings))


def test_whole_numbers_that_lose_nothing_are_served() -> None:
    """The words and the numbers say what was lost, as plain JSON."""
    found = small(699, RANKED, 0.95)
    assert found.passed and found.words.startswith("served in whole numbers: accuracy loss +0.0010 on 1000 rows")
    one = found.numbers["violations"]["counterfeit"]
    assert one["ap_loss"] == 0 and one["recall_loss"] == pytest.approx(0.25) and one["n_positive"] == 20
    json.dumps(found.numbers, allow_nan=False)


@pytest.mark.parametrize(
    ("n_right", "probs", "cut", "words"),
    [
        (697, RANKED, 0.9, "accuracy loss 0.0030 of at most 0.002"),
        (700, 1 - RANKED, 0.9, "average precision loss 0.8"),
        (700, RANKED, np.inf, "the threshold of counterfeit cannot be certified any more"),
    ],
)
def test_whole_numbers_that_lose_too_much_are_not_served(n_right: int, probs: np.ndarray, cut: float, words: str) -> None:
    """Each limit is named with what was measured."""
    found = small(n_right, probs, cut)
    assert not found.passed and words in found.words and found.words.startswith("served in floats: ")


def test_what_nobody_could_say_is_not_judged() -> None:
    """Rows of which a violation is unknown (NaN) count neither for nor against it."""
    known = np.arange(100)[:, None] % 2 == 0
    probs = np.where(known, RANKED, 1 - RANKED)
    files = [answers(700, one, 0.85) for one in (RANKED, probs)]
    found = rounded(*files, np.where(known, TRUTH, np.nan), ["counterfeit"], Settings())
    one = found.numbers["violations"]["counterfeit"]
    assert found.passed and (one["n_positive"], one["ap_loss"], one["recall_loss"]) == (10, 0, 0)
    assert not rounded(*files, TRUTH, ["counterfeit"], Settings()).passed


def test_limits_of_whole_numbers_are_settings() -> None:
    """Who can afford it may lose more."""
    assert small(690, RANKED, 0.9, gate_max_accuracy_loss=0.02).passed
    assert small(700, 1 - RANKED, 0.9, gate_max_ap_loss=1.0).passed


def test_whole_numbers_without_evidence_are_not_served() -> None:
    """No row, no approval; rows of other shapes are an error."""
    nothing = Answers(np.zeros(0, bool), np.zeros((0, 1)), np.array([np.inf]))
    found = rounded(nothing, nothing, np.zeros((0, 1), bool), ["counterfeit"], Settings())
    assert not found.passed and "no decided or labelled row" in found.words
    with pytest.raises(InputError, match="score the same rows by both"):
        rounded(nothing, answers(1, RANKED), TRUTH, ["counterfeit"], Settings())
