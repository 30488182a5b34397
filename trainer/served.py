"""The detector as a graph that is quick to run: the same answers as `trainer.model.Exportable`, by fewer and smaller steps.

What is constant is folded into weights. Columns of n-grams that no listing of the batch fills are left out, and so is the blank
photo, which every batch holds and no listing shows, wherever there is another one.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.backbone import Backbone
from trainer.efficientnet import EfficientNetLite
from trainer.image import COLOUR_GRID, FLATNESS, GRID, PATCH_PX, STRIDE_PX, THRESHOLD, PhotoStem, SideBySide, Stem
from trainer.model import Detector, Exportable
from trainer.resnet import ResNet
from trainer.text import EPSILON, N_TEXT_BLOCKS, TextBranch

BRIGHTEST = 255.0
LEAST = 1e-12  # instead of the zero scale of an empty row


class FoldedStem(Stem):
    """(1 + P, px, px, 3) uint8, the first one blank → (1 + P, F), 0 for the blank one; else as `PhotoStem`."""

    kernels: Tensor
    high: Tensor
    low: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, stem: PhotoStem, photo_px: int) -> None:
        super().__init__()
        self.width, self.edge = stem.width, photo_px // COLOUR_GRID
        self.step = ((photo_px - PATCH_PX) // STRIDE_PX + 1) // GRID
        self.seen = self.step * GRID * STRIDE_PX + PATCH_PX - STRIDE_PX
        self.coloured = self.edge * COLOUR_GRID
        self.is_cut = self.coloured < photo_px
        unit = torch.ones(stem.width)
        unit[-3 * COLOUR_GRID**2 :] = BRIGHTEST
        self.register_buffer("kernels", stem.filters - stem.filters.mean((1, 2, 3), keepdim=True))
        self.register_buffer("high", (stem.offset + THRESHOLD)[:, None, None])
        self.register_buffer("low", (stem.offset - THRESHOLD)[:, None, None])
        self.register_buffer("mean", stem.mean * unit)
        self.register_buffer("std", stem.std * unit)

    def forward(self, photos: Tensor) -> Tensor:
        pixels = photos[1:].permute(0, 3, 1, 2).to(torch.float32)
        patches = pixels[:, :, : self.seen, : self.seen]
        found = functional.conv2d(patches, self.kernels, stride=STRIDE_PX) / _deviation(patches)
        either = functional.relu(found - self.high), functional.relu(self.low - found)
        regions = torch.cat([functional.avg_pool2d(one, self.step) for one in either], 1).flatten(1).sqrt()
        coloured = pixels[:, :, : self.coloured, : self.coloured] if self.is_cut else pixels
        colours = functional.avg_pool2d(coloured, self.edge).flatten(1)
        return torch.cat([torch.zeros(1, self.width), (torch.cat([regions, colours], 1) - self.mean) / self.std])


class FoldedBackbone(Stem):
    """As `Backbone`; its first convolution sees pixels as they are, but for their mean."""

    middle: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, network: EfficientNetLite | ResNet) -> None:
        """`network`: the backbone's."""
        super().__init__()
        self.width, self.takes_none = backbone.width, backbone.takes_none
        self.convolutions = copy.deepcopy(network)
        self.convolutions.entrance.weight.div_(BRIGHTEST * backbone.pixel_std)
        middle = BRIGHTEST * backbone.pixel_mean
        self.register_buffer("middle", middle[0, 0, 0] if bool((middle == middle[0]).all()) else middle)
        self.register_buffer("mean", backbone.mean)
        self.register_buffer("std", backbone.std)

    def forward(self, photos: Tensor) -> Tensor:
        """(P, px, px, 3) → (P, F) where it takes none, else (1 + P, px, px, 3) → (1 + P, F), 0 for the first."""
        if self.takes_none:
            return self._seen(photos)
        found = self._seen(photos[_first_shown(photos) :])
        return torch.cat([torch.zeros(1, self.width), found])[: photos.shape[0]]

    def _seen(self, photos: Tensor) -> Tensor:
        pixels = photos.permute(0, 3, 1, 2).to(torch.float32) - self.middle
        found: Tensor = (self.convolutions(pixels) - self.mean) / self.std
        return found


def _first_shown(photos: Tensor) -> Tensor:
    """1, past the blank photo; 0 where there is no other, since ONNX Runtime runs some networks on one photo at least."""
    n_photos = torch.ones((), dtype=torch.int64) * photos.shape[0]  # a plain number would be a constant of the trace
    return (n_photos - 1).clamp(max=1)


def _deviation(pixels: Tensor) -> Tensor:
    """Standard deviation of each patch (P, 1, n, n), never 0, in the unit of the pixels, which is 1/255 of full brightness."""
    mean, square = (functional.avg_pool2d(one.mean(1, keepdim=True), PATCH_PX, STRIDE_PX) for one in (pixels, pixels * pixels))
    return ((square - mean * mean).clamp_min(0) + FLATNESS * BRIGHTEST**2).sqrt()


class PackedText(nn.Module):
    """As `TextBranch.padded`, over the columns that some listing fills.

    Rows of the table are stored with their largest value apart, in [-1, 1], beside what else is known of a bucket: memory is
    visited twice for each n-gram, and its visits are what a single listing's text costs.
    """

    block_of: Tensor
    belongs: Tensor
    scale_of: Tensor
    known: Tensor
    table: Tensor
    absent: Tensor
    absent_attributes: Tensor

    def __init__(self, text: TextBranch) -> None:
        super().__init__()
        n_blocks = len(text.lengths)
        block_of = torch.repeat_interleave(torch.arange(n_blocks), torch.tensor(text.lengths))
        self.register_buffer("block_of", block_of.int())
        self.register_buffer("belongs", functional.one_hot(block_of, n_blocks).float())
        self.register_buffer("scale_of", text.direct_scale[block_of])
        table = text.table.weight.detach()
        largest = table.abs().amax(1, keepdim=True).clamp_min(LEAST)
        self.register_buffer("known", torch.cat([text.idf[:, None], largest, text.direct], 1))
        self.register_buffer("table", table / largest)
        self.register_buffer("absent", text.absent.detach().clone())
        self.register_buffer("absent_attributes", text.absent_attributes.detach().clone())

    def padded(self, ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        used = torch.nonzero(ids.amax(0)).squeeze(1)
        ids, counts, belongs, block_of = ids[:, used], counts[:, used].float(), self.belongs[used], self.block_of[used]
        known = self.known[ids]
        raw = known[:, :, 0] * (counts.clamp_min(1).log() + 1)
        lengths = (torch.matmul(raw * raw, belongs) + EPSILON).rsqrt()
        weights = raw * lengths[:, block_of]
        bags = torch.matmul((weights * known[:, :, 1])[:, None], self.table[ids]).squeeze(1)
        direct = torch.matmul((weights * self.scale_of[used])[:, None], known)[:, 0, 2:]
        n_grams = torch.matmul(counts, belongs)
        has_text, has_attributes = (
            part.amax(1, keepdim=True) > 0 for part in (n_grams[:, :N_TEXT_BLOCKS], n_grams[:, N_TEXT_BLOCKS:])
        )
        text = torch.where(has_text, bags, bags + self.absent)
        return torch.where(has_attributes, text, text + self.absent_attributes), direct


def served(detector: Detector, photo_px: int) -> Exportable:
    """The detector with its text and, if they are patch filters, its photos the quick way. It is not changed itself."""
    lean = copy.copy(detector)
    lean._modules = dict(detector._modules)
    lean._modules["text"] = PackedText(detector.text)
    lean._modules["stem"] = _folded(detector.stem, photo_px)
    return Exportable(lean).eval()


@torch.no_grad()
def _folded(stem: Stem, photo_px: int) -> Stem:
    if isinstance(stem, SideBySide):
        return SideBySide(*(part if isinstance(part, PhotoStem) else _folded(part, photo_px) for part in stem.stems))
    if isinstance(stem, PhotoStem):
        return FoldedStem(stem, photo_px)
    if isinstance(stem, Backbone) and isinstance(stem.network, EfficientNetLite | ResNet):
        return FoldedBackbone(stem, stem.network)
    return stem
