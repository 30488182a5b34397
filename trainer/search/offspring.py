"""Cells bred from a race's best: each differs from its parent in one edge or in the read-out.

Evolution by mutation alone (Real et al., Regularized Evolution for Image Classifier Architecture Search, AAAI 2019), in the
few steps that can be paid for close to a local search (White, Nolen and Savani, UAI 2021).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.search.branch import Design
from trainer.search.cells import Genotype, mutated
from trainer.search.race import Entry

BRED = "bred"
"""Kind of these designs; a number follows it."""


@dataclass(slots=True)
class Offspring:
    """Joins a race's last rung, in rounds: the parents of a round are the best of those before it."""

    designs: dict[str, Design]
    """The race's field; what joins is added to it."""

    rng: np.random.Generator
    n_left: int
    """Cells that may join."""

    n_parents: int = 2
    """Of a round, each with one child."""

    n_joined: int = 0

    def __call__(self, entries: Sequence[Entry]) -> dict[str, Design]:
        """The next round by name; none when all have joined, or no cell's training came to an end."""
        told = sorted((entry for entry in entries if math.isfinite(entry.loss)), key=lambda entry: (-entry.score, entry.loss))
        trained = [design for design in (self.designs[entry.name] for entry in told) if isinstance(design, Genotype)]
        joining: dict[str, Design] = {}
        for parent in trained[: min(self.n_parents, self.n_left)]:
            joining[f"{BRED} {self.n_joined + len(joining) + 1}"] = self._child(
                parent, [*self.designs.values(), *joining.values()]
            )
        self.n_left, self.n_joined = self.n_left - len(joining), self.n_joined + len(joining)
        self.designs |= joining
        return joining

    def _child(self, parent: Genotype, known: Sequence[Design]) -> Genotype:
        child = mutated(parent, self.rng)
        while child in known:
            child = mutated(child, self.rng)
        return child
