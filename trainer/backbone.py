"""Frozen networks beside or instead of the patch filters: their features of each photo are computed once and kept.

`TrainConfig.backbone` names one: a file of weights of a ResNet (`trainer.resnet`) or an EfficientNet-Lite
(`trainer.efficientnet`), ``timm:NAME@FILE`` or ``transformers:FOLDER``.
The last two need packages of their own, which are imported only then; nothing is ever downloaded.
"""

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curation.catalog import segments
from curation.errors import ConfigError, InputError, shorten
from curation.store.files import sha256_of_file
from trainer import efficientnet, pretrained, resnet
from trainer.image import Stem

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1], red, green, blue: what the published weights were trained with."""

BATCH = 64
PIXELS_AT_ONCE = 8 * 128**2
"""On a processor: tensors of more photos are given back to the system after each layer, which takes longer than the layer."""

SEGMENT = 4096  # photos a file of the cache; what a run that is cut off loses at most
KEY_BYTES = 16
SMALLEST_STD = 1e-2
SAFETENSORS = ".safetensors"

Pixels = NDArray[np.uint8]
Kept = NDArray[np.float16]


class Backbone(Stem):
    """(P, px, px, 3) uint8 → (P, width) float: a frozen network's pooled features, standardised on the training photos."""

    pixel_mean: Tensor
    pixel_std: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, width: int, cache: "FeatureCache", mean: Any = MEAN, std: Any = STD) -> None:
        super().__init__()
        self.network, self.width, self.cache = network.requires_grad_(False), width, cache
        self.takes_none = isinstance(network, resnet.ResNet)  # not a vision transformer, nor what ONNX Runtime reshapes in blocks
        for name, values in (("pixel_mean", mean), ("pixel_std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None])
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Frozen: its normalisation never follows the batch."""
        return super().train(False)

    def forward(self, photos: Tensor) -> Tensor:
        return (self._raw(photos) - self.mean) / self.std

    def _raw(self, photos: Tensor) -> Tensor:
        pixels = photos.permute(0, 3, 1, 2).to(torch.float32) / 255
        found: Tensor = self.network((pixels - self.pixel_mean) / self.pixel_std).float()
        return found

    @torch.no_grad()
    def encode(self, photos: Pixels) -> Tensor:
        """All photos as half floats on the network's device; those that were seen before come from the cache."""
        device, kept = self.mean.device, self.cache.load(photos, self._computed)
        parts = (torch.from_numpy(kept[at : at + SEGMENT]).to(device).float() for at in range(0, len(kept), SEGMENT))
        return torch.cat([((part - self.mean) / self.std).half() for part in parts])

    @torch.no_grad()
    def learn(self, photos: Pixels, rng: np.random.Generator) -> None:
        """Set mean and deviation of each feature to those of these photos; without photos they stay 0 and 1. Nothing is drawn."""
        if len(photos):
            kept = self.cache.load(photos, self._computed).astype(np.float32)
            self.mean.copy_(torch.from_numpy(kept.mean(0)))
            self.std.copy_(torch.from_numpy(kept.std(0) + SMALLEST_STD))

    @torch.no_grad()
    def _computed(self, photos: Pixels) -> Kept:
        device = self.mean.device
        batch = BATCH if device.type != "cpu" else max(1, PIXELS_AT_ONCE // photos[0, :, :, 0].size)
        parts = [self._raw(torch.from_numpy(photos[at : at + batch]).to(device)).half() for at in range(0, len(photos), batch)]
        found: Kept = torch.cat(parts).cpu().numpy()
        if not np.isfinite(found).all():
            raise InputError("the backbone gave features that are not finite; its weights are not those of this network")
        return found


class FeatureCache:
    """Features of photos by their pixels, in immutable files `<name>-*.npy` under `root`; None keeps them in memory.

    The key is a hash of the decoded pixels, which are all that the network sees: another size, or another decoder, is
    another photo. Several processes may share the folder; photos of a file that cannot be read are computed again.
    """

    def __init__(self, root: Path | None, name: str, width: int) -> None:
        self.root, self.name = root, name
        self._dtype = np.dtype([("key", f"S{2 * KEY_BYTES}"), ("features", np.float16, (width,))])
        self._segments: list[NDArray[np.void]] = [] if root is None else [*segments.stored(root, name, self._dtype)]

    def load(self, photos: Pixels, compute: Callable[[Pixels], Kept]) -> Kept:
        """(P, F) features; `compute` is asked for those of photos that were never seen, a segment at a time."""
        keys = np.array([hashlib.blake2b(photo, digest_size=KEY_BYTES).hexdigest() for photo in photos], self._dtype["key"])
        found = np.zeros((len(photos), *self._dtype["features"].shape), np.float16)
        is_missing = np.ones(len(photos), bool)
        for segment in self._segments:
            order = np.argsort(segment["key"], kind="stable")
            near = order[np.searchsorted(segment["key"], keys, sorter=order).clip(max=len(segment) - 1)]
            is_here = is_missing & (segment["key"][near] == keys)
            found[is_here] = segment["features"][near[is_here]]
            is_missing &= ~is_here
        missing = np.flatnonzero(is_missing)
        for at in range(0, len(missing), SEGMENT):
            rows = missing[at : at + SEGMENT]
            found[rows] = compute(photos[rows])
            self._keep(keys[rows], found[rows])
        return found

    def _keep(self, keys: NDArray[np.bytes_], features: Kept) -> None:
        segment = np.zeros(len(keys), self._dtype)
        segment["key"], segment["features"] = keys, features
        if self.root is not None:
            segment = np.load(segments.store(self.root, self.name, segment), mmap_mode="r", allow_pickle=False)
        self._segments.append(segment)


class _Pooled(nn.Module):
    """One vector of whatever a model of transformers answers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        answer = self.model(pixel_values=pixels)
        pooled: Tensor | None = getattr(answer, "pooler_output", None)
        return (answer.last_hidden_state.mean(1) if pooled is None else pooled).flatten(1)


def load(source: str, px: int, cache: Path | None = None) -> Backbone:
    """The network that `TrainConfig.backbone` names, with its cache for photos of `px` pixels under that folder.

    Raises ConfigError where a package or a file is missing, InputError where the weights do not fit.
    """
    kind, _, named = source.partition(":")
    mean, std = MEAN, STD
    if kind == "timm" and named:
        name, _, file = named.partition("@")
        network, mean, std = _of_timm(name, Path(file))
        sha256 = sha256_of_file(Path(file))
    elif kind == "transformers" and named:
        network, sha256 = _of_transformers(Path(named)), _sha256_of_folder(Path(named))
    else:
        network, mean, std = _of_file(_required(Path(source)), px)
        sha256 = sha256_of_file(Path(source))
    width = _width(network.eval(), px, source)
    return Backbone(network, width, FeatureCache(cache, f"backbone-{sha256[:16]}-{px}", width), mean, std)


@torch.no_grad()
def _width(network: nn.Module, px: int, source: str) -> int:
    try:
        found = network(torch.zeros(1, 3, px, px))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"backbone={shorten(source)} cannot read photos of {px} pixels: {shorten(str(error))}; set photo_px to its own size"
        ) from error
    if found.ndim != 2:
        raise InputError(f"backbone={shorten(source)} answers {tuple(found.shape)}, not one vector a photo; name another")
    return int(found.shape[1])


def _required(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"backbone {path} is not there; name a file of weights as backbone=@FILE{SAFETENSORS}")
    return path


def _of_file(path: Path, px: int) -> tuple[nn.Module, Any, Any]:
    """The network whose tensors these are, and the mean and deviation of its pixels."""
    weights = pretrained.read(path)
    if efficientnet.STEM in weights:
        return efficientnet.load(weights, path, px), efficientnet.MEAN, efficientnet.STD
    return resnet.load(weights, path), MEAN, STD


def _of_timm(name: str, file: Path) -> tuple[nn.Module, Any, Any]:
    """The model and the mean and deviation of its pixels."""
    if not file.name.endswith(SAFETENSORS):
        raise ConfigError(f"backbone=timm:{name} names no weights; write backbone=timm:{name}@FILE{SAFETENSORS}")
    _required(file)
    timm = _imported("timm", f"timm:{name}")
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, num_classes=0)
    about = network.pretrained_cfg
    return network, about.get("mean", MEAN), about.get("std", STD)


def _of_transformers(folder: Path) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"backbone=transformers:{folder} has no config.json; name the folder of a saved model")
    transformers = _imported("transformers", f"transformers:{folder}")
    return _Pooled(transformers.AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True))


def _imported(package: str, source: str) -> Any:
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError) as error:  # a torchvision that does not fit torch raises RuntimeError
        raise ConfigError(
            f"backbone={shorten(source)} needs the package {package}, which cannot be imported: {shorten(str(error))}; "
            f"pip install 'refurbish[{package}]', or name a file of ResNet or EfficientNet-Lite weights, which needs nothing"
        ) from error


def _sha256_of_folder(folder: Path) -> str:
    files = [folder / "config.json", *sorted(folder.glob(f"*{SAFETENSORS}"))]
    return hashlib.sha256("".join(sha256_of_file(path) for path in files).encode()).hexdigest()
