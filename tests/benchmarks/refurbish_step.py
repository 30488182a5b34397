"""What refurbishing adds to a training step: milliseconds per 128 rows on one processor thread.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.refurbish_step

Beside SELFIE stands what its authors' code does, written anew from its description: a dictionary and a vector of all classes
a row. Predictions and losses are given, as the forward pass leaves them; what it takes to read them off a row of K
probabilities is shown apart. Medians of many repeats, done in turns, and in brackets their fastest tenth:
what a quiet machine needs. Histories of 15 predictions.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.console import table
from trainer.config import TrainConfig
from trainer.data import Wanted
from trainer.objective import largest, most_probable
from trainer.refurbish import Largest, Memory, Targets
from trainer.selfie import History, Selfie

N_ROWS = 128
N_LISTINGS = 20_000
Q = 15
CPU = torch.device("cpu")
BAR_MS = 0.1


class Correcter:
    """SELFIE's bookkeeping row by row: O(B K). Histories start as the class 0 there; here they are given full."""

    def __init__(self, histories: NDArray[np.integer], n_classes: int, threshold: float) -> None:
        self.histories = {row: history.astype(np.int64) for row, history in enumerate(histories)}
        self.n_seen = dict.fromkeys(self.histories, 0)
        self.n_classes, self.threshold = n_classes, threshold

    def record(self, rows: list[int], predicted: list[int]) -> None:
        """The newest prediction takes the place of the oldest one."""
        for row, one in zip(rows, predicted, strict=True):
            self.histories[row][self.n_seen[row] % len(self.histories[row])] = one
            self.n_seen[row] += 1

    def certainty(self, row: int) -> tuple[int, float]:
        """The most frequent class and entropy / log K, over a vector of all classes."""
        counts: dict[int, int] = {}
        for one in self.histories[row]:
            counts[one] = counts.get(one, 0) + 1
        share = np.zeros(self.n_classes)
        for name, count in counts.items():
            share[name] = float(count) / float(len(self.histories[row]))
        total = 0.0
        for at in range(self.n_classes):
            if share[at] != 0:
                total += share[at] * np.log(share[at])
        return int(np.argmax(share)), float(-total / -np.log(1.0 / self.n_classes))

    def clean(self, rows: list[int], losses: list[float], noise: float) -> set[int]:
        """The rows with the smallest losses."""
        ordered = sorted(zip(rows, losses, strict=True), key=lambda pair: pair[1])
        return {row for row, _ in ordered[: math.ceil(len(rows) * (1.0 - noise))]}

    def chosen(self, rows: list[int], given: list[int], losses: list[float], noise: float) -> dict[int, int]:
        """The label to learn from, of the refurbishable and the clean rows."""
        found = {}
        clean = self.clean(rows, losses, noise)
        for row, label in zip(rows, given, strict=True):
            mode, entropy = self.certainty(row)
            if entropy <= self.threshold:
                found[row] = mode
            elif row in clean:
                found[row] = label
        return found


@dataclass(frozen=True)
class World:
    """One batch in the middle of a fit, of a catalog of K classes."""

    n_classes: int
    histories: NDArray[np.int64]
    wanted: Wanted
    predicted: Tensor
    losses: Tensor
    log_probs: Tensor

    @classmethod
    def of(cls, n_classes: int, seed: int = 1) -> "World":
        """Two of three histories agree with themselves."""
        rng = np.random.default_rng(seed)
        histories = np.repeat(rng.integers(n_classes, size=(N_LISTINGS, 1)), Q, 1)
        varied = rng.random(histories.shape) < 0.3 * (rng.random((N_LISTINGS, 1)) < 1 / 3)
        histories[varied] = rng.integers(n_classes, size=varied.sum())
        rows = torch.from_numpy(rng.choice(N_LISTINGS, N_ROWS, replace=False))
        classes = torch.from_numpy(rng.integers(n_classes, size=N_ROWS))
        log_probs = torch.log_softmax(torch.from_numpy(rng.normal(0, 3, (N_ROWS, n_classes))).float(), 1)
        wanted = Wanted(rows, classes, torch.ones(N_ROWS), torch.zeros(N_ROWS, dtype=torch.bool))
        return cls(n_classes, histories, wanted, log_probs.argmax(1), torch.from_numpy(rng.random(N_ROWS)).float(), log_probs)


def selfie(world: World, config: TrainConfig) -> Selfie:
    """SELFIE after its warm-up, without a table."""
    found = Selfie.__new__(Selfie)
    found.config, found.epoch, found.noise = config, config.selfie_warmup + 1, 0.2
    found.history = History(N_LISTINGS, world.n_classes, Q, CPU, world.n_classes)
    found.history.ring[:] = torch.from_numpy(world.histories).to(found.history.ring)
    return found


def targets(n_classes: int) -> Targets:
    """Eight classes a listing."""
    rng = np.random.default_rng(2)
    classes = rng.integers(n_classes - 8, size=(N_LISTINGS, 1)) + np.arange(8)
    return Targets(torch.from_numpy(classes).to(torch.int16), torch.full(classes.shape, 1 / 8, dtype=torch.float16))


def agree(world: World, config: TrainConfig) -> bool:
    """Whether both choose the same rows and the same labels for them."""
    ours, theirs = selfie(world, config), Correcter(world.histories, world.n_classes, config.selfie_certainty)
    rows, given = world.wanted.rows.tolist(), world.wanted.classes.tolist()
    theirs.record(rows, world.predicted.tolist())
    labels, used = ours.refurbish(world.wanted, world.predicted, world.losses)
    pairs = zip(rows, labels.tolist(), used.tolist(), strict=True)
    return theirs.chosen(rows, given, world.losses.tolist(), ours.noise) == {row: label for row, label, kept in pairs if kept}


def authors(world: World, config: TrainConfig) -> Callable[[], object]:
    """A step of the authors' way."""
    correcter = Correcter(world.histories, world.n_classes, config.selfie_certainty)
    rows, given, losses = world.wanted.rows.tolist(), world.wanted.classes.tolist(), world.losses.tolist()
    predicted = world.predicted.tolist()

    def step() -> object:
        correcter.record(rows, predicted)
        return correcter.chosen(rows, given, losses, 0.2)

    return step


def steps(world: World) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    config = TrainConfig(recipe="selfie", selfie_history=Q)
    ours, looked_up = selfie(world, config), targets(world.n_classes)
    memory, largest_few = Memory(looked_up.classes, 0.5), Largest(N_LISTINGS, world.n_classes, 0.5, CPU)
    rows, log_probs, probs = world.wanted.rows, world.log_probs, world.log_probs.exp()
    k = memory.p.shape[1]
    return {
        "default: look up the targets": lambda: looked_up.of_rows(rows),
        "… early learning: update the memory": lambda: memory.update(rows, log_probs),
        "SELFIE: record, certainty, clean": lambda: ours.refurbish(world.wanted, world.predicted, world.losses),
        "… record": lambda: ours.history.record(rows, world.predicted),
        "… certainty": lambda: ours.history.certainty(rows),
        "SELFIE, authors' way": authors(world, config),
        "the predictions: argmax over K": lambda: most_probable(world.log_probs),
        "… torch.argmax": lambda: world.log_probs.argmax(1),
        "early learning where nothing names candidates": lambda: largest_few.update(rows, log_probs),
        "… of it the 8 largest of K": lambda: largest(probs, k),
        "… torch.topk": lambda: probs.topk(k, 1),
        "… to look once at each of K": lambda: probs.amax(1),
    }


def milliseconds(timed: dict[str, Callable[[], object]], seconds: float) -> dict[str, str]:
    """Median of each and, in brackets, the fastest tenth: in turns, so that a busy moment falls on all of them."""
    spent: dict[str, list[float]] = {name: [] for name in timed}
    ends_s = time.perf_counter() + seconds
    while time.perf_counter() < ends_s or len(next(iter(spent.values()))) < 5:
        for name, step in timed.items():
            for _ in range(1 if name == "SELFIE, authors' way" else 5):
                began_s = time.perf_counter()
                step()
                spent[name].append((time.perf_counter() - began_s) * 1000)
    return {name: "{:.3f} ({:.3f})".format(*np.quantile(values, [0.5, 0.1])) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1000, 14_000])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of classes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    worlds = [World.of(n_classes) for n_classes in options.classes]
    config = TrainConfig(recipe="selfie", selfie_history=Q)
    found = [milliseconds(steps(world), options.seconds) for world in worlds]
    rows = [(name, *(one[name] for one in found)) for name in found[0]]
    print(f"milliseconds per {N_ROWS} rows, one thread, median (fastest tenth); the bar of a refurbish step is {BAR_MS} ms")
    print(table(rows, ("", *(f"{n_classes:,} classes" for n_classes in options.classes))))
    print("SELFIE and the authors' way choose the same:", ", ".join("yes" if agree(world, config) else "NO" for world in worlds))
    sizes = [(History(1, n, Q, CPU), Largest(1, n, 0.5, CPU)) for n in options.classes]
    bytes_of = [(h.ring.nbytes, m.classes.nbytes + m.p.nbytes) for h, m in sizes]
    print("bytes a listing, SELFIE and early learning:", ", ".join(f"{one} and {other}" for one, other in bytes_of))


if __name__ == "__main__":
    main()
