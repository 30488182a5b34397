"""EfficientNet-Lite under efficientnet-pytorch's names: sizes, padding, and files that do not fit."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from curation.errors import InputError
from tests.launch import ROOT
from tests.unit.test_resnet import saved, served
from trainer import backbone, efficientnet, pretrained

N_PARAMETERS = {"lite0": 4_652_008, "lite1": 5_416_680, "lite2": 6_092_072, "lite3": 8_197_096, "lite4": 13_006_568}
"""Of the published models, the head of 1,000 classes among them."""


def weights(name: str = "lite0", n_classes: int = 10) -> dict[str, Tensor]:
    """Random weights with the head, as the packages hold them."""
    return saved(lambda: efficientnet.EfficientNetLite(name, 32), "_fc", n_classes)


def written(folder: Path, name: str = "lite0", **changes: Tensor) -> str:
    """A file of them, some replaced."""
    save_file({**weights(name), **changes}, folder / "lite.safetensors")
    return str(folder / "lite.safetensors")


@pytest.mark.parametrize("name", N_PARAMETERS)
def test_sizes_are_the_published_ones(name: str, tmp_path: Path) -> None:
    """Found by its tensors alone, whichever of the five it is; 1,280 features a photo."""
    made = weights(name, 1000)
    counted = [value.numel() for key, value in made.items() if "running" not in key and not key.endswith(pretrained.COUNTER)]
    assert sum(counted) == N_PARAMETERS[name]
    found = backbone.load(written(tmp_path, name), 32)
    assert found.width == 1280 and len(found.network._blocks) == len({key.split(".")[1] for key in made if "_blocks" in key})


@pytest.mark.parametrize(("px", "stride", "left", "right"), [(8, 2, 0, 1), (7, 2, 1, 1), (8, 1, 1, 1)])
def test_the_odd_pixel_is_padded_behind(px: int, stride: int, left: int, right: int) -> None:
    """As TensorFlow does, whose weights these are: torch would pad it on both sides and shift every stage."""
    same, photo = efficientnet.Same(1, 1, 3, px, stride), torch.rand(1, 1, px, px)
    padded = functional.pad(photo, (left, right, left, right))
    assert torch.equal(same(photo), functional.conv2d(padded, same.weight, stride=stride))
    assert same(photo).shape[-1] == -(-px // stride)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"_conv_stem.weight": torch.zeros(32, 3, 5, 5)}, r"_conv_stem.weight is \(32, 3, 5, 5\), expected \(32, 3, 3, 3\)"),
        ({"_bn1.bias": torch.full((1280,), float("inf"))}, "_bn1.bias has values that are not finite"),
        ({"_blocks.16._project_conv.weight": torch.zeros(320, 1)}, "17 blocks, the last 320 wide, as no EfficientNet-Lite"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, changes: dict[str, Tensor], told: str) -> None:
    """The message names the tensor and the shape that is expected (fault 48)."""
    with pytest.raises(InputError, match=told):
        backbone.load(written(tmp_path, **changes), 32)


def test_the_served_model_holds_it(tmp_path: Path) -> None:
    """ONNX Runtime answers as torch does, padding and all, for listings without photos as well."""
    n_bytes, difference = served(tmp_path, backbone=written(tmp_path), backbone_alone=True)
    assert n_bytes > 13_000_000 and difference < 1e-5


def test_published_weights_become_a_file_as_the_document_says(tmp_path: Path) -> None:
    """The lines of docs/detector.md, run; the file holds the network whole, and it sees pictures, not their mirror images."""
    lines = re.findall(r"^python - <<'END'\n(.*?)^END$", (ROOT / "docs/detector.md").read_text(), flags=re.S | re.M)
    subprocess.run([sys.executable, "-c", lines[0]], cwd=tmp_path, check=True)
    found = backbone.load(str(tmp_path / "lite0.safetensors"), 64)
    photos = np.linspace(0, 255, 3 * 64 * 64 * 3).reshape(3, 64, 64, 3).astype(np.uint8)
    photos[1], photos[2] = photos[0][:, ::-1], np.random.default_rng(1).integers(0, 256, photos[2].shape)
    one, mirrored, noise = found.encode(photos).float()
    assert found.width == 1280 and (one - mirrored).norm() < 0.5 * (one - noise).norm()
