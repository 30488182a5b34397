"""Random draws for the sample catalog: one stream a purpose and row, the same on every machine."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Dice(Random):
    """Python's Mersenne Twister: scalar draws are several times faster than numpy's."""

    @classmethod
    def of(cls, *key: Any) -> Self:
        """The stream named by `key`. Strings seed through SHA-512, not through Python's salted hash()."""
        return cls("/".join(map(str, key)))

    def hit(self, chance: float) -> bool:
        """True with this probability."""
        return self.random() < chance

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """One option; weights need not sum to 1."""
        return self.choices(options, weights)[0]

    def lognormal(self, median: float, spread: float) -> float:
        """`spread`: standard deviation of the natural logarithm."""
        return median * math.exp(self.gauss(0.0, spread))

    def systematic(self, weights: Sequence[float], n: int) -> Iterator[int]:
        """n indices in rising order, each drawn in proportion to its weight.

        Systematic sampling: an index expected m times comes floor(m) or ceil(m) times, and at most
        once where its share is below 1 / n. So sizes hold in every block, not only on average.
        """
        ends = list(accumulate(weights))
        step, index = ends[-1] / n if n else 0.0, 0
        offset = self.random()
        for at in range(n):
            while ends[index] <= (at + offset) * step and index < len(ends) - 1:
                index += 1
            yield index
