"""Which score to believe and how many rows to suspect, decided without the truth."""

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality.confident import Confidence, estimate
from curation.quality.posterior import fit, wrong_probability
from curation.quality.scorers import Scorer, all_scores, choose, cut_by_counts, cut_by_expected_f1, find_suspects
from curation.quality.sparse import TopK


def shop(
    noise: float, signal: float = 5.0, n: int = 6000, k: int = 40, temperature: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """(probabilities, labels, which are wrong): hard listings are mislabelled more often, half of them the usual way."""
    rng = np.random.default_rng(0)
    true, hard = rng.integers(k, size=n), rng.random(n)
    usual, other = true // 5 * 5 + (true + 1) % 5, true // 5 * 5 + rng.integers(5, size=n)
    labels = np.where(rng.random(n) < 2 * hard * noise, np.where(rng.random(n) < 0.5, usual, other), true)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), true] += signal * (1.5 - hard)
    logits[np.arange(n), other] += 1.5 * hard
    logits[np.arange(n), usual] += 2 * noise
    powers = np.exp(logits / temperature)
    return powers / powers.sum(axis=1, keepdims=True), labels, labels != true


def fitted(probs: NDArray[np.float64], labels: NDArray[np.int64], k: int = 10) -> tuple[TopK, Confidence]:
    store = TopK.of(probs, labels, k=k)
    return store, estimate(store)


def f1(flagged: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> float:
    return float(2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()))


def best_f1(score: NDArray[np.floating], wrong: NDArray[np.bool_]) -> float:
    """Of the best of all cuts, chosen knowing the truth."""
    hits = np.cumsum(wrong[np.argsort(score, kind="stable")])
    return float((2 * hits / (np.arange(1, len(wrong) + 1) + wrong.sum())).max())


@pytest.mark.parametrize("signal", [3.0, 5.0, 8.0])
@pytest.mark.parametrize(("noise", "distance"), [(0.08, 0.02), (0.2, 0.02), (0.4, 0.05)])
def test_the_cut_is_near_the_best_one_and_above_cleanlabs_default(noise: float, distance: float, signal: float) -> None:
    """Weak and strong models, nothing set by hand. Noise that the model has learnt itself is not told from the truth."""
    probs, labels, wrong = shop(noise, signal)
    found = find_suspects(*fitted(probs, labels))
    best = max(best_f1(score, wrong) for score in all_scores(TopK.of(probs, labels), found.wrong).values())
    default = f1(find_label_issues(labels, probs, n_jobs=1), wrong)
    assert f1(found.flagged, wrong) > best - distance
    assert f1(found.flagged, wrong) > default + 0.03


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_the_noise_rate_is_found_whatever_the_models_temperature(temperature: float) -> None:
    """20 % of the labels are meant to be wrong; an over-confident and an unsure model say so alike."""
    probs, labels, wrong = shop(0.2, temperature=temperature)
    store, state = fitted(probs, labels)
    assert fit(store, state).rate == pytest.approx(wrong.mean(), abs=0.03)


def test_clean_labels_are_left_alone() -> None:
    """A weak model disagrees with a tenth of them and says of next to none that it is wrong."""
    probs, labels, wrong = shop(0.0, signal=4.0)
    assert not wrong.any() and (probs.argmax(axis=1) != labels).mean() > 0.08
    assert find_suspects(*fitted(probs, labels)).flagged.mean() < 0.01


def test_what_is_expected_of_the_flags_is_what_they_are() -> None:
    """Precision and recall, estimated and true."""
    probs, labels, wrong = shop(0.2)
    found = find_suspects(*fitted(probs, labels))
    assert found.expected_precision == pytest.approx(wrong[found.flagged].mean(), abs=0.08)
    assert found.expected_recall == pytest.approx(found.flagged[wrong].mean(), abs=0.08)


def test_scores_are_cleanlabs_where_cleanlab_has_them() -> None:
    """Self-confidence and normalised margin; the log ratio orders rows as a sharper model would."""
    probs, labels, _ = shop(0.2, n=500)
    store, state = fitted(probs, labels)
    scores = all_scores(store, wrong_probability(store, state, fit(store, state)))
    for name in (Scorer.SELF_CONFIDENCE, Scorer.NORMALIZED_MARGIN):
        assert scores[name] == pytest.approx(get_label_quality_scores(labels, probs, method=name.value), abs=1e-6)
    sharper = probs**3 / (probs**3).sum(axis=1, keepdims=True)
    again = all_scores(TopK.of(sharper, labels), np.zeros(500, dtype=np.float32))[Scorer.LOG_RATIO]
    assert (np.argsort(again)[:100] == np.argsort(scores[Scorer.LOG_RATIO])[:100]).all()


def test_unlabelled_rows_score_the_models_doubt_and_are_not_flagged() -> None:
    """They count neither in the rate nor among the suspects."""
    probs, labels, _ = shop(0.2, n=1000)
    labels[:100] = -1
    found = find_suspects(*fitted(probs, labels))
    assert found.score[:100] == pytest.approx(1 - probs[:100].max(axis=1), abs=1e-6)
    assert not found.flagged[:100].any() and found.flagged.any()


def test_verified_labels_choose_the_scorer_and_are_not_flagged() -> None:
    """Forty verified wrong labels speak for the only scorer that knows them."""
    probs, labels, wrong = shop(0.2, n=1000)
    store, state = fitted(probs, labels)
    verified = np.where(np.arange(1000) < 300, wrong, -1).astype(np.int64)
    found = find_suspects(store, state, verified=verified)
    assert found.choice.verified and not found.flagged[:300].any() and found.flagged[300:].any()
    scores = {Scorer.LOG_RATIO: found.score, Scorer.SELF_CONFIDENCE: np.where(wrong, 0, 1).astype(np.float32)}
    assert choose(scores, found.wrong, 100, verified=verified).scorer == Scorer.SELF_CONFIDENCE


def test_a_handful_of_verified_labels_chooses_nothing() -> None:
    """Then the model's own estimate does."""
    probs, labels, wrong = shop(0.2, n=1000)
    verified = np.where(np.arange(1000) < 20, wrong, -1).astype(np.int64)
    choice = find_suspects(*fitted(probs, labels), verified=verified).choice
    assert not choice.verified and choice.scorer == Scorer.POSTERIOR and set(choice.precision) == set(Scorer)


@pytest.mark.parametrize("verified", [np.zeros(3, dtype=int), np.full(1000, 2)])
def test_verified_must_be_minus_one_zero_or_one_per_row(verified: NDArray[np.int64]) -> None:
    """The shape is named."""
    probs, labels, _ = shop(0.2, n=1000)
    with pytest.raises(ProbabilityError, match="verified has shape"):
        find_suspects(*fitted(probs, labels), verified=verified)


@pytest.mark.parametrize(("n", "k"), [(0, 3), (5, 1), (5, 3)])
def test_nothing_labelled_one_class_and_no_rows_flag_nothing(n: int, k: int) -> None:
    """And the rate is 0."""
    store, state = fitted(np.full((n, k), 1 / k), np.full(n, -1 if k > 1 else 0))
    found = find_suspects(store, state)
    assert not found.flagged.any() and (found.expected_precision, found.expected_recall) == (0, 0)


def test_the_expected_f1_is_best_where_the_next_row_is_less_than_half_as_good() -> None:
    """Two certain errors and a hopeless tail; two halves are worth flagging together."""
    assert cut_by_expected_f1(np.array([0.1, 1.0, 0.1, 1.0])) == 2
    assert cut_by_expected_f1(np.array([0.5, 0.5])) == 2
    assert cut_by_expected_f1(np.zeros(4)) == cut_by_expected_f1(np.zeros(0)) == 0


def test_the_mean_of_the_two_counts_serves_a_good_model() -> None:
    """Between what confident learning flags and what the model disagrees with."""
    probs, labels, wrong = shop(0.2, signal=5.0)
    n = cut_by_counts(*fitted(probs, labels))
    assert wrong.sum() * 0.7 < n < wrong.sum() * 1.5
