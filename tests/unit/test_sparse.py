"""The top-k store: what it keeps of dense probabilities, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality.sparse import TopK, index_type


def softmax(n: int, k: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities of a model that is sometimes right, and labels."""
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(k, size=n), 2 * rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 2
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), labels


def test_the_largest_probabilities_are_kept_in_falling_order() -> None:
    """Two thousand rows of a thousand classes: several chunks, and all of it what sorting whole rows would give."""
    probs, labels = softmax(2000, 1000)
    store = TopK.of(probs, labels)
    order = np.argsort(-probs, axis=1, kind="stable")[:, :10]
    assert (store.idx == order).all() and store.idx.dtype == np.uint16
    assert (store.p == np.take_along_axis(probs, order, axis=1)).all()


def test_equal_probabilities_are_taken_by_column() -> None:
    """So that the first of the kept ones is what argmax would say."""
    store = TopK.of(np.full((3, 50), 0.02), np.zeros(3, dtype=int), k=4)
    assert store.idx.tolist() == [[0, 1, 2, 3]] * 3


def test_the_given_label_keeps_its_exact_probability_wherever_it_ranks() -> None:
    """Also outside the top-k; an unlabelled row stays and has none."""
    probs, labels = softmax(300, 40)
    labels[:5] = -1
    store = TopK.of(probs, labels, k=2)
    assert (store.p_given[5:] == probs[np.arange(5, 300), labels[5:]]).all()
    assert len(store) == 300 and not store.p_given[:5].any()
    store.check()


def test_a_memory_map_is_read_in_chunks(tmp_path: Path) -> None:
    """The file gives the same store as the array."""
    probs, labels = softmax(2000, 900)
    mapped = np.memmap(tmp_path / "probs", dtype=np.float32, mode="w+", shape=probs.shape)
    mapped[:] = probs
    stores = TopK.of(mapped, labels), TopK.of(probs, labels)
    assert (stores[0].idx == stores[1].idx).all() and (stores[0].p == stores[1].p).all()


def test_parts_join_and_rows_are_replaced() -> None:
    """A store built in two parts, or written row by row, is the store built at once."""
    probs, labels = softmax(100, 12)
    whole = TopK.of(probs, labels, k=3)
    joined = TopK.concatenate([TopK.of(probs[:40], labels[:40], k=3), TopK.of(probs[40:], labels[40:], k=3)])
    written = TopK.empty(100, 12, k=3)
    written.write(np.arange(99, -1, -1), whole.take(np.arange(99, -1, -1)))
    for store in (joined, written):
        assert (store.idx == whole.idx).all() and (store.p_given == whole.p_given).all()


@pytest.mark.parametrize("k", [2, 5, 12])
def test_the_best_other_class_is_that_of_the_dense_row(k: int) -> None:
    """The given label is left out of the comparison."""
    probs, labels = softmax(200, 12)
    best, p_best = TopK.of(probs, labels, k=k).best_other()
    probs[np.arange(200), labels] = -1
    assert (best == probs.argmax(axis=1)).all() and (p_best == probs.max(axis=1)).all()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([np.nan, 0.5, 0.5], "hold NaN or infinity"),
        ([np.inf, 0, 0], "hold NaN or infinity"),
        ([np.inf, -np.inf, 0], "hold NaN or infinity"),
        ([-0.5, 0.5, 1.0], r"outside \[0, 1\]"),
        ([0, 0, 0], "are all zero"),
        ([0.3, 0.3, 0.3], "do not sum to 1"),
    ],
)
def test_rows_that_are_no_probabilities_are_refused_by_name(row: list[float], reason: str) -> None:
    """Dense ones as they come in, and kept ones when they are checked."""
    probs, labels = softmax(9, 3)
    store = TopK.of(probs, labels)
    probs[[4, 7]] = row
    with pytest.raises(ProbabilityError, match=rf"2 rows of pred_probs .*{reason}.*\[4, 7\]"):
        TopK.of(probs, labels)
    store.p[4] = row
    with pytest.raises(ProbabilityError, match=rf"top-k store .*{reason}.*\[4\]"):
        store.check()


def test_rows_are_named_by_their_place_in_the_whole_array() -> None:
    """Not by that in their chunk."""
    probs, labels = softmax(2000, 900)
    probs[[3, 1990]] = np.nan
    with pytest.raises(ProbabilityError, match=r"\[3, 1990\]"):
        TopK.of(probs, labels)


@pytest.mark.parametrize("label", [-2, 3])
def test_labels_outside_the_classes_are_refused(label: int) -> None:
    """-1 is the only stand-in for no label."""
    probs, labels = softmax(9, 3)
    labels[2] = label
    with pytest.raises(ProbabilityError, match=r"first rows \[2\]"):
        TopK.of(probs, labels)


def test_what_a_model_wrote_by_itself_is_checked() -> None:
    """A row nobody wrote, a class too many or twice, a wrong order, a label's probability that contradicts the row."""
    probs, labels = softmax(5, 9)
    good = TopK.of(probs, labels, k=3)
    bad = {
        "are all zero": TopK.empty(5, 9, k=3),
        "outside the store's": replace(good, idx=good.idx + np.uint16(9)),
        "twice": replace(good, idx=np.zeros_like(good.idx)),
        "not sorted": replace(good, p=good.p[:, ::-1].copy()),
        "label outside": replace(good, labels=good.labels + np.int32(9)),
        "that cannot be": replace(good, p_given=np.ones(5, dtype=np.float32)),
    }
    for reason, store in bad.items():
        with pytest.raises(ProbabilityError, match=reason):
            store.check()


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    """Shapes, types and k."""
    probs, labels = softmax(5, 9)
    good = TopK.of(probs, labels, k=3)
    for change in ({"p": good.p[:4]}, {"p": good.p.astype(np.float16)}, {"n_classes": 2}, {"idx": good.idx.astype(np.int64)}):
        with pytest.raises(ProbabilityError):
            replace(good, **change)
    with pytest.raises(ProbabilityError, match="at least two"):
        TopK.of(probs, labels, k=1)
    with pytest.raises(ProbabilityError, match="do not fit"):
        good.write(slice(0, 5), TopK.of(probs, labels, k=4))
    with pytest.raises(ProbabilityError, match="cannot be joined"):
        TopK.concatenate([good, TopK.of(probs, labels, k=4)])
    with pytest.raises(ProbabilityError, match="floats"):
        TopK.of(np.ones((3, 1), dtype=int), np.zeros(3, dtype=int))


@pytest.mark.parametrize(("n", "k"), [(0, 3), (4, 1)])
def test_no_rows_and_a_single_class_are_stores_too(n: int, k: int) -> None:
    """There is no other class than the only one."""
    store = TopK.of(np.ones((n, k)) / k, np.zeros(n, dtype=int))
    store.check()
    assert store.best_other()[1].tolist() == [0.0] * n


def test_indices_are_as_small_as_the_classes_allow() -> None:
    """Two bytes up to 65,536 classes."""
    assert index_type(2**16) == np.uint16 and index_type(2**16 + 1) == np.uint32
