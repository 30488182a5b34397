"""What a token branch adds to the violations: a network over text in order, photos and numbers, on top of the linear logits.

The linear head (`trainer.violations`) knows the tell-tale words; what it cannot know is their order. So a network is trained on
what it leaves over, as in boosting: its logits are added to the linear ones of folds that did not see the row, since on rows
that they were fitted on they leave nothing over. How much of it counts, from nothing to all, validation rows decide: there it
cannot lose what the linear head knows.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_expit
from torch import Tensor, nn
from torch.nn import functional

from curation.catalog.features import NUMERIC
from trainer.config import TrainConfig
from trainer.image import PhotoBranch
from trainer.sequence import TokenBranch

SHARES = np.linspace(0, 1, 21)
"""How much of the network may count."""

WARM_UP = 0.1
"""Share of the steps over which the rate rises."""

Floats = NDArray[np.floating]
Places = NDArray[np.int64]


class Residual(nn.Module):
    """Tokens, photos and numbers of B listings → (B, V) logits, none at first."""

    share: Tensor

    def __init__(self, config: TrainConfig, photo_width: int, n_violations: int, n_ids: int) -> None:
        """`photo_width`: of a photo as the stem leaves it. Raises ConfigError on unusable cells, and without tokens."""
        super().__init__()
        self.sequence = TokenBranch(replace(config, architecture=config.violation_architecture), n_ids)
        dim = config.violation_photo_dim
        self.photo = PhotoBranch(photo_width, dim, config.photo_dropout) if dim else None
        n_joint = self.sequence.n_out + 2 * dim + len(NUMERIC)
        self.head = nn.Linear(n_joint, n_violations)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("share", torch.ones(()))

    def forward(self, tokens: Tensor, fields: Tensor, views: Tensor, mask: Tensor, numbers: Tensor) -> Tensor:
        """numbers : (B, 5) on the scale of the training rows."""
        seen = [] if self.photo is None else [self.photo(views, mask)]
        found: Tensor = self.head(torch.cat([self.sequence(tokens, fields), *seen, numbers], 1)).float() * self.share
        return found


def loss(logits: Tensor, present: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the binary cross-entropies of (B, V) logits; 0 where nothing counts."""
    losses = functional.binary_cross_entropy_with_logits(logits, present, reduction="none")
    return (losses * weight).sum() / weight.sum().clamp_min(1e-6)


def share_of(offset: Floats, added: Floats, present: Floats, weight: Floats) -> float:
    """The share in [0, 1] of the (N, V) added logits with the least weighted log loss; 1 without rows that count."""
    if not weight.any():
        return 1.0
    sign = np.where(present > 0, 1.0, -1.0)
    losses = [-(log_expit(sign * (offset + share * added)) * weight).sum() for share in SHARES]
    return float(SHARES[int(np.argmin(losses))])


def steps(n: int, size: int, n_epochs: int, rng: np.random.Generator) -> Iterator[tuple[float, Places]]:
    """Of each step its rate, rising over a tenth of all steps and falling to zero, and its places among n rows."""
    orders = [rng.permutation(n) for _ in range(n_epochs)]
    parts = [order[at : at + size] for order in orders for at in range(0, n, size)]
    for step, part in enumerate(parts):
        yield min((step + 1) / (WARM_UP * len(parts)), 1 - step / len(parts), 1.0), part
