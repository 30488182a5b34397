"""Text branch: idf-weighted bags of hashed n-grams, one embedding table for all blocks.

A bag is linear in its n-grams, as TF-IDF with logistic regression is. For the category it is of low
rank, so that one table serves thousands of leaves; for the few violations each has a column of its
own. On a few thousand rows no deeper text branch was better: a hidden layer behind the bag cost 2-3
points of accuracy on 4,770 real ads.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from curation.catalog.features import FeatureConfig

TITLE = (0, 1)  # blocks hidden together
DESCRIPTION = (2, 3)
TITLE_CHARACTERS = 1
ALL_WORDS = 4
N_TEXT_BLOCKS = 5
DIRECT_SCALE = (0.0, 0.4, 0.0, 1.0, 1.0, 0.2)
"""Weight of each block for the violations, whose few tell-tale words should not be told apart by field.

How much of a title's characters is chosen with the fit (`trainer.manner`).
"""

EPSILON = 1e-6


def idf(ids: NDArray[np.int32], n_buckets: int) -> NDArray[np.float32]:
    """Smoothed inverse document frequency per bucket, ln((1 + n) / (1 + df)) + 1; 0 for the padding.

    ids : (N, L) buckets, each at most once a row and block
    """
    df = np.bincount(ids.ravel(), minlength=n_buckets)
    found = np.log((1 + len(ids)) / (1 + np.minimum(df, len(ids)))) + 1
    found[0] = 0
    return found.astype(np.float32)


class TextBranch(nn.Module):
    """Ids and counts → (B, D) and direct logits (B, V): each block's tf-idf vector has length 1 before it is embedded."""

    idf: Tensor
    direct: Tensor
    direct_scale: Tensor

    def __init__(self, features: FeatureConfig, dim: int, n_direct: int, dropout: float) -> None:
        super().__init__()
        self.lengths = [length for _, length in features.blocks]
        self.table = nn.Embedding(features.n_buckets, dim)
        nn.init.normal_(self.table.weight, 0, 0.02)
        self.absent = nn.Parameter(torch.zeros(dim))
        self.absent_attributes = nn.Parameter(torch.zeros(dim))
        self.register_buffer("direct_scale", torch.tensor(DIRECT_SCALE))
        self.register_buffer("direct", torch.zeros(features.n_buckets, n_direct))
        self.dropout = dropout
        self.register_buffer("idf", torch.zeros(features.n_buckets))

    def weigh(self, ids: Tensor, counts: Tensor) -> Tensor:
        """(B, L) weights: (1 + ln count) * idf, each block of length 1; 0 for the padding."""
        raw = functional.embedding(ids, self.idf[:, None]).squeeze(2) * (1 + counts.float().clamp_min(1).log())
        blocks = torch.split(raw, self.lengths, 1)
        return torch.cat([block / block.square().sum(1, keepdim=True).add(EPSILON).sqrt() for block in blocks], 1)

    def bags(self, ids: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
        """Ragged bags, the fast way in training. ids, weights : (M,); offsets : (B,), where each bag begins → (B, D)"""
        with torch.autocast(ids.device.type, enabled=False):
            return functional.embedding_bag(ids, self.table.weight, offsets, mode="sum", per_sample_weights=weights)

    def directs(self, ids: Tensor, weights: Tensor, blocks: Tensor, offsets: Tensor) -> Tensor:
        """(B, V) logits of the violations that the text alone gives, by ragged bags. ids, weights, blocks : (M,)"""
        with torch.autocast(ids.device.type, enabled=False):
            scaled = weights * self.direct_scale[blocks]
            return functional.embedding_bag(ids, self.direct, offsets, mode="sum", per_sample_weights=scaled)

    def padded(self, ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The same of padded (B, L) ids and counts, by gather and product: ONNX has no ragged bag."""
        weights = self.weigh(ids, counts)
        scale = torch.cat([self.direct_scale[at].expand(length) for at, length in enumerate(self.lengths)])
        bags, direct = (
            torch.matmul(scaled[:, None, :], functional.embedding(ids, table)).squeeze(1)
            for table, scaled in ((self.table.weight, weights), (self.direct, weights * scale))
        )
        n_text = sum(self.lengths[:N_TEXT_BLOCKS])
        has_text, has_attributes = ((part > 0).any(1, keepdim=True) for part in (counts[:, :n_text], counts[:, n_text:]))
        return self.pooled(bags, has_text, has_attributes), direct

    def pooled(self, bags: Tensor, has_text: Tensor, has_attributes: Tensor) -> Tensor:
        """(B, D) bags with what was learnt for missing text and attributes (B, 1), some of it dropped in training."""
        text = torch.where(has_text, bags, bags + self.absent)
        return functional.dropout(torch.where(has_attributes, text, text + self.absent_attributes), self.dropout, self.training)
