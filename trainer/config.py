"""Everything a training run can be told. Stored with the run; the defaults were chosen on real ads."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.errors import ConfigError, shorten


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Sizes, rates and weights of one fit. Rates per step, shares in [0, 1]."""

    seed: int = 1
    n_folds: int = 4  #: grouped folds for out-of-sample probabilities
    epochs: int = 8  #: passes over the training rows, at most
    patience: int = 3  #: epochs without a better validation loss before a fit stops
    batch: int = 256  #: listings a step
    n_threads: int = 2  #: processor threads of torch
    embedding_rate: float = 0.015  #: AdamW learning rate of the n-gram embeddings
    rate: float = 0.005  #: AdamW learning rate of everything else
    warmup_steps: int = 10  #: steps over which both rates rise from zero, before they fall linearly
    weight_decay: float = 0.05  #: AdamW decay of everything but the embeddings

    text_dim: int = 96  #: width of an n-gram embedding
    photo_filters: int = 64  #: patch filters learnt without labels; twice as many channels
    photo_dim: int = 32  #: width of a photo's vector
    numeric_dim: int = 16  #: width of the price and length vector
    text_dropout: float = 0.3  #: share of the pooled text vector that is dropped in training
    photo_dropout: float = 0.7  #: the same of the photo vector
    hide_title: float = 0.05  #: share of training rows whose title is hidden
    hide_description: float = 0.1  #: … whose description is hidden
    hide_photos: float = 0.15  #: … whose photos are hidden

    verified_weight: float = 3.0  #: loss weight of a moderator-verified label; a seller's is 1
    reported_weight: float = 0.5  #: of a violation that was only reported
    unreported_weight: float = 0.2  #: of a violation nobody reported or checked, taken as absent
    violation_strength: float = 30.0  #: C of the violation head: how little its weights are held back

    def __post_init__(self) -> None:
        counts = ("n_folds", "epochs", "patience", "batch", "n_threads", "text_dim", "photo_filters", "photo_dim", "numeric_dim")
        bad = [name for name in counts if getattr(self, name) < 1]
        shares = ("text_dropout", "photo_dropout", "hide_title", "hide_description", "hide_photos")
        bad += [name for name in shares if not 0 <= getattr(self, name) < 1]
        if bad:
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in bad)
            raise ConfigError(f"training cannot use {values}; counts are at least 1 and shares in [0, 1)")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config of a stored run. Raises ConfigError on unknown keys."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ConfigError(f"training config has unknown keys {shorten(unknown)}; leave them out")
        return cls(**values)
