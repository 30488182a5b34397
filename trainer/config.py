"""Everything a training run can be told. Stored with the run; the defaults were chosen on real ads."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import ConfigError, shorten

RECIPES = ("refurbish", "selfie", "cross_entropy")
FUSIONS = ("concat", "gated", "max")
TOKENS = ("sentencepiece", "hashed")
BALANCES = ("none", "sqrt", "inverse")
KINDS = ("none", "said", "predicted", "both")
CHOSEN, LOGISTIC, SQUARED_HINGE, HINGE = LOSSES = ("chosen", "logistic", "squared_hinge", "hinge")
"""What violation heads minimise; first: the one that held-out rows prefer."""

SWITCHES = ("read_channel", "carry", "backbone_alone", "violation_linear", "violation_scaled", "bf16", "compile", "deterministic")
TEXT_CNN = "textcnn"
BACKBONE = "backbone"
SMALLEST_PX, LARGEST_PX = 16, 512


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Sizes, rates and weights of one fit. Rates per step, shares in [0, 1]."""

    seed: int = 1
    n_folds: int = 4  #: grouped folds for out-of-sample probabilities
    epochs: int = 8  #: passes over the training rows, at most
    patience: int = 3  #: epochs without a better validation loss before a fit stops
    batch: int = 256  #: listings a step
    n_threads: int = 2  #: processor threads of torch, of all processes on a machine together
    bf16: bool = True  #: on a GPU, bfloat16 where it suffices
    compile: bool = False  #: compile the branches (torch.compile): minutes before the first step, for long fits on a GPU
    deterministic: bool = False  #: on a GPU, only operations that repeat to the bit; on a processor all do
    checkpoint_s: float = 60.0  #: seconds between two checkpoints of a run, at the ends of epochs; 0 = after each epoch
    embedding_rate: float = 0.015  #: AdamW learning rate of the n-gram embeddings
    rate: float = 0.005  #: AdamW learning rate of everything else
    warmup_steps: int = 10  #: steps over which both rates rise from zero, before they fall linearly
    weight_decay: float = 0.05  #: AdamW decay of everything but the n-gram embeddings

    text_dim: int = 96  #: width of an n-gram embedding
    photo_filters: int = 64  #: patch filters learnt without labels; twice as many channels
    photo_px: int = 48  #: side of a photo as it is read
    backbone: str = ""  #: frozen network for photos: none, a file of weights, timm:NAME@FILE or transformers:FOLDER
    backbone_alone: bool = False  #: instead of the patch filters, not beside them
    photo_dim: int = 32  #: width of a photo's vector
    numeric_dim: int = 16  #: width of the price and length vector
    text_dropout: float = 0.3  #: share of the pooled text vector that is dropped in training
    photo_dropout: float = 0.3  #: the same of the photo vector
    hide_title: float = 0.05  #: share of training rows whose title is hidden
    hide_description: float = 0.1  #: … whose description is hidden
    hide_photos: float = 0.15  #: … whose photos are hidden
    hide_attributes: float = 0.0  #: … whose attributes are hidden
    hide_price: float = 0.0  #: … whose price is hidden
    hide_category: float = 0.3  #: … whose seller's category is hidden from the violations, where they read it

    architecture: str = ""  #: token branch beside the bag: none, textcnn, or cells, as the JSON that `refurbish search` writes
    tokens: str = "sentencepiece"  #: what it reads: pieces of a vocabulary, or hashed words without one
    token_dim: int = 64  #: width of a token's embedding
    token_width: int = 16  #: channels of a cell's node before the first reduction
    token_cells: int = 6  #: cells, two of which halve the sequence
    token_filters: int = 64  #: filters of each width of a TextCNN
    token_dropout: float = 0.3  #: share of the token branch's vector that is dropped in training
    token_rate: float = 0.003  #: AdamW learning rate of the token branch
    fusion: str = "concat"  #: how branches become one vector: side by side, gated (GMU) or by the largest (max)
    fusion_dim: int = 128  #: width of that vector where it is gated or the largest

    recipe: str = "refurbish"  #: how wrong labels are borne: refurbish, selfie or cross_entropy
    read_channel: bool = True  #: learn from what labels probably should be, not from what was said
    repair_doubt: float = 0.0  #: refurbish what is wrong more probably; 0 = all, the surest only before much was verified
    carry: bool = True  #: go on with what the last run's fit remembers of each listing (SELFIE, early-learning regularisation)
    early_learning: float = 2.0  #: strength of early-learning regularisation; 0 = off
    memory: float = 0.5  #: share of a listing's remembered prediction that an epoch keeps
    mixup: float = 1.0  #: both parameters of the Beta that mixes embeddings; 0 = off
    selfie_history: int = 5  #: predictions kept of each listing (q)
    selfie_certainty: float = 0.05  #: largest normalised entropy of a refurbishable listing (epsilon)
    selfie_warmup: int = 3  #: epochs of plain cross-entropy before that
    selfie_noise: float = 0.0  #: noise rate (tau); 0 = estimated

    aux_weight: float = 0.0  #: weight in the loss of heads over title, attributes and photos alone; 0 = no such heads
    balance: str = "none"  #: rows of the loss by the size of their class: as they are, over its root (sqrt), over it (inverse)
    verified_weight: float = 3.0  #: loss weight of a moderator-verified label; a seller's is 1
    reported_weight: float = 0.5  #: of a violation that was only reported
    unreported_weight: float = 0.2  #: of a violation nobody reported or checked, taken as absent
    violation_loss: str = (
        "chosen"  #: what the violation head minimises: logistic, squared_hinge, hinge, or what held-out rows prefer
    )
    violation_strength: float = (
        30.0  #: how little its weights are held back: C of the logistic loss, a hundredth of it for hinges
    )
    violation_architecture: str = ""  #: network added to that head: none, textcnn, or cells, as `architecture` has them
    violation_scaled: bool = (
        False  #: bring its logits to the scale on which held-out ones are right; hinges, and with a network, always
    )
    violation_caution: float = 3.0  #: standard errors of that scale by which it is lowered, so that scores err downwards
    violations_see_category: str = "none"  #: what that head reads of it: none, said (by the seller), predicted or both
    violation_linear: bool = True  #: whether the linear head stands under that network
    violation_epochs: int = 8  #: passes over the training rows with which that network is fitted
    violation_photo_dim: int = 0  #: width of a photo's vector in it; 0 = it sees none

    def __post_init__(self) -> None:
        counts = ("selfie_history", "epochs", "patience", "batch", "n_threads", "warmup_steps")
        sizes = ("text_dim", "photo_filters", "photo_dim", "numeric_dim", "token_dim", "token_filters", "fusion_dim")
        bad = [name for name in (*counts, *sizes, "violation_epochs") if getattr(self, name) < 1]
        bad += ["n_folds"] if self.n_folds < 2 else []
        shares = ("memory", "text_dropout", "photo_dropout", "token_dropout", "hide_title", "hide_description", "hide_photos")
        bad += [
            name
            for name in (*shares, "hide_attributes", "hide_price", "hide_category", "selfie_noise")
            if not 0 <= getattr(self, name) < 1
        ]
        bad += [name for name in ("repair_doubt", "selfie_certainty") if not 0 <= getattr(self, name) <= 1]
        rates = ("embedding_rate", "rate", "token_rate", "verified_weight", "violation_strength")
        bad += [name for name in rates if getattr(self, name) <= 0]
        strengths = ("early_learning", "mixup", "weight_decay", "selfie_warmup", "reported_weight", "unreported_weight")
        bad += [
            name
            for name in (*strengths, "aux_weight", "violation_caution", "violation_photo_dim", "checkpoint_s")
            if getattr(self, name) < 0
        ]
        bad += [name for name in SWITCHES if not isinstance(getattr(self, name), bool)]
        bad += [name for name, value in dataclasses.asdict(self).items() if isinstance(value, float) and not math.isfinite(value)]
        bad += [] if SMALLEST_PX <= self.photo_px <= LARGEST_PX else ["photo_px"]
        bad += ["backbone_alone"] if self.backbone_alone is True and not self.backbone else []
        choices = {"recipe": RECIPES, "balance": BALANCES, "fusion": FUSIONS, "tokens": TOKENS, "violations_see_category": KINDS}
        choices["violation_loss"] = LOSSES
        bad += [name for name, known in choices.items() if getattr(self, name) not in known]
        if bad:
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in bad)
            raise ConfigError(
                f"training cannot use {values}; counts are at least 1, folds 2, shares in [0, 1), rates above 0, "
                f"recipes {', '.join(RECIPES)}, fusions {', '.join(FUSIONS)}, tokens {', '.join(TOKENS)}, "
                f"balances {', '.join(BALANCES)}, violations see {', '.join(KINDS)}, "
                f"their losses {', '.join(LOSSES)}, "
                f"photos {SMALLEST_PX} to {LARGEST_PX} pixels wide, a backbone alone needs one"
            )
        self._check_architecture("architecture")
        self._check_architecture("violation_architecture")

    @property
    def reads_said(self) -> bool:
        """Whether violations are asked with the seller's category."""
        return self.violation_linear and self.violations_see_category in ("said", "both")

    @property
    def reads_predicted(self) -> bool:
        """Whether violations are asked with the category head's answer."""
        return self.violation_linear and self.violations_see_category in ("predicted", "both")

    @property
    def reads_tokens(self) -> bool:
        """Whether there is a branch that reads the text in order."""
        return bool(self.architecture or self.violation_architecture)

    def _check_architecture(self, name: str) -> None:
        value = getattr(self, name)
        if value in ("", TEXT_CNN):
            return
        if not value.lstrip().startswith("{"):
            raise ConfigError(
                f"training cannot use {name}={shorten(value)}; it is empty for none, {TEXT_CNN}, or "
                f"the cells that `refurbish search --out FILE` wrote, given as {name}=@FILE"
            )
        from trainer.search.cells import Genotype, Skeleton  # torch takes seconds to import

        Genotype.from_json(value)
        Skeleton(self.token_width, self.token_cells)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config of a stored run, or parts of one. Raises ConfigError on unknown keys and on values of another type."""
        types = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - types.keys())
        if unknown:
            raise ConfigError(
                f"training config has unknown keys {shorten(unknown)}; leave them out, or choose of {', '.join(types)}"
            )
        for name, value in values.items():
            if type(value) is not types[name] and not (types[name] is float and type(value) is int):
                raise ConfigError(f"training cannot use {name}={shorten(value)}; it must be {types[name].__name__}")
        return cls(**values)


def read_files(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same, where a text ``@FILE`` is replaced by what that file says, that of a backbone by its full path.

    Raises ConfigError if it cannot be read.
    """
    return {name: _read(name, value) if str(value).startswith("@") else value for name, value in values.items()}


def _read(name: str, value: str) -> str:
    if name == BACKBONE:
        path = Path(value[1:]).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(
                f"backbone={shorten(value)} cannot be read: there is no such file; name a file of weights after the @"
            )
        return str(path)
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}={shorten(value)} cannot be read: {error}; name a text file after the @") from error
