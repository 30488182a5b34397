"""Training rows: features and targets with their weights, as tensors on one device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from curation.catalog.features import FeatureConfig, Features
from curation.catalog.tokens import Tokens
from curation.errors import InputError
from curation.types import LabelSource, Listing, split_violations
from trainer.balance import class_weights
from trainer.batch import PARTS, Batch
from trainer.config import TrainConfig
from trainer.image import Stem
from trainer.text import N_TEXT_BLOCKS, TextBranch

Rows = NDArray[np.int64]  #: row numbers
WEIGHED_ROWS = 4096
EVALUATION_BATCH = 512


@dataclass(frozen=True, slots=True)
class Wanted:
    """The category answers of B rows, on the table's device."""

    rows: Tensor  #: (B,) row numbers of the table
    classes: Tensor  #: (B,) class, 0 where unknown
    weight: Tensor  #: (B,) 0 where unknown
    is_verified: Tensor  #: (B,) bool, moderators decided


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the labels of N listings come from."""

    said: Sequence[str | None]  #: category that the seller chose
    sellers: Sequence[str | None]
    groups: Sequence[str]  #: near-duplicate group

    @classmethod
    def of(cls, listings: Sequence[Listing], groups: Sequence[str]) -> "Origins":
        """Of these listings."""
        return cls([one.category for one in listings], [one.seller_ref for one in listings], groups)


@dataclass(frozen=True, slots=True)
class Targets:
    """What is known about N listings, and how much it counts."""

    classes: tuple[str, ...]  #: category paths, sorted
    violations: tuple[str, ...]
    category: NDArray[np.int64]  #: (N,) class, -1 = unknown
    category_weight: NDArray[np.float32]  #: (N,)
    violation: NDArray[np.float32]  #: (N, V) 0/1
    violation_weight: NDArray[np.float32]  #: (N, V)
    is_verified: NDArray[np.bool_]  #: (N, 2) category, violation
    is_repaired: NDArray[np.bool_]  #: (N,) category changed without a person
    said: NDArray[np.int64]  #: (N,) class that the seller chose, -1 = none or not among the classes
    seller: NDArray[np.int64]  #: (N,) number of the seller, -1 = unknown
    group: NDArray[np.int64]  #: (N,) number of the near-duplicate group
    is_asked: NDArray[np.bool_]  #: (N, V) moderators decided, and could have named this violation

    def __len__(self) -> int:
        return len(self.category)


def targets(
    categories: Sequence[tuple[str, str] | None],
    violations: Sequence[tuple[str, str] | None],
    policy: tuple[str, ...],
    config: TrainConfig,
    origins: Origins | None = None,
    asked: NDArray[np.bool_] | None = None,
    reported: NDArray[np.bool_] | None = None,
) -> Targets:
    """Targets of labels given as (value, source) per listing, None = unlabelled.

    A moderator's word has `verified_weight`. A report is a weak positive; what nobody reported or
    checked is a weak negative. Without `origins` the sellers are unknown and each listing is a group
    of its own. asked, reported : (N, V) violations that a moderator of the listing could have named, all by default, and those
    that users reported: what was not asked is as good as not looked at. Raises InputError without any category label.
    """
    classes = tuple(sorted({label[0] for label in categories if label}))
    if not classes:
        raise InputError("no listing has a category; ingest listings with their sellers' categories first")
    index = {name: at for at, name in enumerate(classes)}
    category = np.array([index[label[0]] if label else -1 for label in categories], np.int64)
    verified = np.array([[_is_verified(c), _is_verified(v)] for c, v in zip(categories, violations, strict=True)], bool)
    verified = verified.reshape(-1, 2)
    weight = np.where(verified[:, 0], config.verified_weight, 1.0).astype(np.float32) * (category >= 0)
    named = [split_violations(label[0]) if label else () for label in violations]
    present: NDArray[np.float32] = np.array([[name in found for name in policy] for found in named], np.float32)
    present = present.reshape(-1, len(policy))
    is_asked = np.broadcast_to(verified[:, 1:], present.shape) & (True if asked is None else asked)
    present = present if reported is None else np.where(verified[:, 1:] & ~is_asked & reported, 1, present).astype(np.float32)
    weak = np.where(present > 0, config.reported_weight, config.unreported_weight)
    violation_weight = np.where(is_asked, config.verified_weight, weak).astype(np.float32)
    repaired = np.array([label is not None and label[1] == LabelSource.REFURBISHED for label in categories], bool)
    said, seller, group = _origins(origins, categories, index)
    about = classes, policy, category, weight.astype(np.float32), present, violation_weight, verified, repaired
    return Targets(*about, said, seller, group, is_asked)


def _origins(
    origins: Origins | None, categories: Sequence[tuple[str, str] | None], index: Mapping[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    n = len(categories)
    if origins is None:
        origins = Origins([label and label[0] for label in categories], [None] * n, [str(row) for row in range(n)])
    said = np.array([index.get(path or "", -1) for path in origins.said], np.int64)
    return said, _numbered(origins.sellers), _numbered(origins.groups)


def _numbered(names: Sequence[str | None]) -> NDArray[np.int64]:
    numbers = {name: at for at, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    return np.array([-1 if name is None else numbers[name] for name in names], np.int64)


def _is_verified(label: tuple[str, str] | None) -> bool:
    return label is not None and label[1] == LabelSource.MODERATORS


class Table:
    """Features and targets of N listings as tensors; every photo passes through the stem once, here."""

    def __init__(self, features: Features, shape: FeatureConfig, wanted: Targets, stem: Stem, device: torch.device) -> None:
        self.features, self.shape, self.targets = features, shape, wanted
        self.stem, self.device = stem, device
        self.refs = features.refs
        self._views = stem.to(device).encode(features.photos)
        present = features.ids > 0
        lengths = present.sum(1)
        block_of = np.repeat(np.arange(len(shape.blocks)), [length for _, length in shape.blocks])
        self._ids = _on(features.ids[present], device)
        self._blocks = _on(np.broadcast_to(block_of.astype(np.uint8), present.shape)[present], device)
        self._lengths, self._starts = _on(lengths, device), _on(np.cumsum(lengths) - lengths, device)
        part_lengths = np.stack([present[:, np.isin(block_of, part)].sum(1) for part in PARTS], 1)
        self._parts = _on(np.cumsum(part_lengths, 1) - part_lengths, device)
        self._has_text = _on(present[:, block_of < N_TEXT_BLOCKS].sum(1, keepdims=True) > 0, device)
        self._has_attributes = _on(present[:, block_of >= N_TEXT_BLOCKS].sum(1, keepdims=True) > 0, device)
        self._weights = torch.zeros(len(self._ids), device=device)
        self._numeric, self._index = _on(features.numeric, device), _on(features.photo_index, device)
        self._category, self._category_weight = _on(wanted.category, device), _on(wanted.category_weight, device)
        self._is_verified = _on(wanted.is_verified[:, 0], device)
        self._balance = torch.ones(len(wanted), device=device)
        self._said = None if features.said is None else _on(features.said, device)
        self._set_tokens(features.tokens)

    def _set_tokens(self, tokens: Tokens | None) -> None:
        self.n_ids = 0 if tokens is None else tokens.n_ids
        self._tokens = self._columns = self._hashes = None
        if tokens is not None:
            self._tokens, self._columns = _on(tokens.index, self.device), _on(tokens.columns, self.device)
            self._hashes = None if tokens.table is None else _on(tokens.table, self.device)

    def __len__(self) -> int:
        return len(self.refs)

    @torch.no_grad()
    def weigh(self, text: TextBranch) -> None:
        """Weigh every id by this branch's idf; a table serves one detector at a time."""
        features, parts = self.features, []
        for at in range(0, len(self), WEIGHED_ROWS):
            ids, counts = features.ids[at : at + WEIGHED_ROWS], features.counts[at : at + WEIGHED_ROWS]
            weights = text.weigh(_on(ids, self.device), _on(counts, self.device))
            parts.append(weights[_on(ids > 0, self.device)])
        self._weights = torch.cat(parts)

    def batch(self, rows: Rows) -> Batch:
        """Inputs of these rows."""
        at = torch.from_numpy(rows).to(self.device)
        row_of, offsets, picked = self._picked(at)
        index = self._index[at].long()
        tokens, fields = self._sequences(at)
        return Batch(
            ids=self._ids[picked],
            weights=self._weights[picked],
            rows=row_of,
            blocks=self._blocks[picked].long(),
            offsets=offsets.int(),
            parts=offsets[:, None] + self._parts[at],
            has_text=self._has_text[at],
            has_attributes=self._has_attributes[at],
            numeric=self._numeric[at],
            views=self._views[index],
            mask=(index > 0).float(),
            tokens=tokens,
            token_fields=fields,
            said=None if self._said is None else self._said[at],
        )

    def _picked(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the n-grams of these rows (B,): whose they are (M,), where each row's begin (B,), their places in the table (M,)."""
        lengths = self._lengths[at]
        offsets = lengths.cumsum(0) - lengths
        row_of = torch.repeat_interleave(torch.arange(len(at), device=self.device), lengths)
        return row_of, offsets, torch.arange(len(row_of), device=self.device) + (self._starts[at] - offsets)[row_of]

    def _sequences(self, at: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Tokens and fields of these rows, None where there are none."""
        if self._tokens is None or self._columns is None:
            return None, None
        index = self._tokens[at]
        return index if self._hashes is None else self._hashes[index], (index > 0) * self._columns

    def wanted(self, rows: Rows) -> Wanted:
        """What is known about the category of these rows."""
        at = torch.from_numpy(rows).to(self.device)
        weight = self._category_weight[at] * self._balance[at]
        return Wanted(at, self._category[at].clamp_min(0), weight, self._is_verified[at])

    def balance(self, train: Rows, kind: str) -> None:
        """Weigh classes by their size among these rows (`trainer.balance`), for the detector that is fitted next."""
        wanted = self.targets
        by_class = class_weights(wanted.category[train], wanted.category_weight[train], len(wanted.classes), kind)
        self._balance = _on(by_class[wanted.category].astype(np.float32), self.device)

    @torch.no_grad()
    def photos(self, rows: Rows) -> NDArray[np.float32]:
        """Mean view (B, F) of these rows, 0 without photos."""
        index = self._index[torch.from_numpy(rows).to(self.device)].long()
        at, column = torch.nonzero(index, as_tuple=True)
        totals = torch.zeros(len(rows), self._views.shape[1], device=self.device)
        for some, photos in zip(torch.split(at, WEIGHED_ROWS), torch.split(index[at, column], WEIGHED_ROWS), strict=True):
            totals.index_add_(0, some, self._views[photos].float())
        found: NDArray[np.float32] = (totals / (index > 0).sum(1, keepdim=True).clamp_min(1)).cpu().numpy()
        return found

    def sparse(self, rows: Rows, scale: Tensor) -> csr_matrix:
        """The weighed n-grams of these rows (B, n_buckets), each block times its `scale` (n_blocks,)."""
        at = torch.from_numpy(rows).to(self.device)
        _, offsets, picked = self._picked(at)
        weights = (self._weights[picked] * scale[self._blocks[picked].long()]).cpu().numpy()
        ends = np.append(offsets.cpu().numpy(), len(weights))
        found = csr_matrix((weights, self._ids[picked].cpu().numpy(), ends), shape=(len(rows), self.shape.n_buckets))
        found.eliminate_zeros()
        return found


def parts(rows: Rows, size: int = EVALUATION_BATCH) -> list[Rows]:
    """These rows in order, `size` at a time: at least one part, which may be empty."""
    return [rows[at : at + size] for at in range(0, max(1, len(rows)), size)]


def _on(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
