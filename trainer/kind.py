"""The kind of thing as an input of the violation heads: what its seller calls it, what the category head takes it for.

Both enter as one weight of a leaf and one of its root, so that a rare leaf leans on its branch. The category head learns
nothing from violations: its answer is taken as it is.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from curation.catalog.kinds import Kinds

SCALE = 0.1
"""Length of a leaf and of a root, beside n-gram blocks of length 1."""

LEAST = 1e-3
"""Less probable categories are left out where heads are fitted."""


class Kind(nn.Module):
    """Number of the seller's category (B,) and log-probabilities (B, K) → (B, V) logits, 0 before it is fitted."""

    said: Tensor | None
    predicted: Tensor | None

    def __init__(self, classes: Sequence[str], n_violations: int, *, reads_said: bool, reads_predicted: bool) -> None:
        super().__init__()
        self.register_buffer("said", torch.zeros(len(Kinds(classes)), n_violations) if reads_said else None)
        self.register_buffer("predicted", torch.zeros(len(classes), n_violations) if reads_predicted else None)

    def forward(self, said: Tensor | None, log_probs: Tensor) -> Tensor:
        """`said` None: no listing has a category."""
        found = log_probs.new_zeros(())
        if self.said is not None:
            found = self.said[0] if said is None else self.said[said.long()]
        if self.predicted is not None:
            found = found + log_probs.detach().float().exp() @ self.predicted
        return found

    @property
    def tables(self) -> list[Tensor]:
        """Each (n, V)."""
        return [table for table in (self.said, self.predicted) if table is not None]


def spread(classes: Sequence[str]) -> csr_matrix:
    """(n, n) what each number of `Kinds` is made of: itself and, of a class, its root."""
    kinds = Kinds(classes)
    own, n = np.arange(len(kinds)), len(kinds)
    rows, columns = np.append(own, own[1 : 1 + len(classes)]), np.append(own, kinds.root_of)
    return csr_matrix((np.full(len(rows), SCALE, np.float32), (rows, columns.astype(np.int64))), (n, n))


def told(said: NDArray[np.integer], classes: Sequence[str]) -> csr_matrix:
    """(N, n) inputs of the heads by the numbers (N,) of the sellers' categories."""
    return spread(classes)[said]


def guessed(probs: csr_matrix, classes: Sequence[str]) -> csr_matrix:
    """(N, n) the same by the probabilities (N, K) of categories."""
    return (probs @ spread(classes)[1 : 1 + len(classes)]).tocsr()
