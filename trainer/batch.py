"""Inputs of some listings on one device, and what of them can be hidden: what is missing is masked, never guessed."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from curation.catalog.features import NUMERIC
from curation.catalog.tokens import FIELDS
from curation.errors import InputError, shorten
from trainer.text import ALL_WORDS, DESCRIPTION, N_TEXT_BLOCKS, TITLE

MODALITIES = ("text", "title", "description", "photos", "price", "attributes", "category")
ATTRIBUTES = N_TEXT_BLOCKS
"""The block of n-grams of attributes, currency and price band."""

PARTS = ((0, 1), (2, 3, 4), (5,))
"""Blocks of n-grams read together: the title's, the rest of the text, attributes; side by side in this order."""

N_PRICE_TOKENS = 2
"""Currency and price band: the first of the attributes' n-grams, where there is a price."""

_BLOCKS = {
    "title": (*TITLE, ALL_WORDS),
    "description": (*DESCRIPTION, ALL_WORDS),
    "text": tuple(range(N_TEXT_BLOCKS)),
    "attributes": (ATTRIBUTES,),
}
_FIELDS = {"text": ("title", "description")}  # of the others the field has the modality's name
_NUMBERS = {
    "title": ("log_title_words",),
    "description": ("log_description_words",),
    "text": ("log_title_words", "log_description_words"),
    "photos": ("n_photos",),
    "price": ("log_price", "has_price"),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of B listings on one device: text as ragged bags, photos as the stem left them."""

    ids: Tensor  #: (M,) n-gram buckets of all rows, one row after the other
    weights: Tensor  #: (M,) 0 = hidden
    rows: Tensor  #: (M,) row of each id
    blocks: Tensor  #: (M,) block of each id, ascending in each row
    offsets: Tensor  #: (B,) where each row begins
    parts: Tensor  #: (B, 3) where each of PARTS begins
    has_text: Tensor  #: (B, 1) bool
    has_attributes: Tensor  #: (B, 1) bool
    numeric: Tensor  #: (B, 5)
    views: Tensor  #: (B, V, F)
    mask: Tensor  #: (B, V) 0/1
    tokens: Tensor | None = None  #: (B, L) or (B, L, H), where texts are read in order
    token_fields: Tensor | None = None  #: (B, L) field of each position, 0 = padding
    said: Tensor | None = None  #: (B,) number of the seller's category, 0 = none (`Kinds`), where violations are asked with it


def without(batch: Batch, modality: str) -> Batch:
    """The batch as if no listing had this modality. Raises InputError on one that is not in MODALITIES."""
    return hide(batch, modality, torch.ones(len(batch.mask), dtype=torch.bool, device=batch.mask.device))


def hide(batch: Batch, modality: str, hidden: Tensor) -> Batch:
    """The batch without this modality in some rows, hidden : (B,) bool.

    Words of title and description together go with either. The price takes its band and currency along, the first two of the
    attributes' n-grams; where no currency is named that hides an attribute more. Attributes take the price band along.
    """
    if modality not in MODALITIES:
        raise InputError(f"{shorten(modality)} cannot be hidden; choose one of {', '.join(MODALITIES)}")
    has_price = batch.numeric[:, NUMERIC.index("has_price")] > 0
    batch = replace(batch, numeric=_numbers(batch.numeric, modality, hidden))
    if modality == "category":
        return batch if batch.said is None else replace(batch, said=batch.said * ~hidden)
    if modality == "photos":
        return replace(batch, mask=batch.mask * ~hidden[:, None])
    batch = _hide_fields(batch, _FIELDS.get(modality, (modality,)), hidden)
    if modality == "price":
        place = torch.arange(len(batch.ids), device=hidden.device) - batch.parts[batch.rows, -1]
        is_price = (batch.blocks == ATTRIBUTES) & (place < N_PRICE_TOKENS)
        return _hide_ids(batch, is_price & (has_price & hidden)[batch.rows])
    of_modality = torch.zeros(1 + ATTRIBUTES, dtype=torch.bool, device=hidden.device)
    of_modality[list(_BLOCKS[modality])] = True
    return _hide_ids(batch, of_modality[batch.blocks] & hidden[batch.rows])


def _numbers(numeric: Tensor, modality: str, hidden: Tensor) -> Tensor:
    """The (B, 5) numbers with those of a modality 0 where it is hidden."""
    columns = torch.tensor([name in _NUMBERS.get(modality, ()) for name in NUMERIC], device=hidden.device)
    return numeric.masked_fill(hidden[:, None] & columns, 0.0)


def _hide_ids(batch: Batch, hidden: Tensor) -> Batch:
    """The n-grams (M,) that are hidden weigh nothing; rows that have none left have no text, or no attributes."""
    weights = batch.weights * ~hidden
    place = 2 * batch.rows + (batch.blocks == ATTRIBUTES)
    left = batch.weights.new_zeros(2 * len(batch.mask)).index_add_(0, place, weights).view(-1, 2)
    return replace(
        batch,
        weights=weights,
        has_text=batch.has_text & (left[:, :1] > 0),
        has_attributes=batch.has_attributes & (left[:, 1:] > 0),
    )


def _hide_fields(batch: Batch, names: tuple[str, ...], hidden: Tensor) -> Batch:
    """Positions of these fields become padding."""
    if batch.tokens is None or batch.token_fields is None:
        return batch
    fields = torch.tensor([1 + FIELDS.index(name) for name in names], device=hidden.device)
    kept = ~(torch.isin(batch.token_fields, fields.to(batch.token_fields.dtype)) & hidden[:, None])
    tokens = batch.tokens * (kept if batch.tokens.ndim == 2 else kept[:, :, None])
    return replace(batch, tokens=tokens, token_fields=batch.token_fields * kept)
