"""Reading labels through the noise channel: who is doubted, what is put right, and what is refused."""

import numpy as np
import pytest

from curation.errors import InputError
from curation.quality import channel
from curation.quality.channel import Posterior, Said, View

K = 6
ROOTS = np.array([0, 0, 0, 1, 1, 1])
SCALES = (0.5, 1.0, 2.0)


def world(n: int = 1200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Said]:
    """True classes, evidence that is right for three of four, labels of 40 sellers of whom every fourth is careless."""
    rng = np.random.default_rng(seed)
    true = rng.integers(K, size=n)
    seller = rng.integers(40, size=n)
    wrong = rng.random(n) < np.where(seller % 4 == 0, 0.6, 0.05)
    label = np.where(wrong, true // 3 * 3 + (true + 1) % 3, true)
    scores = rng.normal(0, 1, (n, K))
    scores[np.arange(n), true] += 2.2
    return true, scores, Said(label, seller, np.full(n, -1))


def read(scores: np.ndarray, said: Said) -> Posterior:
    """The posterior with every class a candidate."""
    classes = channel.candidates(scores, said, K)
    return channel.read([View("text", np.take_along_axis(scores, classes, 1), SCALES)], classes, said, ROOTS)


def test_labels_are_put_right_and_the_rate_is_found() -> None:
    """More labels are right than before, and more than the evidence alone gets right."""
    true, scores, said = world()
    found = read(scores, said)
    right = (found.best == true).mean()
    assert right > (said.label == true).mean() + 0.08 and right > (scores.argmax(1) == true).mean() + 0.08
    assert found.rate == pytest.approx((said.label != true).mean(), abs=0.04)
    np.testing.assert_allclose(found.p.sum(1), 1)


def test_a_careless_seller_is_doubted_sooner() -> None:
    """On right labels as well: the record of the other listings counts."""
    true, scores, said = world()
    found, right = read(scores, said), said.label == true
    careless = said.seller % 4 == 0
    assert found.wrong[right & careless].mean() > 3 * found.wrong[right & ~careless].mean()
    nobody = read(scores, Said(said.label, np.full(len(true), -1), said.truth))
    assert (found.best == true).mean() > (nobody.best == true).mean()


def test_what_moderators_decided_stands_and_its_own_row_is_judged_without_it() -> None:
    """p is certain of it; unseen is what it would have been."""
    true, scores, said = world()
    truth = np.where(np.arange(len(true)) % 5 == 0, true, -1)
    found = read(scores, Said(said.label, said.seller, truth))
    decided = truth >= 0
    assert (found.best[decided] == true[decided]).all() and found.p[decided].max(1).min() == 1
    other = np.where(np.arange(len(true)) == 0, (true + 1) % K, truth)
    changed = read(scores, Said(said.label, said.seller, other))
    np.testing.assert_allclose(changed.unseen[0], found.unseen[0], atol=0.02)


def test_where_moderators_found_every_label_right_nothing_is_repaired() -> None:
    """They were asked where something looked wrong: weak evidence against right labels is the evidence's fault."""
    true, _, _ = world()
    scores = np.random.default_rng(1).normal(0, 1, (len(true), K))
    scores[np.arange(len(true)), true] += 0.3
    truth = np.where(np.arange(len(true)) % 4 == 0, true, -1)
    found = read(scores, Said(true, np.full(len(true), -1), truth))
    assert found.rate < 0.02 and (found.best == true).all()


def test_unlabelled_rows_have_the_models_word_and_no_doubt() -> None:
    """They count in no rate."""
    _, scores, said = world()
    label = said.label.copy()
    label[:100] = -1
    found = read(scores, Said(label, said.seller, said.truth))
    assert (found.wrong[:100] == 0).all() and (found.best[:100] == scores[:100].argmax(1)).all()


def test_the_order_of_rows_changes_nothing() -> None:
    """Permuted rows give permuted results."""
    _, scores, said = world(300)
    order = np.random.default_rng(1).permutation(300)
    one, other = read(scores, said), read(scores[order], Said(said.label[order], said.seller[order], said.truth[order]))
    np.testing.assert_allclose(one.p[order], other.p, atol=1e-9)


def test_candidates_hold_what_was_said_and_decided() -> None:
    """Whatever the scores; each class once."""
    scores = np.tile(np.arange(K, dtype=float), (3, 1))
    classes = channel.candidates(scores, Said(np.array([0, 5, -1]), np.full(3, -1), np.array([1, -1, -1])), 3)
    assert classes.tolist() == [[0, 1, 5], [3, 4, 5], [3, 4, 5]]


@pytest.mark.parametrize(
    ("change", "words"),
    [("nan", "view text is not finite in 1 rows, first [7]"), ("shape", "give one row each"), ("missing", "is not among")],
)
def test_what_does_not_fit_is_refused(change: str, words: str) -> None:
    """With the rows named."""
    _, scores, said = world(50)
    classes = channel.candidates(scores, said, K)
    if change == "nan":
        scores[7, 2] = np.nan
    view = View("text", scores[:-1] if change == "shape" else scores, SCALES)
    with pytest.raises(InputError, match=words.replace("[", r"\[")):
        channel.read([view], np.zeros_like(classes) + 3 if change == "missing" else classes, said, ROOTS)


def test_one_class_and_no_rows_are_no_error() -> None:
    """Nothing can be confused."""
    said = Said(np.zeros(4, int), np.full(4, -1), np.full(4, -1))
    alone = channel.read([View("text", np.zeros((4, 1)), SCALES)], np.zeros((4, 1), int), said, np.zeros(1, int))
    assert alone.best.tolist() == [0] * 4 and alone.wrong.max() < 1e-9
    none = Said(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    empty = channel.read([View("text", np.zeros((0, 2)), SCALES)], np.zeros((0, 2), int), none, np.zeros(2, int))
    assert empty.rate == 0 and len(empty.best) == 0
