"""The token branch of the detector: order is kept, where the bag of n-grams beside it forgets it.

Its cells are those that `refurbish search` found, or a TextCNN. Padding counts nowhere; where a listing has neither title,
description nor attributes a learnt vector stands in.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.catalog.tokens import FIELDS, TokenConfig, Tokenizer, texts_of
from curation.errors import ConfigError
from curation.types import Listing
from trainer.config import TEXT_CNN, TrainConfig
from trainer.search.branch import Design, Filters, branch_of
from trainer.search.cells import Genotype, Skeleton
from trainer.search.examples import Embedded

LENGTHS = {"title": 20, "description": 36, "attributes": 6}
"""Positions of each field, here and where cells are searched; with the price they are 64."""

TITLE, DESCRIPTION, ATTRIBUTES = (FIELDS.index(name) + 1 for name in LENGTHS)


def design_of(config: TrainConfig) -> Design | None:
    """What the token branch is built of, None where the bag stands alone. Raises ConfigError on unusable cells."""
    if not config.architecture:
        return None
    return Filters(config.token_filters) if config.architecture == TEXT_CNN else Genotype.from_json(config.architecture)


def tokens_of(config: TrainConfig) -> TokenConfig:
    """What the sequences look like."""
    return TokenConfig(mode=config.tokens, **LENGTHS)


def tokenizer_of(listings: Sequence[Listing], train: Iterable[int], config: TrainConfig) -> Tokenizer | None:
    """Fitted on the texts of the training rows alone; None where there is no token branch.

    Raises InputError where no piece of text occurs often enough; `tokens=hashed` needs no vocabulary.
    """
    if not config.reads_tokens:
        return None
    wanted = tokens_of(config)
    return Tokenizer.fit((text for row in train for text in texts_of(listings[row], wanted)), wanted)


class TokenBranch(nn.Module):
    """Tokens (B, L) or (B, L, H) and the number of the field of each (B, L) → (B, n_out)."""

    def __init__(self, config: TrainConfig, n_ids: int) -> None:
        super().__init__()
        design = design_of(config)
        if design is None or n_ids < 1:
            raise ConfigError(
                f"a token branch needs an architecture and tokens, there are {n_ids} ids; transform the listings with a tokenizer"
            )
        self.shape = tokens_of(config)
        self.embedded = Embedded(n_ids, config.token_dim)
        self.fields = nn.Embedding(1 + len(FIELDS), config.token_dim, padding_idx=0)
        nn.init.zeros_(self.fields.weight)
        self.branch = branch_of(design, Skeleton(config.token_width, config.token_cells), config.token_dim)
        self.n_out = self.branch.n_out
        self.absent = nn.Parameter(torch.zeros(self.n_out))
        self.dropout = config.token_dropout

    def forward(self, tokens: Tensor, fields: Tensor) -> Tensor:
        vectors, mask = self.embedded(tokens)
        read = self.branch(vectors + self.fields(fields.int()).transpose(1, 2), mask)
        has_text = ((fields > 0) & (fields <= ATTRIBUTES)).any(1, keepdim=True)
        return functional.dropout(torch.where(has_text, read, self.absent), self.dropout, self.training)

    def example(self, n: int) -> tuple[Tensor, Tensor]:
        """Inputs of n listings, to trace with; any length may follow."""
        several = (self.shape.n_hashes,) if self.shape.mode == "hashed" else ()
        shape = (n, self.shape.width)
        return torch.ones(*shape, *several, dtype=torch.int32), torch.ones(shape, dtype=torch.uint8)
