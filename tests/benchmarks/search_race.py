"""Whether searching pays where the order of words matters: our search beside random cells at the same cost, and others.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.search_race --seeds 5

A planted task: each title holds one word of either of two kinds among Zipf distributed others. Which kind comes first, and
whether both stand together or far apart, makes four classes; a bag of words knows nothing of them. Ours: one search, then a
race of what it found against five random cells. *Random* gets as many more random cells as the processor time of the search
pays for. *DARTS* is the first-order search as published. Each choice is made on validation rows, trained anew from scratch
and judged on test rows, all with the same schedule. Errors are of the test rows, with a 95 % interval over seeds, each a
data set and a training of its own.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from curation.console import table
from trainer.search.branch import Design, Filters
from trainer.search.cells import Skeleton, pool_and_skip, random_genotype
from trainer.search.config import SearchConfig, faithful
from trainer.search.examples import Examples
from trainer.search.loop import search
from trainer.search.race import Race, RaceConfig, race
from trainer.search.supernet import Space

N_WORDS, LENGTH, N_KEYS = 400, 24, 8
NEAR, FAR = (1, 2), (5, 6, 7, 8)
N_TRAIN, N_VALIDATION, N_TEST = 4_000, 1_000, 4_000
SKELETON = Skeleton(width=8, n_cells=4)
N_RANDOM = 5
OURS, RANDOM, DARTS, POOLS, TEXT_CNN = "ours", "random cells, same cost", "DARTS, first order", "pool and skip", "TextCNN"


def planted(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(n, LENGTH) words, 0 = padding, and (n,) classes."""
    weights = 1 / np.arange(1, N_WORDS - 2 * N_KEYS)
    tokens = rng.choice(np.arange(1 + 2 * N_KEYS, N_WORDS), (n, LENGTH), p=weights / weights.sum()).astype(np.int32)
    is_swapped, is_far = rng.integers(0, 2, n), rng.integers(0, 2, n)
    distance = np.where(is_far, rng.choice(FAR, n), rng.choice(NEAR, n))
    first = rng.integers(0, LENGTH - distance)
    keys = 1 + rng.integers(0, N_KEYS, n), 1 + N_KEYS + rng.integers(0, N_KEYS, n)
    rows = np.arange(n)
    tokens[rows, first], tokens[rows, first + distance] = np.where(is_swapped, keys[::-1], keys)
    length = np.maximum(rng.integers(LENGTH // 2, LENGTH + 1, n), first + distance + 1)
    tokens[np.arange(LENGTH)[None] >= length[:, None]] = 0
    return tokens, 2 * is_swapped + is_far


@dataclass(frozen=True, slots=True)
class Chosen:
    """A design, and the processor seconds of finding it."""

    design: Design
    cpu_s: float


@dataclass(frozen=True, slots=True)
class World:
    """One data set."""

    seed: int
    train: Examples
    validation: Examples
    test: Examples
    steps: int

    @classmethod
    def of(cls, seed: int, steps: int) -> "World":
        """Drawn by this seed."""
        rng = np.random.default_rng(seed)
        train, validation, test = (
            Examples.of(*planted(n, rng), n_ids=N_WORDS, n_classes=4) for n in (N_TRAIN, N_VALIDATION, N_TEST)
        )
        return cls(seed, train, validation, test, steps)

    def raced(self, designs: Mapping[str, Design], *, is_final: bool = False) -> Race:
        """By validation rows; finally for longer, all to the end, by test rows."""
        steps, n_rungs = (10 * self.steps, 1) if is_final else (self.steps, 2)
        config = RaceConfig(seed=100 * self.seed + is_final, steps=steps, n_rungs=n_rungs)
        judges = self.test if is_final else self.validation
        return race(designs, self.train, judges, n_ids=N_WORDS, n_classes=4, config=config, skeleton=SKELETON)

    def searched(self, config: SearchConfig, space: Space) -> Chosen:
        """What one search found."""
        began_s = time.process_time()
        rows = self.train.tokens.numpy(), self.train.labels.numpy()
        found = search(*rows, n_ids=N_WORDS, n_classes=4, config=config, skeleton=SKELETON, space=space)
        return Chosen(found.genotype, time.process_time() - began_s)

    def best(self, designs: Mapping[str, Design]) -> Chosen:
        """The winner of a race."""
        began_s = time.process_time()
        winner = self.raced(designs).winner
        return Chosen(designs[winner], time.process_time() - began_s)


def run(seed: int, steps: int, epochs: int) -> tuple[dict[str, float], dict[str, float]]:
    """Test errors in percent, and processor seconds of finding, by row of the table."""
    world, rng = World.of(seed, steps), np.random.default_rng(seed)
    random = {f"random {at}": random_genotype(rng) for at in range(1, 40)}
    found = world.searched(SearchConfig(seed=seed, epochs=epochs, batch=128), Space())
    few = dict(list(random.items())[:N_RANDOM])
    ours = world.best({"found": found.design, **few})
    n_more = max(1, round(found.cpu_s / (ours.cpu_s / (N_RANDOM + 1))))
    config, space = faithful(epochs, seed)
    choices = {
        OURS: Chosen(ours.design, found.cpu_s + ours.cpu_s),
        "ours, found alone": found,
        RANDOM: world.best(dict(list(random.items())[: N_RANDOM + 1 + n_more])),
        "one random cell": Chosen(random["random 1"], 0.0),
        DARTS: world.searched(config, space),
        POOLS: Chosen(pool_and_skip(), 0.0),
        TEXT_CNN: Chosen(Filters(), 0.0),
    }
    final = world.raced({name: one.design for name, one in choices.items()}, is_final=True)
    errors = {entry.name: 100 * (1 - entry.score) for entry in final.table}
    return errors, {name: one.cpu_s for name, one in choices.items()}


def interval(values: NDArray[np.float64]) -> str:
    """Mean and a 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="of the first rung; finals are ten times as long")
    parser.add_argument("--epochs", type=int, default=10, help="of a search")
    options = parser.parse_args()
    found = [run(seed, options.steps, options.epochs) for seed in range(1, options.seeds + 1)]
    errors = {name: np.array([one[name] for one, _ in found]) for name in found[0][0]}
    spent = {name: np.mean([one[name] for _, one in found]) for name in errors}
    rows = [
        (
            name,
            interval(values),
            interval(values - errors[OURS]),
            " ".join(f"{value:.2f}" for value in values),
            f"{spent[name]:.0f}",
        )
        for name, values in sorted(errors.items(), key=lambda item: float(item[1].mean()))
    ]
    print(f"test errors in %, {options.seeds} seeds, {N_TEST:,} test rows each")
    print(table(rows, ("", "errors", "more than ours", "each seed", "CPU s to find")))
    print(f"pool and skip makes {errors[POOLS].mean() / max(errors[OURS].mean(), 1e-9):.1f} times the errors of ours (bar: 5)")


if __name__ == "__main__":
    main()
