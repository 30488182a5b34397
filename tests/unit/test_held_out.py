"""Out-of-sample probabilities of which only the largest were kept: what is exact, what is not, what is refused."""

import dataclasses

import numpy as np
import pytest

from curation.errors import ProbabilityError
from curation.quality.held_out import (
    SparseOutOfSample,
    check_sparse,
    dense,
    n_guessed,
    of_refs,
    relabelled,
    renamed,
    sparse,
    store_of,
)
from curation.quality.issues import find_category_issues
from curation.quality.sparse import TopK
from curation.quality.validate import OutOfSample


def made(n: int = 200, k: int = 30, top: int = 5) -> tuple[OutOfSample, np.ndarray, SparseOutOfSample]:
    """Dense probabilities, labels of which a tenth are missing, and the sparse form."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(k, 0.2), n).astype(np.float32)
    labels = np.where(rng.random(n) < 0.1, -1, rng.integers(k, size=n))
    folds = np.arange(n) % 3
    oos = OutOfSample(probs, tuple(f"c{i}" for i in range(k)), tuple(f"r{i}" for i in range(n)), folds)
    return oos, labels, sparse(oos, labels, top)


def test_the_kept_probabilities_and_that_of_the_label_are_exact() -> None:
    """The others share what is left; every row sums to 1."""
    oos, labels, kept = made()
    again = dense(kept).pred_probs
    rows = np.flatnonzero(labels >= 0)
    assert again[rows, labels[rows]] == pytest.approx(oos.pred_probs[rows, labels[rows]], abs=1e-5)
    assert (again.argmax(axis=1) == oos.pred_probs.argmax(axis=1)).all()
    assert again.sum(axis=1) == pytest.approx(1) and np.abs(again - oos.pred_probs).max() < 0.2


def test_all_classes_kept_is_the_dense_form() -> None:
    """Nothing is lost with k = K."""
    oos, labels, _ = made()
    assert dense(sparse(oos, labels, 30)).pred_probs == pytest.approx(oos.pred_probs, abs=1e-6)


def test_new_labels_are_exact_among_the_kept_and_counted_elsewhere() -> None:
    """What moderators say is mostly among the largest; a probability never rises above the last kept one."""
    oos, _, kept = made()
    new = oos.pred_probs.argmax(axis=1)
    new[:20] = np.argsort(oos.pred_probs[:20], axis=1)[:, 3]
    store = relabelled(kept.store, new)
    assert store.p_given[20:] == pytest.approx(oos.pred_probs.max(axis=1)[20:])
    assert n_guessed(kept.store, new) == 20 - (kept.store.labels[:20] == new[:20]).sum()
    assert (store.p_given[:20] <= store.p[:20, -1]).all()
    store.check()


def test_unchanged_labels_are_as_they_were_and_lost_ones_have_none() -> None:
    """A label taken back leaves probability 0, as the store asks for."""
    oos, labels, kept = made()
    same = store_of(kept, labels)
    assert (same.p_given == TopK.of(oos.pred_probs, labels, 5).p_given).all()
    assert not relabelled(kept.store, np.full(200, -1)).p_given.any()


def test_issues_of_both_forms_agree() -> None:
    """Decisions hang on the largest probabilities."""
    oos, labels, _ = made(n=2000)
    both = [find_category_issues(labels, form).is_issue for form in (oos, sparse(oos, labels))]
    assert (both[0] == both[1]).all() and both[0].any()


def test_in_sample_rows_wrong_names_and_wrong_labels_are_refused() -> None:
    """As with dense ones."""
    _, labels, kept = made()
    with pytest.raises(ProbabilityError, match=r"1 rows are in-sample \(r4\)"):
        check_sparse(dataclasses.replace(kept, folds=np.where(np.arange(200) == 4, -1, 0)))
    with pytest.raises(ProbabilityError, match="30 classes but classes are 29"):
        check_sparse(dataclasses.replace(kept, classes=kept.classes[:29]))
    with pytest.raises(ProbabilityError, match="refs 199"):
        check_sparse(dataclasses.replace(kept, refs=kept.refs[:199]))
    with pytest.raises(ProbabilityError, match=r"1 labels are outside -1\.\.29"):
        check_sparse(kept, np.where(np.arange(200) == 7, 30, labels))


def test_a_table_that_would_not_fit_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do instead."""
    _, _, kept = made()
    monkeypatch.setattr("curation.quality.held_out.TABLE_CELLS", 5999)
    with pytest.raises(ProbabilityError, match="200 rows of 30 classes do not fit"):
        dense(kept)


def test_renamed_classes_keep_their_form_and_merged_ones_are_added_up() -> None:
    """A merge needs the table, which a sparse store is filled up to."""
    oos, _, kept = made(top=30)
    again = renamed(kept, {"c0": "new"})
    assert isinstance(again, SparseOutOfSample) and again.classes[0] == "new"
    merged = [renamed(form, {"c1": "c0"}) for form in (oos, kept)]
    assert [form.classes[:2] for form in merged] == [("c0", "c2")] * 2
    store = store_of(merged[1], np.zeros(200, dtype=int))
    assert store.p_given == pytest.approx(oos.pred_probs[:, :2].sum(axis=1), abs=1e-5)


def test_some_rows_of_either_form() -> None:
    """In their order, with their folds."""
    oos, _, kept = made()
    for form in (oos, kept):
        part = of_refs(form, {"r7", "r3", "gone"})
        assert (part.refs, part.folds.tolist()) == (("r3", "r7"), [0, 1])
