"""Whether searching pays where the order of words matters: bred cells beside random ones at the same cost, and others.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.search_race --seeds 1 2 3 4 5

A planted task: each title holds two words of one of six topics among Zipf distributed others, one of either kind of its
topic, and each topic has a distance of its own between them, from 1 to 12 tokens. Which kind comes first is asked; a bag of
words knows the topic and nothing of the order, and a branch that does not reach so far errs on the far topics. *Ours* breeds
from the best of a race of random cells; *random* is a race of so many more of them that both take the same training steps.
*Partial channels* and *DARTS* are what one differentiable search found, without a race. What a race chooses by validation
rows is trained anew from scratch and judged on test rows, all with the same schedule. Errors are of the test rows, with a
95 % interval over seeds, each a data set and a training of its own.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from curation.console import table
from trainer.search.branch import Design, Filters
from trainer.search.cells import Skeleton, pool_and_skip, random_genotype
from trainer.search.config import SearchConfig, faithful
from trainer.search.examples import Examples
from trainer.search.loop import search
from trainer.search.offspring import Offspring
from trainer.search.race import Race, RaceConfig, race
from trainer.search.supernet import Space

N_WORDS, LENGTH, N_KEYS = 300, 32, 8
DISTANCES = (1, 2, 4, 6, 8, 12)
"""Of the two words, by topic."""

N_CLASSES = 2 * len(DISTANCES)
N_TRAIN, N_VALIDATION, N_TEST = 3_000, 1_000, 3_000
SKELETON = Skeleton(width=8, n_cells=3)
BATCH, DIM, RATE = 64, 32, 0.01
OURS, RANDOM, ONE, POOLS, TEXT_CNN = "ours, bred", "random, same cost", "one random cell", "pool and skip", "TextCNN"
PARTIAL, DARTS = "partial channels, found", "DARTS, first order, found"


def planted(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(n, LENGTH) words, 0 = padding, and (n,) classes: topic and order."""
    n_keys = N_CLASSES * N_KEYS
    weights = 1 / np.arange(1, N_WORDS - n_keys)
    tokens = rng.choice(np.arange(1 + n_keys, N_WORDS), (n, LENGTH), p=weights / weights.sum()).astype(np.int32)
    topic, is_swapped = rng.integers(0, len(DISTANCES), n), rng.integers(0, 2, n)
    distance = np.array(DISTANCES)[topic]
    first = rng.integers(0, LENGTH - distance)
    keys = 1 + N_KEYS * (2 * topic + np.arange(2)[:, None]) + rng.integers(0, N_KEYS, (2, n))
    rows = np.arange(n)
    tokens[rows, first], tokens[rows, first + distance] = np.where(is_swapped, keys[::-1], keys)
    length = np.maximum(rng.integers(LENGTH // 2, LENGTH + 1, n), first + distance + 1)
    tokens[np.arange(LENGTH)[None] >= length[:, None]] = 0
    return tokens, 2 * topic + is_swapped


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
            Examples.of(*planted(n, rng), n_ids=N_WORDS, n_classes=N_CLASSES) for n in (N_TRAIN, N_VALIDATION, N_TEST)
        )
        return cls(seed, train, validation, test, steps)

    def raced(self, designs: Mapping[str, Design], offspring: Offspring | None = None, *, is_final: bool = False) -> Race:
        """By validation rows; finally all for longer than any rung, by test rows."""
        steps, n_rungs = (5 * self.steps, 1) if is_final else (self.steps, 2)
        seed = 100 * self.seed + 10 * is_final
        config = RaceConfig(seed=seed, steps=steps, n_rungs=n_rungs, batch=BATCH, dim=DIM, rate=RATE)
        judges = self.test if is_final else self.validation
        return race(
            designs, self.train, judges, n_ids=N_WORDS, n_classes=N_CLASSES, config=config, skeleton=SKELETON, more=offspring
        )

    def searched(self, config: SearchConfig, space: Space) -> Chosen:
        """What one differentiable search found."""
        began_s = time.process_time()
        rows = self.train.tokens.numpy(), self.train.labels.numpy()
        found = search(*rows, n_ids=N_WORDS, n_classes=N_CLASSES, config=config, skeleton=SKELETON, space=space)
        return Chosen(found.genotype, time.process_time() - began_s)

    def best(self, designs: Mapping[str, Design], n_bred: int = 0) -> Chosen:
        """The winner of a race that so many bred cells join."""
        began_s = time.process_time()
        offspring = Offspring(dict(designs), np.random.default_rng(self.seed), n_bred)
        return Chosen(self.raced(designs, offspring).design, time.process_time() - began_s)


def run(seed: int, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Test errors in percent, and processor seconds of finding, by row of the table."""
    world, rng = World.of(seed, options.steps), np.random.default_rng(seed)
    random: dict[str, Design] = {f"random {at}": random_genotype(rng) for at in range(1, options.random + 1)}
    choices = {
        OURS: world.best(dict(list(random.items())[: options.first]), options.bred),
        RANDOM: world.best(random),
        ONE: Chosen(random["random 1"], 0.0),
        POOLS: Chosen(pool_and_skip(), 0.0),
        TEXT_CNN: Chosen(Filters(), 0.0),
    }
    if options.epochs:
        ours = SearchConfig(seed=seed, epochs=options.epochs, batch=BATCH, dim=DIM, rate=RATE)
        choices[PARTIAL] = world.searched(ours, Space())
        config, space = faithful(options.epochs, seed)
        choices[DARTS] = world.searched(replace(config, batch=BATCH, dim=DIM), space)
    final = world.raced({name: one.design for name, one in choices.items()}, is_final=True)
    errors = {entry.name: 100 * (1 - entry.score) for entry in final.table}
    spent = {name: one.cpu_s for name, one in choices.items()}
    print(json.dumps({"seed": seed, "errors": errors, "cpu_s": spent}), file=sys.stderr, flush=True)
    return errors, spent


def interval(values: NDArray[np.float64]) -> str:
    """Mean and a 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument(
        "--steps", type=int, default=70, help="of the first rung; the last is three times as long, finals five times"
    )
    parser.add_argument("--first", type=int, default=9, help="random cells that ours begins with")
    parser.add_argument("--bred", type=int, default=4, help="cells that are bred, trained as long as the last rung")
    parser.add_argument(
        "--random", type=int, default=15, help="random cells of the rival's race; 15 take the same steps as 9 and 4"
    )
    parser.add_argument("--epochs", type=int, default=8, help="of the differentiable searches; 0 = none")
    options = parser.parse_args()
    found = [run(seed, options) for seed in options.seeds]
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
    print(f"test errors in %, {len(options.seeds)} seeds, {N_TEST:,} test rows each")
    print(table(rows, ("", "errors", "more than ours", "each seed", "CPU s to find")))
    print(f"pool and skip makes {errors[POOLS].mean() / max(errors[OURS].mean(), 1e-9):.1f} times the errors of ours (bar: 5)")


if __name__ == "__main__":
    main()
