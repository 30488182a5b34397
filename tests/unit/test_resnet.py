"""Networks for photos: torchvision's names, files that do not fit, features kept from run to run."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from curation.catalog.features import Features, Featurizer
from curation.errors import ConfigError, InputError
from curation.store.files import FileStore
from tests.unit.test_scorer import CLASSES, POLICY, listings
from tests.unit.test_trainer import CONFIG, SHAPE
from trainer import backbone, efficientnet, loop, onnx, pretrained, resnet
from trainer.config import TrainConfig, read_files
from trainer.model import Detector

N_KEYS = {"resnet18": 122, "resnet34": 218, "resnet50": 320}
N_PARAMETERS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}
"""Of torchvision's state dicts and models, the head of 1,000 classes among them."""

NAMES = (
    "conv1.weight",
    "bn1.running_var",
    "layer1.0.conv1.weight",
    "layer2.0.downsample.0.weight",
    "layer4.1.bn2.bias",
    "fc.weight",
)


def weights(name: str = "resnet18", n_classes: int = 1000) -> dict[str, Tensor]:
    """Random weights with the head, as torchvision would save them."""
    return saved(lambda: resnet.ResNet(name), "fc", n_classes)


def saved(network: Callable[[], resnet.ResNet | efficientnet.EfficientNetLite], head: str, n_classes: int) -> dict[str, Tensor]:
    """A network's random weights, the same each time, with a head under this name."""
    torch.manual_seed(5)
    made = network()
    for value in made.buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    setattr(made, head, nn.Linear(made.n_out, n_classes))
    return {key: value.contiguous() for key, value in made.state_dict().items()}


def written(folder: Path, **changes: Tensor | None) -> Path:
    """A file of resnet18, some tensors replaced or left out."""
    found: dict[str, Tensor | None] = {**weights(n_classes=10), **changes}
    save_file({key: value for key, value in found.items() if value is not None}, folder / "net.safetensors")
    return folder / "net.safetensors"


def _loaded(path: Path) -> nn.Module:
    return backbone.load(str(path), 40).network


@pytest.mark.parametrize("name", N_KEYS)
def test_names_and_sizes_are_torchvisions(name: str) -> None:
    """As many tensors and parameters, under the same names."""
    found = weights(name)
    n_parameters = sum(value.numel() for key, value in found.items() if "running" not in key and "tracked" not in key)
    assert len(found) == N_KEYS[name] and n_parameters == N_PARAMETERS[name]
    assert set(NAMES) <= set(found) and ("layer1.0.downsample.0.weight" in found) == (name == "resnet50")


def test_a_file_is_loaded_without_its_head(tmp_path: Path) -> None:
    """The features are those of the network that was saved, whether or not batches were counted."""
    counters = {key: None for key in weights() if key.endswith(pretrained.COUNTER)}
    photos, found = torch.rand(2, 3, 40, 40), [_loaded(written(tmp_path, **changes)) for changes in ({}, counters)]
    made = resnet.ResNet("resnet18").eval()
    made.load_state_dict({key: value for key, value in weights().items() if not key.startswith("fc.")})
    assert all(torch.equal(one(photos), made(photos)) for one in found) and made(photos).shape == (2, 512)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1.weight is \(64, 3, 3, 3\), expected \(64, 3, 7, 7\)"),
        ({"bn1.bias": None}, r"bn1.bias \(64,\) is missing"),
        ({"bn1.bias": torch.full((64,), float("nan"))}, "bn1.bias has values that are not finite"),
        ({"layer4.1.extra": torch.zeros(1)}, "layer4.1.extra"),
        ({"layer4.2.conv1.weight": torch.zeros(1)}, "none of resnet18"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, changes: dict[str, Tensor | None], told: str) -> None:
    """The message names the tensor and the shape that is expected (fault 48)."""
    with pytest.raises(InputError, match=told):
        _loaded(written(tmp_path, **changes))


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    """Other bytes, a file that is gone, and packages that are not installed (fault 48)."""
    (tmp_path / "net.safetensors").write_bytes(b"\x80\x04 not weights")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        backbone.load(str(tmp_path / "net.safetensors"), 32)
    with pytest.raises(ConfigError, match="is not there"):
        backbone.load(str(tmp_path / "gone.safetensors"), 32)
    with pytest.raises(ConfigError, match="timm:resnet18@FILE"):
        backbone.load("timm:resnet18", 32)


@pytest.mark.parametrize("package", ["timm", "transformers"])
def test_a_missing_package_is_named(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install, and what needs nothing."""
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    (tmp_path / "config.json").write_text("{}")
    source = f"timm:resnet18@{written(tmp_path)}" if package == "timm" else f"transformers:{tmp_path}"
    with pytest.raises(ConfigError, match=rf"refurbish\[{package}\]"):
        backbone.load(source, 32)


def test_a_photo_passes_through_the_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run finds the features of the first, of other photos only those that are new are computed."""
    photos = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    cache = tmp_path / "cache"
    first = backbone.load(str(written(tmp_path)), 32, cache).encode(photos[:4])
    asked: list[int] = []
    computed = backbone.Backbone._computed
    monkeypatch.setattr(backbone.Backbone, "_computed", lambda self, some: asked.append(len(some)) or computed(self, some))
    (cache / "backbone-broken.npy").write_bytes(b"cut off")
    again = backbone.load(str(written(tmp_path)), 32, cache).encode(photos[[4, 3, 2, 1, 0]])
    assert asked == [1] and torch.equal(again[1:], first[[3, 2, 1, 0]])
    backbone.load(str(written(tmp_path, **{"bn1.bias": torch.ones(64)})), 32, cache).encode(photos)
    assert asked == [1, 5]


def features(tmp_path: Path) -> tuple[Features, FileStore]:
    """Of a few listings with none, one and two photos."""
    media = FileStore(tmp_path / "media")
    return Featurizer(SHAPE).transform(listings(media), media), media


def untrained(config: TrainConfig, found: Features) -> Detector:
    """Random weights under a stem that has seen the photos."""
    made = Detector(config, SHAPE, CLASSES, len(POLICY), stem=loop.stem_of(found, np.arange(8), config)).eval()
    torch.nn.init.normal_(made.violation.weight, 0, 0.1)
    return made


def served(tmp_path: Path, **changes: object) -> tuple[int, float]:
    """Bytes of a served model with this backbone, and how far it is from torch for a listing, with photos or without."""
    found, media = features(tmp_path)
    made = untrained(TrainConfig.from_json({**CONFIG.to_json(), **changes}), found)
    kept = onnx.export(made, media, shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    scorer = onnx.Scorer.load(media, kept.onnx_sha256, kept.sidecar_sha256)
    return kept.n_bytes, max(onnx.difference(scorer, made, found, np.array([row])) for row in range(8))


@pytest.mark.parametrize("alone", [False, True])
def test_the_served_model_holds_the_backbone(tmp_path: Path, alone: bool) -> None:
    """ONNX Runtime answers as torch does from the photos' pixels, and embeds as torch does."""
    n_bytes, difference = served(tmp_path, backbone=str(written(tmp_path)), backbone_alone=alone)
    assert n_bytes > 40_000_000 and difference < 1e-5


def test_a_backbone_is_standardised_and_never_trained(tmp_path: Path) -> None:
    """Features of the training photos have mean 0 and deviation 1, and training mode changes nothing."""
    found, _ = features(tmp_path)
    config = TrainConfig.from_json({**CONFIG.to_json(), "backbone": str(written(tmp_path)), "backbone_alone": True})
    stem = loop.stem_of(found, np.arange(8), config).train()
    encoded = stem.encode(found.photos[1:]).float()
    assert encoded.mean(0).abs().max() < 0.01 and not any(value.requires_grad for value in stem.parameters())
    assert torch.allclose(encoded, stem(torch.from_numpy(found.photos[1:])), atol=0.05)


def test_a_backbone_is_named_by_its_path(tmp_path: Path) -> None:
    """`backbone=@FILE` is the file's full path; one that is not there is told at once."""
    assert read_files({"backbone": f"@{written(tmp_path)}"}) == {"backbone": str(tmp_path / "net.safetensors")}
    with pytest.raises(ConfigError, match="no such file"):
        read_files({"backbone": "@gone.safetensors"})
    with pytest.raises(ConfigError, match="backbone_alone"):
        TrainConfig(backbone_alone=True)
