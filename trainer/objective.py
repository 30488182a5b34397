"""What a fit minimises for the category: one number a batch."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.data import Wanted
from trainer.model import Detector, Seen
from trainer.state import State

BLOCK = 128
MIN_BLOCKS = 16
"""With fewer a plain top-k is as quick."""


class Objective(Protocol):
    """A loss that may keep state of its own about each row of the table."""

    def begin(self, epoch: int) -> None:
        """Called before each epoch, from 1."""

    def __call__(self, detector: Detector, seen: Seen, wanted: Wanted) -> Tensor:
        """The loss of these rows, a scalar with gradient, by what `detector.look` made of them; weight 0 is no answer."""

    def undo(self) -> None:
        """Take back what was remembered since the last step, if anything: the same rows come again."""

    def state(self) -> State | None:
        """What it remembers of each listing by now, for the next fit; None if nothing."""

    def resume(self, state: State) -> None:
        """Go on, before the first epoch, from what an earlier fit remembered; a state of another kind is left alone."""

    def remembered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that steps change in it, to the bit: tensors by name, and the rest as JSON. Between epochs only."""

    def recall(self, tensors: Mapping[str, Tensor], chance: Mapping[str, Any]) -> None:
        """Put back, between epochs, what `remembered` said of the same objective in an interrupted fit."""


class CrossEntropy:
    """Weighted mean of the negative log-likelihood of the given class."""

    def begin(self, epoch: int) -> None:
        """Nothing to keep."""

    def state(self) -> None:
        """Nothing to remember."""

    def resume(self, state: State) -> None:
        """Nothing to go on from."""

    def undo(self) -> None:
        """Nothing was remembered."""

    def remembered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Nothing."""
        return {}, {}

    def recall(self, tensors: Mapping[str, Tensor], chance: Mapping[str, Any]) -> None:
        """Nothing to put back."""

    def __call__(self, detector: Detector, seen: Seen, wanted: Wanted) -> Tensor:
        def losses(log_probs: Tensor) -> Tensor:
            return negative_log_likelihood(log_probs, wanted.classes)

        return weighted(losses(detector.category(seen.joint)), wanted.weight) + auxiliary(detector, seen, losses, wanted.weight)


def negative_log_likelihood(log_probs: Tensor, classes: Tensor) -> Tensor:
    """(B, K) log-probabilities and (B,) classes → (B,) losses."""
    return functional.nll_loss(log_probs, classes, reduction="none")


def weighted(losses: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of (B,) losses; 0 where nothing counts."""
    return (losses * weight).sum() / weight.sum().clamp_min(1e-6)


def auxiliary(detector: Detector, seen: Seen, losses: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """What the heads over single views add to the loss: `aux_weight` times their mean; 0 without such heads.

    losses : (B, K) log-probabilities → (B,); weight : (B,), nothing where a listing lacks the view.
    """
    if detector.auxiliary is None:
        return weight.new_zeros(())
    found = [weighted(losses(detector.auxiliary[name](vector)), weight * there) for name, (vector, there) in seen.views.items()]
    return detector.config.aux_weight * torch.stack(found).mean()


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest (B, k) of each row of (B, K) and their columns, largest first: those of `torch.topk`.

    They lie in the k blocks of columns whose maxima are largest; of thousands of columns all but these are only looked
    through, which is three times cheaper.
    """
    n_blocks = values.shape[1] // BLOCK
    if n_blocks < max(MIN_BLOCKS, k):
        found = values.topk(k, dim=1)
        return found.values, found.indices
    n_whole = n_blocks * BLOCK
    blocks = values[:, :n_whole].view(len(values), n_blocks, BLOCK)
    best = blocks.amax(2).topk(k, dim=1, sorted=False).indices
    rows = torch.arange(len(values), device=values.device)[:, None]
    found = torch.cat([blocks[rows, best].flatten(1), values[:, n_whole:]], 1).topk(k, dim=1)
    near, rest = found.indices, found.indices - k * BLOCK
    in_block = best.gather(1, (near // BLOCK).clamp_max(k - 1)) * BLOCK + near % BLOCK
    return found.values, torch.where(rest < 0, in_block, rest + n_whole)


def most_probable(log_probs: Tensor) -> Tensor:
    """(B,) column of the largest of each row of (B, K). NumPy looks through a row ten times as fast as torch on a processor."""
    if log_probs.device.type == "cpu" and log_probs.dtype == torch.float32:
        return torch.from_numpy(np.asarray(log_probs.detach().numpy().argmax(1), np.int64))
    return log_probs.detach().argmax(1)


def autocast(device: torch.device, is_wanted: bool = True) -> torch.autocast:
    """bf16 on a GPU, nothing elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_wanted and device.type == "cuda")
