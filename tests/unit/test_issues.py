"""Label issues: what cleanlab finds, and what happens where it would fail without a word."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from curation.errors import ProbabilityError
from curation.quality.confident import confident_learning, estimate
from curation.quality.held_out import sparse
from curation.quality.issues import Issues, Method, find_category_issues, find_violation_issues
from curation.quality.ranking import Audit
from curation.quality.sellers import Sellers, seller_odds
from curation.quality.sparse import TopK
from curation.quality.validate import OutOfSample


def out_of_sample(probs: NDArray[np.floating]) -> OutOfSample:
    n, k = probs.shape
    return OutOfSample(probs, tuple(f"class {i}" for i in range(k)), tuple(f"r{i}" for i in range(n)), np.zeros(n, dtype=int))


def noisy(
    n: int = 600, k: int = 6, noise: float = 0.15, signal: float = 3.5
) -> tuple[NDArray[np.int64], NDArray[np.int64], OutOfSample]:
    """(given, true, probabilities of a model that by default is right about nine times in ten)."""
    rng = np.random.default_rng(0)
    true = rng.integers(k, size=n)
    given = np.where(rng.random(n) < noise, (true + 1 + rng.integers(k - 1, size=n)) % k, true)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), true] += signal
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return given, true, out_of_sample(probs)


def test_most_of_the_wrong_labels_are_flagged_and_few_right_ones() -> None:
    """15 % noise and a decent model: precision and recall of the flags, and of the front of the ranking."""
    given, true, oos = noisy()
    found = find_category_issues(given, oos)
    wrong = given != true
    assert wrong[found.is_issue].mean() > 0.85
    assert found.is_issue[wrong].mean() > 0.75
    assert wrong[found.order[: wrong.sum() // 2]].mean() > 0.95
    assert (found.suggested[wrong & found.is_issue] == true[wrong & found.is_issue]).mean() > 0.9


def f1(flagged: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> float:
    return float(2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()))


@pytest.mark.parametrize("noise", [0.08, 0.2, 0.4])
def test_the_flags_are_better_than_cleanlabs(noise: float) -> None:
    """A model of forty classes that is often unsure; cleanlab's default filter over-flags where little is wrong."""
    given, true, oos = noisy(n=3000, k=40, noise=noise, signal=4.0)
    ours, reference = find_category_issues(given, oos), find_category_issues(given, oos, method="cleanlab")
    assert f1(ours.is_issue, given != true) > f1(reference.is_issue, given != true) + 0.01


def test_cleanlab_stays_the_reference() -> None:
    """Its method flags what its default filter flags where the model disagrees, and ranks as ours does."""
    from cleanlab.filter import find_label_issues

    given, _, oos = noisy(noise=0.3)
    found = find_category_issues(given, oos, method=Method.CLEANLAB)
    reference = find_label_issues(given, oos.pred_probs, n_jobs=1)
    assert (found.is_issue == (reference & (oos.pred_probs.argmax(axis=1) != given))).all()
    assert found.score == pytest.approx(find_category_issues(given, oos).score)


def test_cleanlab_is_not_run_where_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without all probabilities, or with too many; ours goes on."""
    given, _, oos = noisy()
    kept = sparse(oos, given, k=4)
    with pytest.raises(ProbabilityError, match="only the largest were kept"):
        find_category_issues(given, kept, method="cleanlab")
    monkeypatch.setattr("curation.quality.issues.DENSE_CELLS", 3599)
    with pytest.raises(ProbabilityError, match="3,600 probabilities are more than the 3,599"):
        find_category_issues(given, oos, method="cleanlab")
    assert find_category_issues(given, kept).is_issue.sum() == pytest.approx(
        find_category_issues(given, oos).is_issue.sum(), abs=3
    )


def test_wrong_is_a_probability_and_says_how_many_are() -> None:
    """Its mean is the noise, and that over the flags their precision."""
    given, true, oos = noisy(n=3000)
    found = find_category_issues(given, oos)
    assert found.wrong.mean() == pytest.approx((given != true).mean(), abs=0.03)
    assert found.wrong[found.is_issue].mean() == pytest.approx((given != true)[found.is_issue].mean(), abs=0.05)


def test_with_few_rows_a_class_confident_learnings_count_is_drawn_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows are flagged as lie between the two counts, on a scale of ratios."""
    given, _, oos = noisy(n=200, k=40, noise=0.3, signal=2.5)
    found = find_category_issues(given, oos).is_issue
    monkeypatch.setattr("curation.quality.issues.MIN_ROWS_PER_CLASS", 0)
    alone = find_category_issues(given, oos).is_issue
    store = TopK.of(oos.pred_probs, given)
    counted = confident_learning(store, estimate(store)) & (np.bincount(given, minlength=40)[given] > 1)
    assert alone.sum() != counted.sum() and found.sum() == round(np.sqrt(alone.sum() * counted.sum()))


def audited(given: NDArray[np.int64], true: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], Audit]:
    """(labels, verified, audit) after moderators decided the first `n` rows, which nobody chose."""
    verified = np.arange(len(given)) < n
    return np.where(verified, true, given), verified, Audit(verified, given)


def test_an_audit_chooses_the_score_and_few_wrong_labels_do_not() -> None:
    """Where the given label's probability tells more than any odds, the audit says so."""
    rng = np.random.default_rng(0)
    given, true, _ = noisy(n=4000, k=3)
    wrong = given != true
    own, share = np.where(wrong, rng.uniform(0, 0.1, 4000), rng.uniform(0.1, 0.3, 4000)), rng.random(4000)
    probs = np.zeros((4000, 3))
    for step, part in enumerate((own, (1 - own) * share, (1 - own) * (1 - share))):
        probs[np.arange(4000), (given + step) % 3] = part
    told = out_of_sample(probs)
    labels, verified, audit = audited(given, true, 400)
    assert wrong[:400].sum() > 20 > wrong[:60].sum()
    assert find_category_issues(labels, told, verified=verified, audit=audit).scorer == "self_confidence"
    labels, verified, audit = audited(given, true, 60)
    assert find_category_issues(labels, told, verified=verified, audit=audit).scorer == "combined"
    with pytest.raises(ProbabilityError, match="the audit is of"):
        find_category_issues(labels, told, audit=Audit(verified[1:], given))


def test_the_score_ranks_better_than_cleanlabs_self_confidence() -> None:
    """Where listings are unequally clear to the model, the odds tell a wrong label from a hard listing."""
    from cleanlab.rank import get_label_quality_scores

    given, true, oos = noisy(n=3000, k=40, noise=0.1)
    vague = oos.pred_probs ** np.random.default_rng(1).uniform(0.2, 1.2, (3000, 1))
    vague /= vague.sum(axis=1, keepdims=True)
    ours = find_category_issues(given, out_of_sample(vague)).score
    theirs = get_label_quality_scores(given, vague, method="self_confidence")
    assert average_precision_score(given != true, -ours) > average_precision_score(given != true, -theirs) + 0.005


def test_a_temperature_of_the_model_hardly_changes_the_ranking() -> None:
    """Over-confident and under-confident versions of one model find the wrong labels alike."""
    given, true, oos = noisy(k=20, n=2000, signal=2.5)
    cooled = oos.pred_probs**3
    cooled /= cooled.sum(axis=1, keepdims=True)
    scores, again = find_category_issues(given, oos).score, find_category_issues(given, out_of_sample(cooled)).score
    precision = average_precision_score(given != true, -scores)
    assert average_precision_score(given != true, -again) == pytest.approx(precision, abs=0.01)


def careless(given: NDArray[np.int64], true: NDArray[np.int64]) -> Sellers:
    """Thirty sellers; the wrong labels are mostly those of the first three."""
    rng, wrong = np.random.default_rng(2), given != true
    index = np.where(wrong & (rng.random(len(true)) < 0.8), rng.integers(3, size=len(true)), rng.integers(30, size=len(true)))
    return Sellers(index, np.zeros(len(true), dtype=bool))


def test_who_is_often_wrong_is_doubted_sooner() -> None:
    """A weak model ranks better when it knows whose labels they are."""
    given, true, oos = noisy(n=1500, k=20, signal=2.0)
    alone = find_category_issues(given, oos)
    informed = find_category_issues(given, oos, sellers=careless(given, true))
    gain = average_precision_score(given != true, -informed.score) - average_precision_score(given != true, -alone.score)
    assert gain > 0.05


def test_one_seller_of_everything_and_unknown_sellers_change_nothing() -> None:
    """There is nobody to compare with."""
    given, _, oos = noisy()
    alone, nobody = find_category_issues(given, oos).score, np.zeros(600, dtype=bool)
    assert find_category_issues(given, oos, sellers=Sellers(np.full(600, -1), nobody)).score == pytest.approx(alone)
    assert find_category_issues(given, oos, sellers=Sellers(np.zeros(600, dtype=int), nobody)).score == pytest.approx(
        alone, abs=0.02
    )


def test_a_moderators_word_on_a_seller_weighs_more_than_the_models() -> None:
    """Ten times overruled raises the odds of the eleventh label, ten times confirmed lowers them; without any nothing moves."""
    doubt, everything = np.full(22, 0.2), np.ones(22, dtype=bool)
    verified = np.arange(22) % 11 < 10
    sellers = Sellers(np.repeat([0, 1], 11), np.arange(22) < 10)
    shift = seller_odds(doubt, sellers, everything, verified)
    assert shift[10] > 0.5 and shift[21] < -0.5
    assert seller_odds(doubt, sellers, ~everything, ~everything) == pytest.approx(0)


def test_sellers_drawn_by_lot_change_nothing() -> None:
    """A record that predicts nothing weighs nothing: average precision stays."""
    given, true, oos = noisy(n=3000, k=20, signal=2.0)
    index = np.random.default_rng(3).integers(300, size=3000)
    alone = find_category_issues(given, oos)
    found = find_category_issues(given, oos, sellers=Sellers(index, np.zeros(3000, dtype=bool)))
    assert found.score == pytest.approx(alone.score, abs=0.1)
    assert average_precision_score(given != true, -found.score) == pytest.approx(
        average_precision_score(given != true, -alone.score), abs=0.005
    )


def test_verified_labels_are_never_issues() -> None:
    """A moderator's label stands, however sure the model is of something else."""
    given, true, oos = noisy()
    verified = given != true
    assert not find_category_issues(given, oos, verified=verified).is_issue[verified].any()


def test_unlabelled_rows_are_ranked_and_never_flagged() -> None:
    """Their score is the model's own uncertainty."""
    given, _, oos = noisy()
    given[:50] = -1
    found = find_category_issues(given, oos)
    assert not found.is_issue[:50].any() and found.is_issue.any()
    assert found.score[:50] == pytest.approx(1 - oos.pred_probs[:50].max(axis=1))


def test_all_unlabelled() -> None:
    """A catalog without any category still gets suggestions."""
    _, true, oos = noisy()
    found = find_category_issues(np.full(600, -1), oos)
    assert not found.is_issue.any() and (found.suggested == true).mean() > 0.85


@pytest.mark.parametrize("n_examples", [0, 1])
def test_a_class_with_no_or_one_example_is_not_estimated_and_stops_nobody_else(n_examples: int) -> None:
    """Its rows are ranked; the other classes are judged as before."""
    given, _, oos = noisy()
    given[given == 5] = 4
    given[:n_examples] = 5
    found = find_category_issues(given, oos)
    assert not found.is_issue[given == 5].any()
    assert found.is_issue[given != 5].any()


@pytest.mark.parametrize("k", [1, 3])
def test_labels_of_a_single_class_give_no_issues(k: int) -> None:
    """Nothing can be confused with anything."""
    probs = np.full((20, k), 1 / k)
    found = find_category_issues(np.zeros(20, dtype=int), out_of_sample(probs))
    assert not found.is_issue.any() and sorted(found.order) == list(range(20))


def test_no_rows_give_an_empty_result() -> None:
    """cleanlab says «min() arg is an empty sequence»."""
    found = find_category_issues(np.zeros(0, dtype=int), out_of_sample(np.zeros((0, 3))))
    assert [len(part) for part in (found.is_issue, found.score, found.suggested, found.order)] == [0, 0, 0, 0]


def test_a_row_whose_mass_lies_on_an_unseen_class_is_handled() -> None:
    """After leaving the unseen class out nothing is left of the row."""
    given, _, oos = noisy()
    given[given == 5] = 4
    oos.pred_probs[:3] = np.eye(6)[5]
    assert np.isfinite(find_category_issues(given, oos).score).all()


def test_ten_nan_rows_of_twenty_thousand_are_refused() -> None:
    """cleanlab would report zero findings and no warning."""
    given, _, oos = noisy(n=20_000, k=10)
    oos.pred_probs[[int(np.flatnonzero(given == k)[0]) for k in range(10)]] = np.nan
    with pytest.raises(ProbabilityError, match="10 rows of pred_probs hold NaN"):
        find_category_issues(given, oos)


def violations(given: list[list[float]], probs: list[list[float]]) -> Issues:
    return find_violation_issues(np.array(given, dtype=float), np.array(probs, dtype=float))


def test_a_violation_nobody_reported_and_a_report_the_model_does_not_see_are_issues() -> None:
    """Doubt goes both ways; agreement and clean listings are none."""
    nan = np.nan
    found = violations([[nan, nan], [1, nan], [1, nan], [nan, nan]], [[0.1, 0.9], [0.05, 0.1], [0.9, 0.1], [0.1, 0.2]])
    assert found.is_issue.tolist() == [True, True, False, False]
    assert found.suggested.tolist() == [1, 2, 0, 2]
    assert found.order.tolist() == [1, 0, 3, 2]
    assert found.score == pytest.approx([0.1, 0.05, 0.9, 0.8])


def test_a_listing_cleared_by_moderators_is_no_violation_issue() -> None:
    """The model may go on seeing things."""
    assert not violations([[0.0, 0.0]], [[0.99, 0.5]]).is_issue.any()


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1])
def test_violation_probabilities_outside_the_unit_interval_are_refused(value: float) -> None:
    """The rows are named."""
    with pytest.raises(ProbabilityError, match=r"first rows \[1\]"):
        violations([[np.nan], [np.nan]], [[0.5], [value]])


def test_violation_shapes_must_agree_and_may_be_empty() -> None:
    """A policy without categories doubts nothing."""
    with pytest.raises(ProbabilityError, match="both must be"):
        violations([[1.0, 0.0]], [[0.5]])
    assert not find_violation_issues(np.zeros((3, 0)), np.zeros((3, 0))).is_issue.any()
