"""The detector: text, photos and numbers → a category of the tree, and six violations.

The category head stands on trained branches; the violation head is linear in the branches' inputs
and fitted apart (`trainer.violations`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from curation.catalog.features import NUMERIC, FeatureConfig
from curation.types import PATH_SEPARATOR
from trainer.config import TrainConfig
from trainer.fusion import fusion_of
from trainer.image import PhotoBranch, PhotoStem
from trainer.sequence import TokenBranch, without
from trainer.text import ALL_WORDS, DESCRIPTION, TITLE, TextBranch

ABSENT_LOGIT = -1e4


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of B listings on one device: text as ragged bags, photos as the stem left them."""

    ids: Tensor  #: (M,) n-gram buckets of all rows, one row after the other
    weights: Tensor  #: (M,)
    rows: Tensor  #: (M,) row of each id
    blocks: Tensor  #: (M,) block of each id
    offsets: Tensor  #: (B,) where each row begins
    has_text: Tensor  #: (B, 1) bool
    numeric: Tensor  #: (B, 5)
    views: Tensor  #: (B, V, F)
    mask: Tensor  #: (B, V) 0/1
    tokens: Tensor | None = None  #: (B, L) or (B, L, H), where texts are read in order
    token_fields: Tensor | None = None  #: (B, L) field of each position, 0 = padding


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
    log_temperature: Tensor

    def __init__(
        self, config: TrainConfig, features: FeatureConfig, classes: Sequence[str], n_violations: int, n_ids: int = 0
    ) -> None:
        """`n_ids`: of the tokens, where there is a token branch. Raises ConfigError where there is one and no token."""
        super().__init__()
        self.config = config
        self.text = TextBranch(features, config.text_dim, n_violations, config.text_dropout)
        self.stem = PhotoStem(config.photo_filters)
        self.photo = PhotoBranch(self.stem.width, config.photo_dim, config.photo_dropout)
        self.numbers = nn.Sequential(nn.Linear(len(NUMERIC), config.numeric_dim), nn.ReLU())
        self.sequence = TokenBranch(config, n_ids) if config.architecture else None
        widths = (config.text_dim, 2 * config.photo_dim, config.numeric_dim, *([self.sequence.n_out] if self.sequence else []))
        self.fusion = fusion_of(config.fusion, widths, config.fusion_dim)
        self.category = TreeHead(self.fusion.n_out, classes)
        self.violation = nn.Linear(self.stem.width + len(NUMERIC), n_violations).requires_grad_(False)
        self.register_buffer("numeric_mean", torch.zeros(len(NUMERIC)))
        self.register_buffer("numeric_std", torch.ones(len(NUMERIC)))
        self.register_buffer("log_temperature", torch.zeros(()))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Category log-probabilities (B, K) and violation logits (B, V)."""
        shown = self._shown(batch)
        text = self._bag(shown)
        return self.answer(text, shown.numeric, shown.views, shown.mask, self.read(shown.tokens, shown.token_fields))

    def answer(
        self, text: tuple[Tensor, Tensor], numeric: Tensor, views: Tensor, mask: Tensor, sequence: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The heads over all branches."""
        pooled, direct = text
        category = self.category(self.joint(pooled, numeric, views, mask, sequence))
        plain = torch.cat([mean_view(views.float(), mask), self._scaled(numeric)], 1)
        return category, direct + self.violation(plain).float()

    def embed(self, batch: Batch) -> Tensor:
        """(B, D) joint embedding of all branches: what the category head stands on."""
        shown = self._shown(batch)
        pooled, _ = self._bag(shown)
        return self.joint(pooled, shown.numeric, shown.views, shown.mask, self.read(shown.tokens, shown.token_fields))

    def joint(self, pooled: Tensor, numeric: Tensor, views: Tensor, mask: Tensor, sequence: Tensor | None = None) -> Tensor:
        """The branches as one vector, (B, D)."""
        parts = [pooled, self.photo(views.float(), mask), self.numbers(self._scaled(numeric))]
        found: Tensor = self.fusion(parts if sequence is None else [*parts, sequence])
        return found

    def _bag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.text(batch.ids, batch.weights, batch.blocks, batch.offsets, batch.has_text)
        return found

    def read(self, tokens: Tensor | None, fields: Tensor | None) -> Tensor | None:
        """What the token branch makes of them, None without one."""
        return self.sequence(tokens, fields) if self.sequence is not None else None

    def _scaled(self, numeric: Tensor) -> Tensor:
        return (numeric - self.numeric_mean) / self.numeric_std

    def probabilities(self, answer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Category probabilities at the fitted temperature, (B, K), and violation probabilities (B, V)."""
        category, violation = answer
        return torch.softmax(category / self.log_temperature.exp(), 1), torch.sigmoid(violation)

    def _shown(self, batch: Batch) -> Batch:
        """The batch; in training some rows lose a modality, so that the others learn to do without it."""
        if not self.training:
            return batch
        config, n_rows, device = self.config, len(batch.mask), batch.mask.device
        draws = torch.rand(n_rows, device=device)
        no_title, either = draws < config.hide_title, draws < config.hide_title + config.hide_description
        no_description = either & ~no_title
        keep = torch.ones(n_rows, len(self.text.lengths), device=device)
        keep[:, TITLE], keep[:, DESCRIPTION] = (~no_title).float()[:, None], (~no_description).float()[:, None]
        keep[:, ALL_WORDS] = (~either).float()
        shown = torch.rand(n_rows, 1, device=device) >= config.hide_photos
        batch = replace(batch, weights=batch.weights * keep[batch.rows, batch.blocks], mask=batch.mask * shown)
        if batch.tokens is None or batch.token_fields is None:
            return batch
        tokens, fields = without(batch.tokens, batch.token_fields, no_title, no_description)
        return replace(batch, tokens=tokens, token_fields=fields)


def mean_view(views: Tensor, mask: Tensor) -> Tensor:
    """(B, V, F) and (B, V) → (B, F); zero without photos."""
    return (views * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


class Exportable(nn.Module):
    """The detector as it is served: raw inputs in, probabilities out."""

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
    ) -> tuple[Tensor, Tensor]:
        detector = self.detector
        views = detector.stem(photos)[photo_index.long()]
        text, sequence = detector.text.padded(ids, counts), detector.read(tokens, token_fields)
        return detector.probabilities(detector.answer(text, numeric, views, (photo_index > 0).float(), sequence))
