"""What a fit minimises for the category: one number a batch."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data import Wanted
from trainer.model import Batch, Detector


class Objective(Protocol):
    """A loss that may keep state of its own about each row of the table."""

    def begin(self, epoch: int) -> None:
        """Called before each epoch, from 1."""

    def __call__(self, detector: Detector, batch: Batch, wanted: Wanted) -> Tensor:
        """The loss of these rows, a scalar with gradient; rows of weight 0 have no answer."""


class CrossEntropy:
    """Weighted mean of the negative log-likelihood of the given class."""

    def begin(self, epoch: int) -> None:
        """Nothing to keep."""

    def __call__(self, detector: Detector, batch: Batch, wanted: Wanted) -> Tensor:
        return weighted(negative_log_likelihood(detector.category(detector.embed(batch)), wanted.classes), wanted.weight)


def negative_log_likelihood(log_probs: Tensor, classes: Tensor) -> Tensor:
    """(B, K) log-probabilities and (B,) classes → (B,) losses."""
    return functional.nll_loss(log_probs, classes, reduction="none")


def weighted(losses: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of (B,) losses; 0 where nothing counts."""
    return (losses * weight).sum() / weight.sum().clamp_min(1e-6)


def autocast(device: torch.device) -> torch.autocast:
    """bf16 on a GPU, nothing elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
