"""What a search tells: after each step, after each epoch, and at its end."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.search.cells import Genotype


@dataclass(frozen=True, slots=True)
class Progress:
    """After one step."""

    step: int  #: steps done
    n_steps: int
    weight_loss: float
    architecture_loss: float | None  #: None while the architecture weights rest
    left_s: float  #: seconds until the end at the pace so far, or of the budget
    n_seconds: float  #: since this run began


@dataclass(frozen=True, slots=True)
class Epoch:
    """After one pass over the first half."""

    epoch: int  #: from 1
    weight_loss: float  #: mean over the pass
    architecture_loss: float | None  #: mean over the pass; None while the architecture weights rest
    eigenvalue: float | None  #: largest of the Hessian of the architecture loss; None unless it is watched
    genotype: Genotype  #: derived at the end of the pass

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "genotype": self.genotype.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Epoch":
        """What `to_json` gave."""
        return cls(**{**values, "genotype": Genotype.from_json(values["genotype"])})


@dataclass(frozen=True, slots=True)
class Found:
    """What a run of the search ended with."""

    genotype: Genotype  #: of the epoch with the least architecture loss; before the eigenvalue rose, where it did
    epoch: int  #: the epoch it is from; 0 = derived before the first ended
    history: tuple[Epoch, ...]  #: of all runs
    n_steps: int  #: steps done, in all runs
    ended_by: str  #: ``steps``, ``eigenvalue`` or ``budget``; only after the last is there more to do
    n_seconds: float  #: of this run
