"""The detector: text, photos and numbers → a category of the tree, and six violations.

The category head stands on trained branches; the violation head is linear in the branches' inputs
and fitted apart (`trainer.violations`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from curation.catalog.features import NUMERIC, FeatureConfig
from curation.types import PATH_SEPARATOR
from trainer.config import TrainConfig
from trainer.image import PhotoBranch, PhotoStem
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
    """Branches side by side, one linear head per question over all of them."""

    numeric_mean: Tensor
    numeric_std: Tensor
    log_temperature: Tensor

    def __init__(self, config: TrainConfig, features: FeatureConfig, classes: Sequence[str], n_violations: int) -> None:
        super().__init__()
        self.config = config
        self.text = TextBranch(features, config.text_dim, n_violations, config.text_dropout)
        self.stem = PhotoStem(config.photo_filters)
        self.photo = PhotoBranch(self.stem.width, config.photo_dim, config.photo_dropout)
        self.numbers = nn.Sequential(nn.Linear(len(NUMERIC), config.numeric_dim), nn.ReLU())
        joint = config.text_dim + 2 * config.photo_dim + config.numeric_dim
        self.category = TreeHead(joint, classes)
        self.violation = nn.Linear(self.stem.width + len(NUMERIC), n_violations).requires_grad_(False)
        self.register_buffer("numeric_mean", torch.zeros(len(NUMERIC)))
        self.register_buffer("numeric_std", torch.ones(len(NUMERIC)))
        self.register_buffer("log_temperature", torch.zeros(()))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Category log-probabilities (B, K) and violation logits (B, V)."""
        weights, mask = self._shown(batch)
        text = self.text(batch.ids, weights, batch.blocks, batch.offsets, batch.has_text)
        return self.answer(text, batch.numeric, batch.views, mask)

    def answer(self, text: tuple[Tensor, Tensor], numeric: Tensor, views: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The heads over all branches."""
        pooled, direct = text
        category = self.category(self.joint(pooled, numeric, views, mask))
        plain = torch.cat([mean_view(views.float(), mask), self._scaled(numeric)], 1)
        return category, direct + self.violation(plain).float()

    def embed(self, batch: Batch) -> Tensor:
        """(B, D) joint embedding of all branches: what the category head stands on."""
        weights, mask = self._shown(batch)
        pooled, _ = self.text(batch.ids, weights, batch.blocks, batch.offsets, batch.has_text)
        return self.joint(pooled, batch.numeric, batch.views, mask)

    def joint(self, pooled: Tensor, numeric: Tensor, views: Tensor, mask: Tensor) -> Tensor:
        """The branches side by side, (B, D)."""
        return torch.cat([pooled, self.photo(views.float(), mask), self.numbers(self._scaled(numeric))], 1)

    def _scaled(self, numeric: Tensor) -> Tensor:
        return (numeric - self.numeric_mean) / self.numeric_std

    def probabilities(self, answer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Category probabilities at the fitted temperature, (B, K), and violation probabilities (B, V)."""
        category, violation = answer
        return torch.softmax(category / self.log_temperature.exp(), 1), torch.sigmoid(violation)

    def _shown(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Text weights and photo mask; in training some rows lose a modality, so that the others learn to do without it."""
        if not self.training:
            return batch.weights, batch.mask
        config, n_rows, device = self.config, len(batch.mask), batch.mask.device
        draws = torch.rand(n_rows, device=device)
        keep = torch.ones(n_rows, len(self.text.lengths), device=device)
        keep[:, TITLE] = (draws >= config.hide_title).float()[:, None]
        with_description = (draws < config.hide_title) | (draws >= config.hide_title + config.hide_description)
        keep[:, DESCRIPTION] = with_description.float()[:, None]
        keep[:, ALL_WORDS] = (draws >= config.hide_title + config.hide_description).float()
        shown = torch.rand(n_rows, 1, device=device) >= config.hide_photos
        return batch.weights * keep[batch.rows, batch.blocks], batch.mask * shown


def mean_view(views: Tensor, mask: Tensor) -> Tensor:
    """(B, V, F) and (B, V) → (B, F); zero without photos."""
    return (views * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


class Exportable(nn.Module):
    """The detector as it is served: raw inputs in, probabilities out."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, ids: Tensor, counts: Tensor, numeric: Tensor, photos: Tensor, photo_index: Tensor) -> tuple[Tensor, Tensor]:
        detector = self.detector
        views = detector.stem(photos)[photo_index.long()]
        text = detector.text.padded(ids, counts)
        return detector.probabilities(detector.answer(text, numeric, views, (photo_index > 0).float()))
