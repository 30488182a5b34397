"""SELFIE beside what its authors' code computes, and the look-ups that make it cheap."""

import numpy as np
import pytest
import torch

from tests.benchmarks.refurbish_step import CPU, Correcter, World, agree
from trainer.config import TrainConfig
from trainer.objective import BLOCK, MIN_BLOCKS, largest, most_probable
from trainer.selfie import EMPTY, History


@pytest.mark.parametrize("n_classes", [2, 5, 10, 200, 14_000])
@pytest.mark.parametrize("q", [1, 2, 5, 15])
def test_certainty_is_the_authors_to_the_last_bit(n_classes: int, q: int) -> None:
    """Mode and entropy / log K of full histories, from unanimous ones to those that name q classes."""
    rng = np.random.default_rng(q)
    n_named = rng.integers(1, min(n_classes, q) + 1, 100)
    chosen = [rng.choice(rng.choice(n_classes, n, replace=False), q) for n in n_named]
    history = History(100, n_classes, q, CPU, n_classes)
    history.ring[:] = torch.from_numpy(np.array(chosen)).to(history.ring)
    correcter = Correcter(np.array(chosen), n_classes, 0.05)
    modes, entropies = history.certainty(torch.arange(100))
    assert [*zip(modes.tolist(), entropies.tolist(), strict=True)] == [correcter.certainty(row) for row in range(100)]


@pytest.mark.parametrize("n_classes", [3, 10, 1000])
def test_the_same_rows_are_refurbished_and_left_out(n_classes: int) -> None:
    """As by the authors' code, after one more prediction each."""
    assert agree(World.of(n_classes), TrainConfig(recipe="selfie", selfie_history=15))


def test_a_history_that_is_not_full_is_never_certain() -> None:
    """Empty entries are no class, however many there are."""
    history = History(4, 10, 3, CPU)
    history.ring[1, 2] = history.ring[2, 1] = history.ring[2, 2] = 0
    history.ring[3] = 0
    assert history.certainty(torch.arange(4))[1].tolist() == [1, 1, 1, 0]
    assert (history.certainty(torch.arange(4))[0] == 0).all() and (history.ring[0] == EMPTY).all()


@pytest.mark.parametrize("n_columns", [8, BLOCK * MIN_BLOCKS - 1, BLOCK * MIN_BLOCKS, BLOCK * MIN_BLOCKS + 1, 14_000])
def test_the_largest_are_those_of_a_plain_top_k(n_columns: int) -> None:
    """In blocks too, wherever they stand, and with ties."""
    rng = np.random.default_rng(n_columns)
    values = torch.from_numpy(rng.normal(size=(20, n_columns))).float()
    values[10:] = torch.from_numpy(rng.integers(40, size=(10, n_columns))).float()
    values[0, -8:] = values[1, :8] = 9.0
    found, at = largest(values, 8)
    assert torch.equal(found, values.topk(8, 1).values) and torch.equal(values.gather(1, at), found)
    assert all(len(set(row)) == 8 for row in at.tolist())
    assert torch.equal(most_probable(values[2:10]), values[2:10].argmax(1))
