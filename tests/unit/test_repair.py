"""Which labels may be changed without asking: stand-ins, cuts, and how many answers are missing."""

import math

import numpy as np
import pytest

from curation.errors import InputError, ProbabilityError
from curation.quality.metrics import exact_lower
from curation.quality.repair import Evidence, n_needed, promise, stand_ins, suggestions, to_draw
from curation.quality.sparse import TopK


def answers(score: list[float], right: list[bool]) -> Evidence:
    return Evidence(np.array(score), np.array(right, dtype=bool))


def spread(n: int, low: float = 0.9, high: float = 1.0) -> list[float]:
    return [float(score) for score in np.linspace(low, high, n)]


@pytest.mark.parametrize(("target", "n_wrong", "n"), [(0.95, 0, 59), (0.95, 1, 93), (0.95, 2, 124), (0.9, 0, 29), (0.5, 0, 5)])
def test_the_number_of_answers_that_certify_a_target(target: float, n_wrong: int, n: int) -> None:
    """ln 0.05 / ln 0.95 = 59 if all are right; one less does not do."""
    assert n_needed(target, n_wrong) == n
    assert exact_lower(n - n_wrong, n) >= target > exact_lower(n - 1 - n_wrong, n - 1)


def test_fifty_nine_right_answers_are_enough_and_fifty_eight_are_not() -> None:
    """One cut, no error spent on a search."""
    waiting = np.full(200, 0.99)
    assert promise(waiting, answers([0.95] * 59, [True] * 59), 0.95).n_changes == 200
    short = promise(waiting, answers([0.95] * 58, [True] * 58), 0.95)
    assert (short.holds, short.n_changes, short.n_missing, short.next_cut) == (False, 0, 1, 0.95)
    assert math.isinf(short.cut) and math.isnan(short.precision)


def test_without_evidence_nothing_is_changed_and_the_number_is_told() -> None:
    """And with nothing to change nobody has to answer."""
    none = answers([], [])
    assert promise(np.full(9, 1.0), none, 0.95).n_missing == 59
    assert promise(np.zeros(0), none, 0.95).n_missing == 0


def test_a_wrong_answer_costs_more_right_ones() -> None:
    """Sixty answers of which one is wrong lack thirty-three."""
    found = promise(np.full(9, 0.99), answers([0.9] * 60, [True] * 59 + [False]), 0.95)
    assert not found.holds and found.n_missing == 93 - 60


def test_the_doubtful_ones_do_not_vouch_for_the_others() -> None:
    """Three hundred right answers at the top certify the top; what scores lower than anyone asked stays as it is."""
    waiting = np.concatenate([np.full(50, 0.99), np.full(500, 0.6)])
    found = promise(waiting, answers([0.98] * 300 + [0.55] * 5, [True] * 305), 0.95)
    assert (found.cut, found.n_changes) == (0.98, 50)


def test_the_surest_fifth_is_drawn_until_there_are_enough_answers() -> None:
    """Ten wrong ones of 336 would not stop a promise of 0.95; each that is drawn is one less, wherever it stands."""
    scores, drawn = np.linspace(0, 1, 5000), np.zeros(5000, dtype=bool)
    cut, n = to_draw(scores, ~drawn, drawn, 0.95)
    assert (cut, n) == (pytest.approx(0.8), n_needed(0.95, 10))
    drawn[4000::10] = True
    assert to_draw(scores, ~drawn, drawn, 0.95)[1] == n - 100
    drawn[4000::2] = True
    assert to_draw(scores, ~drawn, drawn, 0.95) == (math.inf, 0)


def test_a_tier_that_is_sooner_answered_than_certified_is_left_alone() -> None:
    """Less than four times the 124 answers that bear two wrong ones, or nothing at all."""
    scores, nobody = np.linspace(0, 1, 2400), np.zeros(2400, dtype=bool)
    assert to_draw(scores, ~nobody, nobody, 0.95) == (math.inf, 0)
    assert to_draw(scores, ~nobody, nobody, 0.9)[1] == n_needed(0.9, 10)
    assert to_draw(scores[:0], nobody[:0], nobody[:0], 0.9) == (math.inf, 0)


def test_stand_ins_score_no_higher_than_what_they_stand_for() -> None:
    """Each for an equal share; the highest that will do are taken."""
    verified = np.array([0.1, 0.2, 0.5, 0.6, 0.9, 0.95, 0.99])
    assert stand_ins(verified, np.array([0.5, 1.0])).tolist() == [0, 1, 2, 4, 5, 6]
    assert stand_ins(verified, np.array([0.05])).tolist() == []
    assert stand_ins(verified, np.full(3, 1.0)).tolist() == list(range(7))
    assert stand_ins(verified, np.zeros(0)).tolist() == stand_ins(np.zeros(0), verified).tolist() == []


def test_the_search_is_paid_for() -> None:
    """Several cuts are tried, so the one that is taken has a bound at less than the whole error."""
    found = promise(np.array(spread(300, 0.1)), answers(spread(300, 0.1), [True] * 300), 0.95)
    assert found.n_cuts > 1 and found.n_right == found.n == 300
    assert found.precision_low == pytest.approx(exact_lower(300, 300, 0.95))  # all cuts held: the whole error arrived


def test_a_suggestion_is_the_best_other_class() -> None:
    """Its score is p times the odds against the given label; 0 where the given one leads or none is given."""
    probs = np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    suggested, score = suggestions(TopK.of(probs, np.array([0, 0, -1])))
    assert suggested.tolist()[:2] == [1, 1]
    assert score == pytest.approx([0.7 * 0.7 / 0.9, 0, 0])


@pytest.mark.parametrize("target", [0.0, 1.0, float("nan")])
def test_a_target_out_of_range_is_refused(target: float) -> None:
    """Nobody can promise certainty."""
    with pytest.raises(InputError, match="give a precision between 0 and 1"):
        promise(np.ones(1), answers([], []), target)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_scores_out_of_range_are_refused(bad: float) -> None:
    """With the rows named, on either side."""
    with pytest.raises(ProbabilityError, match=r"first rows \[1\]"):
        promise(np.array([0.5, bad]), answers([], []), 0.95)
    with pytest.raises(ProbabilityError, match="scores of the evidence"):
        promise(np.ones(1), answers([bad], [True]), 0.95)
