"""Residual networks of 18, 34 and 50 layers (He et al., CVPR 2016) under torchvision's parameter names.

A file of weights that torchvision, timm or a model hub wrote as safetensors loads as it is; its head is left out. Stride lies
in the 3 × 3 convolution of a bottleneck, as in theirs.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from curation.errors import InputError, shorten
from trainer import pretrained

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
"""Blocks of each stage; those of resnet50 are bottlenecks."""

WIDTHS = (64, 128, 256, 512)
WIDENING = 4  # a bottleneck's outputs by its inner channels
HEAD = "fc."


class Block(nn.Module):
    """Two 3 × 3 convolutions, or the bottleneck of three, beside a shortcut."""

    def __init__(self, n_in: int, width: int, stride: int, is_bottleneck: bool) -> None:
        super().__init__()
        n_out = width * (WIDENING if is_bottleneck else 1)
        first, second = ((1, 1), (3, stride)) if is_bottleneck else ((3, stride), (3, 1))
        self.conv1, self.bn1 = _convolution(n_in, width, *first), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width, *second), nn.BatchNorm2d(width)
        if is_bottleneck:
            self.conv3, self.bn3 = _convolution(width, n_out, 1, 1), nn.BatchNorm2d(n_out)
        self.is_bottleneck, self.downsample = is_bottleneck, None
        if stride > 1 or n_in != n_out:
            self.downsample = nn.Sequential(_convolution(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        found = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.is_bottleneck:
            found = self.bn3(self.conv3(functional.relu(found)))
        return functional.relu(found + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """(P, 3, px, px) standardised pixels → (P, n_out): the last stage, averaged over the picture."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, name: str) -> None:
        super().__init__()
        is_bottleneck = name == "resnet50"
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        n_in = 64
        for stage, (n_blocks, width) in enumerate(zip(BLOCKS[name], WIDTHS, strict=True), start=1):
            blocks = []
            for at in range(n_blocks):
                blocks.append(Block(n_in, width, 2 if stage > 1 and at == 0 else 1, is_bottleneck))
                n_in = width * (WIDENING if is_bottleneck else 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.n_out = n_in

    @property
    def entrance(self) -> nn.Conv2d:
        """The convolution that sees the pixels."""
        return self.conv1

    def forward(self, pixels: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(pixels))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean((2, 3))


def load(weights: Mapping[str, Tensor], path: Path) -> ResNet:
    """The network of these weights, read from `path`, ready to be used as it is.

    Raises InputError naming the tensor and the shape where they are not of one of these networks, and where one is not finite.
    """
    name = _name(weights, path)
    network = ResNet(name)
    pretrained.put(network, weights, f"file {path} is no {name}", head=HEAD)
    return network


def _convolution(n_in: int, n_out: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)


def _name(weights: Mapping[str, Tensor], path: Path) -> str:
    """By the names of its tensors."""
    n_blocks = tuple(len({key.split(".")[1] for key in weights if key.startswith(f"layer{stage}.")}) for stage in range(1, 5))
    is_bottleneck = "layer1.0.conv3.weight" in weights
    for name, wanted in BLOCKS.items():
        if n_blocks == wanted and is_bottleneck == (name == "resnet50"):
            return name
    raise InputError(
        f"file {path} has {n_blocks} blocks {'of three' if is_bottleneck else 'of two'} convolutions in its four stages, as "
        f"none of {', '.join(BLOCKS)}; its tensors are {shorten(sorted(weights))}; name a file of one of these, or timm:NAME@FILE"
    )
