"""What chance decides about a batch, when only a part of the batch is looked at.

Masks are drawn for the whole batch and cut, so that a batch that is shared among processes, or looked at in halves, loses
the same inputs as when it is looked at as one. On a processor they are the same to the bit; on a GPU whole batches are drawn
by a fused kernel with an order of its own, so that there they are the same in distribution.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class OfWhole(TorchFunctionMode):
    """While it lasts `torch.rand` and dropout over the rows of a part draw for all n rows, and use those of the part."""

    def __init__(self, n_rows: int, part: slice) -> None:
        super().__init__()
        self.n_rows, self.part = n_rows, part

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func is torch.rand:
            return torch.rand(self.n_rows, *args[1:], **named)[self.part]
        if func is functional.dropout:
            return self._dropped(*args, **named)
        if func is functional.dropout1d:
            return self._dropped(*args, **named, is_channels=True)
        return func(*args, **named)

    def _dropped(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, is_channels: bool = False
    ) -> Tensor:
        """(b, …) without a share p of its values, or of its channels (b, C, L)."""
        if not training or not p:
            return x
        shape = (x.shape[1], 1) if is_channels else x.shape[1:]
        kept = x.new_empty(self.n_rows, *shape).bernoulli_(1 - p).div_(1 - p)
        return x * kept[self.part]
