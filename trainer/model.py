"""The detector: text, photos and numbers → a category of the tree, and six violations.

The category head stands on trained branches; the violation head is linear in the branches' inputs and, by option, in the
category, and fitted apart (`trainer.violations`). Its weights of numbers are those of models of before; since then they are 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from curation.catalog.features import NUMERIC, FeatureConfig
from curation.types import PATH_SEPARATOR
from trainer.batch import PARTS, Batch, hide
from trainer.config import TrainConfig
from trainer.fusion import fusion_of
from trainer.image import PhotoBranch, PhotoStem, Stem
from trainer.kind import Kind
from trainer.residual import Residual
from trainer.sequence import TokenBranch
from trainer.text import TextBranch

ABSENT_LOGIT = -1e4
HAS_PRICE = NUMERIC.index("has_price")
PHOTOS = "photos"
TEXT_VIEWS = {"title": 0, "attributes": 2}
"""Auxiliary heads over text, and which of PARTS each reads. Attributes are the seller's own words about the kind of thing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a detector makes of B listings before its heads."""

    joint: Tensor  #: (B, D) all branches as one vector
    views: Mapping[str, tuple[Tensor, Tensor]]  #: name of an auxiliary head → its vector (B, d), and where there is one (B,) 0/1


@dataclass(frozen=True, slots=True)
class Raw:
    """What the violations of B listings are read from, beside the n-grams, where they are served."""

    numeric: Tensor  #: (B, 5)
    views: Tensor  #: (B, V, F)
    mask: Tensor  #: (B, V)
    tokens: Tensor | None
    token_fields: Tensor | None
    said: Tensor | None


class TreeHead(nn.Module):
    """log p(leaf) = log p(root) + log p(leaf | root), so that a wrong leaf under the right root costs less."""

    root_of: Tensor
    members: Tensor

    def __init__(self, dim: int, classes: Sequence[str]) -> None:
        super().__init__()
        roots = sorted({path.split(PATH_SEPARATOR)[0] for path in classes})
        root_of = [roots.index(path.split(PATH_SEPARATOR)[0]) for path in classes]
        leaves = [[leaf for leaf, root in enumerate(root_of) if root == at] for at in range(len(roots))]
        longest = max(map(len, leaves))
        self.root, self.leaf = nn.Linear(dim, len(roots)), nn.Linear(dim, len(classes))
        self.register_buffer("root_of", torch.tensor(root_of), persistent=False)
        padded = [found + [len(classes)] * (longest - len(found)) for found in leaves]
        self.register_buffer("members", torch.tensor(padded), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) → (B, K) log-probabilities."""
        roots = torch.log_softmax(self.root(x).float(), 1)
        leaves = self.leaf(x).float()
        padded = torch.cat([leaves, torch.full_like(leaves[:, :1], ABSENT_LOGIT)], 1)
        totals = torch.logsumexp(padded[:, self.members], 2)
        found: Tensor = roots[:, self.root_of] + leaves - totals[:, self.root_of]
        return found


class Detector(nn.Module):
    """Branches that become one vector, one linear head per question over all of them."""

    numeric_mean: Tensor
    numeric_std: Tensor
    is_price: Tensor
    log_temperature: Tensor

    def __init__(
        self,
        config: TrainConfig,
        features: FeatureConfig,
        classes: Sequence[str],
        n_violations: int,
        n_ids: int = 0,
        stem: Stem | None = None,
    ) -> None:
        """`n_ids`: of the tokens, where there is a token branch. Raises ConfigError where there is one and no token.

        `stem`: what looked at the photos, shared by all detectors of a run; untrained patch filters by default.
        """
        super().__init__()
        self.config = config
        self.text = TextBranch(features, config.text_dim, n_violations, config.text_dropout)
        self.stem = PhotoStem(config.photo_filters) if stem is None else stem
        self.photo = PhotoBranch(self.stem.width, config.photo_dim, config.photo_dropout)
        self.numbers = nn.Sequential(nn.Linear(len(NUMERIC), config.numeric_dim), nn.ReLU())
        self.sequence = TokenBranch(config, n_ids) if config.architecture else None
        widths = (config.text_dim, 2 * config.photo_dim, config.numeric_dim, *([self.sequence.n_out] if self.sequence else []))
        self.fusion = fusion_of(config.fusion, widths, config.fusion_dim)
        self.category = TreeHead(self.fusion.n_out, classes)
        widths_of = dict.fromkeys(TEXT_VIEWS, config.text_dim) | {PHOTOS: 2 * config.photo_dim}
        heads = {name: TreeHead(width, classes) for name, width in widths_of.items()} if config.aux_weight else None
        self.auxiliary = None if heads is None else nn.ModuleDict(heads)
        self.violation = nn.Linear(self.stem.width + len(NUMERIC), n_violations).requires_grad_(False)
        reads = {"reads_said": config.reads_said, "reads_predicted": config.reads_predicted}
        self.kind = Kind(classes, n_violations, **reads) if any(reads.values()) else None
        self.residual = _residual(config, self.stem.width, n_violations, n_ids)
        self.register_buffer("numeric_mean", torch.zeros(len(NUMERIC)))
        self.register_buffer("numeric_std", torch.ones(len(NUMERIC)))
        self.register_buffer("log_temperature", torch.zeros(()))
        self.register_buffer("is_price", torch.tensor([name == "log_price" for name in NUMERIC]), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Category log-probabilities (B, K) and violation logits (B, V)."""
        shown = self.shown(batch)
        direct = self.text.directs(shown.ids, shown.weights, shown.blocks, shown.offsets)
        return self.answer(self._seen(shown).joint, direct, shown)

    def answer(self, joint: Tensor, direct: Tensor, seen: Batch | Raw) -> tuple[Tensor, Tensor]:
        """The heads, over the joint embedding (B, D) and over what the violations are read from."""
        plain = torch.cat([mean_view(seen.views.float(), seen.mask), self.scaled(seen.numeric)], 1)
        category = self.category(joint)
        told = 0.0 if self.kind is None else self.kind(seen.said, category)
        return category, direct + self.violation(plain).float() + told + self.added(seen)

    def added(self, seen: Batch | Raw) -> Tensor:
        """(B, V) logits that the violations' own network adds to the linear ones; 0 without one."""
        if self.residual is None or seen.tokens is None or seen.token_fields is None:
            return seen.mask.new_zeros(())
        numbers = self.scaled(seen.numeric)
        found: Tensor = self.residual(seen.tokens, seen.token_fields, seen.views.float(), seen.mask, numbers)
        return found

    def cool(self, by: Tensor) -> None:
        """Divide the logits of the violations by (V,) temperatures, in the weights themselves."""
        self.text.direct.div_(by)
        heads = [self.violation] if self.residual is None else [self.violation, self.residual.head]
        for head in heads:
            head.weight.div_(by[:, None])
            head.bias.div_(by)
        for table in [] if self.kind is None else self.kind.tables:
            table.div_(by)

    def token_example(self, n: int) -> tuple[Tensor, ...]:
        """Tokens and fields of n listings to trace with, nothing where none are read."""
        reader = self.sequence or (self.residual and self.residual.sequence)
        return reader.example(n) if reader else ()

    def embed(self, batch: Batch) -> Tensor:
        """(B, D) joint embedding of all branches: what the category head stands on."""
        return self._seen(self.shown(batch)).joint

    def look(self, batch: Batch) -> Seen:
        """The joint embedding, and the vectors of the auxiliary heads where there are any."""
        return self._seen(self.shown(batch), with_views=self.auxiliary is not None)

    def _seen(self, batch: Batch, with_views: bool = False) -> Seen:
        photo = self.photo(batch.views.float(), batch.mask)
        parts = (
            self.text.bags(batch.ids, batch.weights, batch.parts.flatten()).view(
                len(photo), len(PARTS), self.text.table.embedding_dim
            )
            if with_views
            else None
        )
        bags = self.text.bags(batch.ids, batch.weights, batch.offsets) if parts is None else parts.sum(1)
        pooled = self.text.pooled(bags, batch.has_text, batch.has_attributes)
        sequence = self.read(batch.tokens, batch.token_fields)
        joint = self._fused(pooled, photo, batch.numeric, sequence)
        if parts is None:
            return Seen(joint, {})
        has_photo = (batch.mask.sum(1) > 0).float()
        texts = {name: (parts[:, at], (parts[:, at] != 0).any(1).float()) for name, at in TEXT_VIEWS.items()}
        return Seen(joint, {**texts, PHOTOS: (photo, has_photo)})

    def joint(self, pooled: Tensor, numeric: Tensor, views: Tensor, mask: Tensor, sequence: Tensor | None = None) -> Tensor:
        """The branches as one vector, (B, D)."""
        return self._fused(pooled, self.photo(views.float(), mask), numeric, sequence)

    def _fused(self, pooled: Tensor, photo: Tensor, numeric: Tensor, sequence: Tensor | None) -> Tensor:
        parts = [pooled, photo, self.numbers(self.scaled(numeric))]
        found: Tensor = self.fusion(parts if sequence is None else [*parts, sequence])
        return found

    def read(self, tokens: Tensor | None, fields: Tensor | None) -> Tensor | None:
        """What the token branch makes of them, None without one."""
        return self.sequence(tokens, fields) if self.sequence is not None else None

    def scaled(self, numeric: Tensor) -> Tensor:
        """(B, 5) numbers on the scale of the training rows; a price that is missing is an average one, and its flag says so."""
        scaled = (numeric - self.numeric_mean) / self.numeric_std
        there = torch.where(self.is_price, numeric[:, HAS_PRICE : HAS_PRICE + 1], torch.ones_like(numeric))
        return scaled * there

    def probabilities(self, answer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Category probabilities at the fitted temperature, (B, K), and violation probabilities (B, V)."""
        category, violation = answer
        return torch.softmax(category / self.log_temperature.exp(), 1), torch.sigmoid(violation)

    def shown(self, batch: Batch) -> Batch:
        """The batch; in training some of its rows lose a modality, so that the others learn to do without it."""
        if not self.training:
            return batch
        config, device = self.config, batch.mask.device
        draws = torch.rand(len(batch.mask), device=device)
        no_title, either = draws < config.hide_title, draws < config.hide_title + config.hide_description
        hidden = {"title": no_title, "description": either & ~no_title}
        shares = {"photos": config.hide_photos, "attributes": config.hide_attributes, "price": config.hide_price}
        hidden |= {name: torch.rand(len(draws), device=device) < share for name, share in shares.items() if share}
        for name, rows in hidden.items():
            batch = hide(batch, name, rows)
        return batch


def mean_view(views: Tensor, mask: Tensor) -> Tensor:
    """(B, V, F) and (B, V) → (B, F); zero without photos."""
    return (views * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def _looked(stem: Stem, photos: Tensor) -> Tensor:
    """(1 + P, F); the first photo is blank and masked wherever it is pointed to, so that a dear stem need not look at it."""
    if not stem.takes_none:
        return stem(photos)  # type: ignore[no-any-return]
    seen = stem(photos[1:])
    return torch.cat([seen.new_zeros(1, stem.width), seen])


def _residual(config: TrainConfig, photo_width: int, n_violations: int, n_ids: int) -> Residual | None:
    """The violations' own network, where one is asked for; its chance is its own, so that the categories' answers stay."""
    if not config.violation_architecture:
        return None
    with torch.random.fork_rng(devices=[]):
        return Residual(config, photo_width, n_violations, n_ids).requires_grad_(False)


class Exportable(nn.Module):
    """The detector as it is served: raw inputs in, probabilities and the joint embedding out."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(
        self,
        ids: Tensor,
        counts: Tensor,
        numeric: Tensor,
        photos: Tensor,
        photo_index: Tensor,
        tokens: Tensor | None = None,
        token_fields: Tensor | None = None,
        said: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        detector, mask = self.detector, (photo_index > 0).float()
        views = _looked(detector.stem, photos)[photo_index.long()]
        pooled, direct = detector.text.padded(ids, counts)
        joint = detector.joint(pooled, numeric, views, mask, detector.read(tokens, token_fields))
        raw = Raw(numeric, views, mask, tokens, token_fields, said)
        return *detector.probabilities(detector.answer(joint, direct, raw)), joint
