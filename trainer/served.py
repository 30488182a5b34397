"""The detector as a graph that is quick to run: the same answers as `trainer.model.Exportable`, by fewer and smaller steps.

What is constant is folded into weights. Columns of n-grams that no listing of the batch fills are left out, and so is the blank
photo, which every batch holds and no listing shows.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.image import COLOUR_GRID, FLATNESS, GRID, PATCH_PX, STRIDE_PX, THRESHOLD, PhotoStem
from trainer.model import Detector, Exportable
from trainer.text import EPSILON, N_TEXT_BLOCKS, TextBranch


class FoldedStem(nn.Module):
    """(1 + P, px, px, 3) uint8, the first one blank → (1 + P, F), 0 for the blank one; else as `PhotoStem`."""

    kernels: Tensor
    high: Tensor
    low: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, stem: PhotoStem) -> None:
        super().__init__()
        self.width, self.n_filters = stem.width, len(stem.filters)
        centred = stem.filters - stem.filters.mean((1, 2, 3), keepdim=True)
        self.register_buffer("kernels", centred / 255)
        self.register_buffer("high", (stem.offset + THRESHOLD)[:, None, None])
        self.register_buffer("low", (stem.offset - THRESHOLD)[:, None, None])
        self.register_buffer("mean", stem.mean.clone())
        self.register_buffer("std", stem.std.clone())

    def forward(self, photos: Tensor) -> Tensor:
        step = ((photos.shape[1] - PATCH_PX) // STRIDE_PX + 1) // GRID
        pixels = photos[1:].permute(0, 3, 1, 2).to(torch.float32)
        seen = step * GRID * STRIDE_PX + PATCH_PX - STRIDE_PX
        patches = pixels[:, :, :seen, :seen]
        found = functional.conv2d(patches, self.kernels, stride=STRIDE_PX) * _contrast(patches)
        either = functional.relu(found - self.high), functional.relu(self.low - found)
        regions = torch.cat([functional.avg_pool2d(one, step) for one in either], 1).flatten(1).sqrt()
        edge = photos.shape[1] // COLOUR_GRID
        colours = functional.avg_pool2d(pixels[:, :, : edge * COLOUR_GRID, : edge * COLOUR_GRID], edge).flatten(1) / 255
        views = (torch.cat([regions, colours], 1) - self.mean) / self.std
        return torch.cat([torch.zeros(1, self.width), views])


def _contrast(pixels: Tensor) -> Tensor:
    """One over the standard deviation of each patch, (P, 1, n, n), in units of full brightness."""
    mean, square = (
        functional.avg_pool2d(one.mean(1, keepdim=True), PATCH_PX, STRIDE_PX) for one in (pixels / 255, (pixels / 255).square())
    )
    return ((square - mean * mean).clamp_min(0) + FLATNESS).rsqrt()


class PackedText(nn.Module):
    """As `TextBranch.padded`, over the columns that some listing fills."""

    block_of: Tensor
    belongs: Tensor
    scale_of: Tensor
    known: Tensor
    table: Tensor
    absent: Tensor

    def __init__(self, text: TextBranch) -> None:
        super().__init__()
        n_blocks = len(text.lengths)
        block_of = torch.repeat_interleave(torch.arange(n_blocks), torch.tensor(text.lengths))
        self.register_buffer("block_of", block_of.int())
        self.register_buffer("belongs", functional.one_hot(block_of, n_blocks).float())
        self.register_buffer("scale_of", text.direct_scale[block_of])
        self.register_buffer("known", torch.cat([text.idf[:, None], text.direct], 1))
        self.register_buffer("table", text.table.weight.detach().clone())
        self.register_buffer("absent", text.absent.detach().clone())

    def padded(self, ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        used = torch.nonzero(ids.amax(0)).squeeze(1)
        ids, counts, belongs, block_of = ids[:, used], counts[:, used].float(), self.belongs[used], self.block_of[used]
        known = self.known[ids]
        raw = known[:, :, 0] * (counts.clamp_min(1).log() + 1)
        lengths = (torch.matmul(raw * raw, belongs) + EPSILON).rsqrt()
        weights = raw * lengths[:, block_of]
        bags = torch.matmul(weights[:, None], self.table[ids]).squeeze(1)
        direct = torch.matmul((weights * self.scale_of[used])[:, None], known)[:, 0, 1:]
        has_text = torch.matmul(counts, belongs)[:, :N_TEXT_BLOCKS].amax(1, keepdim=True) > 0
        return torch.where(has_text, bags, bags + self.absent), direct


def served(detector: Detector) -> Exportable:
    """The detector with its text and, if they are patch filters, its photos the quick way. It is not changed itself."""
    lean = copy.copy(detector)
    lean._modules = dict(detector._modules)
    lean._modules["text"] = PackedText(detector.text)
    if type(detector.stem) is PhotoStem:
        lean._modules["stem"] = FoldedStem(detector.stem)
    return Exportable(lean).eval()
