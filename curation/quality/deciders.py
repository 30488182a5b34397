"""Whose decisions a model contradicts far more often than everybody else's: careless work, a misread rule, or sabotage.

Moderators' decisions are what models learn from most and what the gate judges them by, so that one person who is wrong on
purpose could teach a model an error and have it approved. Out-of-sample predictions are somebody who looks at the listings
without that interest: people who work through the same queue agree with them about equally often.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

MIN_DECIDED = 10
"""Decisions of one person, and of all others, before they are compared."""

RISK = 0.001
"""Chance that anybody is named of people who are equally good (Fisher's exact test, Bonferroni over people)."""

MAX_RATIO = 0.5
"""Only who agrees less than half as often as the others is named: who is given the hard listings agrees less, but not so much."""


@dataclass(frozen=True, slots=True)
class Decider:
    """A person, by the listings that nobody else decided with them."""

    name: str
    n: int
    n_agreed: int  #: with the out-of-sample prediction
    others_n: int
    others_agreed: int

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"{self.name} agrees with the model on {self.n_agreed} of {self.n} listings that they decided alone, "
            f"others on {self.others_agreed} of {self.others_n}"
        )


def outliers(names: Sequence[str | None], agrees: NDArray[np.bool_]) -> tuple[Decider, ...]:
    """Who is contradicted far more than the others, by name.

    names : (N,) who alone decided each listing, None = nobody, or several; agrees : (N,) whether the prediction is the same.
    """
    who = np.array([name or "" for name in names], np.str_)
    people = sorted(set(who.tolist()) - {""})
    decided = who != ""
    found = []
    for name in people:
        mine, rest = agrees[who == name], agrees[decided & (who != name)]
        one = Decider(name, len(mine), int(mine.sum()), len(rest), int(rest.sum()))
        if min(one.n, one.others_n) >= MIN_DECIDED and _is_outlier(one, len(people)):
            found.append(one)
    return tuple(found)


def _is_outlier(one: Decider, n_people: int) -> bool:
    if one.n_agreed * one.others_n >= MAX_RATIO * one.others_agreed * one.n:
        return False
    table = [[one.n_agreed, one.n - one.n_agreed], [one.others_agreed, one.others_n - one.others_agreed]]
    return bool(fisher_exact(table, alternative="less").pvalue < RISK / n_people)
