"""Whether searching pays where order and distance of words matter: `refurbish search` beside random cells at the same cost.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.search_race --seeds 11 12 13 14 15

A planted task: each title holds two words of one of four topics among Zipf distributed others, one of either kind of its
topic, at the topic's own distance, from 1 to 12 tokens. Which kind comes first is asked. Most titles hold a second pair of
their topic in the other order, at another topic's distance, so that order says nothing without distance. *Ours* is what
`refurbish search` does: differentiable searches, then a race of their cells, random ones, pooling and a TextCNN, with
breeding. *Random* is a race of random cells that other random ones join until it has spent ours' processor seconds.
*Found* is the first search's cell, without a race. Each race's choice by validation rows is trained anew from scratch for
longer, all with the same schedule, and judged on test rows. Errors are of the test rows, with a 95 % interval over seeds,
each a data set and a training of its own.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as field_of

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from curation.console import table
from trainer.search.branch import Design, Filters
from trainer.search.cells import Genotype, Skeleton, pool_and_skip, random_genotype
from trainer.search.config import SearchConfig, faithful
from trainer.search.examples import Examples
from trainer.search.loop import search
from trainer.search.offspring import Offspring
from trainer.search.race import Entry, Race, RaceConfig, field, race
from trainer.search.supernet import Space

N_WORDS, LENGTH, N_KEYS = 300, 32, 4
DISTANCES = (1, 3, 6, 12)
"""Of the two words, by topic."""

N_CLASSES = 2 * len(DISTANCES)
N_TRAIN, N_VALIDATION, N_TEST = 6_000, 1_000, 3_000
SKELETON = Skeleton(width=8, n_cells=3)
BATCH, DIM, RATE = 64, 32, 0.01
OURS, RANDOM, FOUND, ONE = "ours: search, race, breeding", "random, same cost", "found, without a race", "one random cell"
POOLS, TEXT_CNN, DARTS = "pool and skip", "TextCNN", "DARTS, first order, found"


def planted(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(n, LENGTH) words, 0 = padding, and (n,) classes: topic and order."""
    n_keys = N_CLASSES * N_KEYS
    weights = 1 / np.arange(1, N_WORDS - n_keys)
    tokens = rng.choice(np.arange(1 + n_keys, N_WORDS), (n, LENGTH), p=weights / weights.sum()).astype(np.int32)
    topic, is_swapped = rng.integers(0, len(DISTANCES), n), rng.integers(0, 2, n)
    other = (topic + rng.integers(1, len(DISTANCES), n)) % len(DISTANCES)
    distance, misleading = np.array(DISTANCES)[topic], np.array(DISTANCES)[other]
    first, decoy = rng.integers(0, LENGTH - distance), rng.integers(0, LENGTH - misleading)
    has_decoy = is_apart(first, distance, decoy, misleading)
    put(tokens, np.flatnonzero(has_decoy), topic, 1 - is_swapped, decoy, misleading, rng)
    put(tokens, np.arange(n), topic, is_swapped, first, distance, rng)
    ends = np.maximum(first + distance, np.where(has_decoy, decoy + misleading, 0)) + 1
    length = np.maximum(rng.integers(LENGTH // 2, LENGTH + 1, n), ends)
    tokens[np.arange(LENGTH)[None] >= length[:, None]] = 0
    return tokens, 2 * topic + is_swapped


def is_apart(
    first: NDArray[np.int64], distance: NDArray[np.int64], decoy: NDArray[np.int64], misleading: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(n,) where both pairs have places of their own, and no word of one has one of the other at the topic's distance."""
    last, end = first + distance, decoy + misleading
    is_free = (decoy != first) & (decoy != last) & (end != first) & (end != last)
    apart: NDArray[np.bool_] = is_free & (decoy + distance != first) & (end != last + distance)
    return apart


def put(
    tokens: NDArray[np.int32],
    rows: NDArray[np.int64],
    topic: NDArray[np.int64],
    is_swapped: NDArray[np.int64],
    first: NDArray[np.int64],
    distance: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Write a pair of their topic's words into these rows."""
    keys = 1 + N_KEYS * (2 * topic + np.arange(2)[:, None]) + rng.integers(0, N_KEYS, (2, len(topic)))
    pair = np.where(is_swapped, keys[::-1], keys)
    for word, at in zip(pair, (first, first + distance), strict=True):
        tokens[rows, at[rows]] = word[rows]


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

    def raced(
        self,
        designs: Mapping[str, Design],
        more: Callable[[Sequence[Entry]], Mapping[str, Design]] | None = None,
        *,
        final_steps: int = 0,
    ) -> Race:
        """By validation rows; finally all for `final_steps`, by test rows."""
        steps, n_rungs = (final_steps, 1) if final_steps else (self.steps, 2)
        seed = 100 * self.seed + 10 * bool(final_steps)
        config = RaceConfig(seed=seed, steps=steps, n_rungs=n_rungs, batch=BATCH, dim=DIM, rate=RATE)
        judges = self.test if final_steps else self.validation
        return race(designs, self.train, judges, n_ids=N_WORDS, n_classes=N_CLASSES, config=config, skeleton=SKELETON, more=more)

    def searched(self, config: SearchConfig, space: Space) -> tuple[Genotype, float]:
        """What one differentiable search found, and its processor seconds."""
        began_s = time.process_time()
        rows = self.train.tokens.numpy(), self.train.labels.numpy()
        found = search(*rows, n_ids=N_WORDS, n_classes=N_CLASSES, config=config, skeleton=SKELETON, space=space)
        return found.genotype, time.process_time() - began_s


@dataclass(slots=True)
class Latecomers:
    """Random cells that join a race's last rung until it has spent so many processor seconds."""

    rng: np.random.Generator
    least_s: float
    began_s: float = field_of(default_factory=time.process_time)
    n_joined: int = 0

    def __call__(self, entries: Sequence[Entry]) -> dict[str, Design]:
        """One more, or none when the seconds are spent."""
        if time.process_time() - self.began_s >= self.least_s:
            return {}
        self.n_joined += 1
        return {f"late {self.n_joined}": random_genotype(self.rng)}


def ours(world: World, options: argparse.Namespace) -> tuple[Chosen, Chosen, str]:
    """The first search's cell, the winner of the race, and the winner's name."""
    rng, spent = np.random.default_rng(world.seed), 0.0
    found = []
    for at in range(options.searches):
        config = SearchConfig(seed=10 * world.seed + at, epochs=options.epochs, batch=BATCH, dim=DIM, rate=RATE)
        cell, cpu_s = world.searched(config, Space())
        found.append(Chosen(cell, cpu_s))
        spent += cpu_s
    designs = field([one.design for one in found if isinstance(one.design, Genotype)], rng, n_random=options.first)
    began_s = time.process_time()
    raced = world.raced(designs, Offspring(dict(designs), rng, options.bred))
    return found[0], Chosen(raced.design, spent + time.process_time() - began_s), raced.winner


def rival(world: World, n_random: int, least_s: float) -> Chosen:
    """The best of random cells, in no less processor time."""
    rng, began_s = np.random.default_rng([world.seed, 1]), time.process_time()
    designs: dict[str, Design] = {f"random {at}": random_genotype(rng) for at in range(1, n_random + 1)}
    raced = world.raced(designs, Latecomers(rng, least_s))
    return Chosen(raced.design, time.process_time() - began_s)


def run(seed: int, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Test errors in percent, and processor seconds of finding, by row of the table."""
    world = World.of(seed, options.steps)
    found, best, winner = ours(world, options)
    choices = {
        OURS: best,
        RANDOM: rival(world, options.random, best.cpu_s),
        FOUND: found,
        ONE: Chosen(random_genotype(np.random.default_rng([seed, 2])), 0.0),
        POOLS: Chosen(pool_and_skip(), 0.0),
        TEXT_CNN: Chosen(Filters(), 0.0),
    }
    if options.darts:
        config, space = faithful(options.epochs, seed)
        choices[DARTS] = Chosen(*world.searched(replace(config, batch=BATCH, dim=DIM), space))
    final = world.raced({name: one.design for name, one in choices.items()}, final_steps=options.final)
    errors = {entry.name: 100 * (1 - entry.score) for entry in final.table}
    spent = {name: one.cpu_s for name, one in choices.items()}
    print(json.dumps({"seed": seed, "won": winner, "errors": errors, "cpu_s": spent}), file=sys.stderr, flush=True)
    return errors, spent


def interval(values: NDArray[np.float64]) -> str:
    """Mean and a 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--steps", type=int, default=160, help="of the first rung; the last is three times as long")
    parser.add_argument("--final", type=int, default=600, help="steps of the final trainings")
    parser.add_argument("--searches", type=int, default=2, help="differentiable searches of ours")
    parser.add_argument("--epochs", type=int, default=4, help="of each")
    parser.add_argument("--first", type=int, default=5, help="random cells in our race")
    parser.add_argument("--bred", type=int, default=2, help="cells that are bred, trained as long as the last rung")
    parser.add_argument("--random", type=int, default=14, help="cells that the random race begins with")
    parser.add_argument("--darts", action="store_true", help="DARTS as published as well, what it found without a race")
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
