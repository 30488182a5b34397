"""Rows of tokens with what is asked of them, as tensors on one device; the loss of the answers; tokens as vectors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from curation.errors import InputError, shorten

UNKNOWN = -1
"""Class of a row that nobody knows."""


@dataclass(frozen=True, slots=True)
class Examples:
    """N rows in memory, on the network's device."""

    tokens: Tensor  #: (N, L) ids, or (N, L, H) where several ids make a position; 0 = padding
    labels: Tensor  #: (N,) classes, UNKNOWN where nobody knows; or (N, V) 0/1 with NaN where nobody knows

    @classmethod
    def of(
        cls, tokens: NDArray[Any], labels: NDArray[Any], *, n_ids: int, n_classes: int, device: torch.device | str = "cpu"
    ) -> "Examples":
        """Rows of these arrays. Raises InputError on shapes, ids and labels that do not fit."""
        check_tokens(tokens, n_ids)
        known = check_labels(labels, len(tokens), n_classes)
        ids = torch.from_numpy(np.ascontiguousarray(tokens, np.int32))
        return cls(ids.to(device), torch.from_numpy(known).to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> "Examples":
        """These rows, in this order."""
        return Examples(self.tokens[rows], self.labels[rows])

    def halves(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Row numbers of two random halves, on the rows' device; rows of equal labels are divided evenly."""
        labels = self.labels.cpu().nan_to_num(nan=-1.0).reshape(len(self), -1).numpy()
        order = np.lexsort((rng.permutation(len(self)), *labels.T))
        halves = (np.sort(order[first::2]) for first in range(2))
        first, second = (torch.from_numpy(half).to(self.labels.device) for half in halves)
        return first, second


def check_tokens(tokens: NDArray[Any], n_ids: int) -> None:
    """Raises InputError unless (N, L) or (N, L, H) whole numbers from 0 to n_ids - 1."""
    if tokens.ndim not in (2, 3) or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
        raise InputError(
            f"tokens are {tokens.dtype} of shape {tokens.shape}; give whole numbers, a row of one or more for each listing"
        )
    least, most = int(tokens.min()), int(tokens.max())
    if least < 0 or most >= n_ids:
        raise InputError(f"token ids go from {least} to {most}, the vocabulary has 0 to {n_ids - 1}; use its own tokenizer")


def check_labels(labels: NDArray[Any], n_rows: int, n_classes: int) -> NDArray[Any]:
    """The labels as int64 classes (N,) or float32 answers (N, V). Raises InputError where they are neither."""
    if len(labels) != n_rows or labels.shape not in ((n_rows,), (n_rows, n_classes)):
        raise InputError(
            f"{n_rows} rows have labels of shape {labels.shape}; give ({n_rows},) classes or ({n_rows}, {n_classes}) of 0 and 1"
        )
    found = labels.astype(np.float64)
    is_known = found != UNKNOWN if labels.ndim == 1 else ~np.isnan(found)
    allowed = np.arange(n_classes) if labels.ndim == 1 else (0, 1)
    wrong = found[is_known & ~np.isin(found, allowed)]
    if len(wrong):
        raise InputError(
            f"label {shorten(float(wrong[0]))} is none of {allowed[0]} to {allowed[-1]}; correct it, or leave it out"
        )
    if not is_known.any():
        raise InputError(f"none of {n_rows} rows has a label; give some of them one")
    return found.astype(np.int64 if labels.ndim == 1 else np.float32)


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of (B,) classes, or binary cross-entropy of (B, V) answers, over those that are known."""
    logits = logits.float() if logits.dtype is torch.bfloat16 else logits
    if labels.ndim == 1:
        known = labels != UNKNOWN
        losses = functional.cross_entropy(logits, labels.clamp_min(0), reduction="none")
    else:
        known = ~labels.isnan()
        losses = functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


class Embedded(nn.Module):
    """Tokens as learnt vectors: (B, L) or (B, L, H) → (B, dim, L) and the (B, L) mask of what is no padding."""

    def __init__(self, n_ids: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_ids, dim, padding_idx=0)
        nn.init.normal_(self.table.weight, std=dim**-0.5)
        self.table.weight.data[0] = 0

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Several ids of one position are added."""
        found = self.table(tokens)
        if tokens.ndim == 2:
            return found.transpose(1, 2), tokens > 0
        return found.sum(2).transpose(1, 2), (tokens > 0).any(2)
