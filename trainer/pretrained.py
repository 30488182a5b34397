"""Files of a network's weights that was trained elsewhere: read, and held to the network's own names and shapes."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from curation.errors import InputError, shorten

COUNTER = "num_batches_tracked"
"""Of training; files of older releases lack it, and nothing depends on it."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises InputError where it is none."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"file {path} cannot be read as safetensors: {shorten(str(error))}; name a .safetensors file, "
            "other weights become one by safetensors.torch.save_file"
        ) from error


def put(network: nn.Module, weights: Mapping[str, Tensor], what: str, *, head: str) -> None:
    """Give a network its weights and freeze it; tensors under `head` are left out.

    Raises InputError naming the tensor and the shape where they are not of this network, and where one is not finite.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items() if not key.endswith(COUNTER)}
    found = {key: value for key, value in weights.items() if not key.startswith(head) and not key.endswith(COUNTER)}
    _check(found, wanted, what)
    network.load_state_dict(found, strict=False)
    network.requires_grad_(False).eval()


def _check(found: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], what: str) -> None:
    for key, shape in wanted.items():
        if key not in found:
            raise InputError(f"{what}: {key} {shape} is missing; write the file again with all of the network's tensors")
        if tuple(found[key].shape) != shape:
            raise InputError(
                f"{what}: {key} is {tuple(found[key].shape)}, expected {shape}; name a file whose tensors have these shapes"
            )
        if not torch.isfinite(found[key].float()).all():
            raise InputError(f"{what}: {key} has values that are not finite; write the file again")
    unknown = sorted(set(found) - set(wanted))
    if unknown:
        raise InputError(f"{what}: it has tensors of another network, {shorten(unknown)}; name a file of this one's alone")
