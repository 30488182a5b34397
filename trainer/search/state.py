"""A search on disk: one safetensors file, replaced at once."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as bytes_of
from torch import Tensor

from curation.errors import InputError, NotFoundError, shorten
from curation.store.files import write_atomic

FORMAT = "refurbish-search-2"


def write(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors and what is said about them; an older file stays whole until the new one is."""
    told = json.dumps({"format": FORMAT, **about}, allow_nan=False)
    write_atomic(path, bytes_of({name: value.detach().contiguous() for name, value in tensors.items()}, {"about": told}))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write` kept. Raises NotFoundError, and InputError on anything else than such a file."""
    if not path.is_file():
        raise NotFoundError(f"there is no saved search at {path}; begin one, or name its file")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {shorten(about['format'])}, this release reads {FORMAT}")
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no state of a search: {shorten(str(error))}; remove it to begin anew") from error


def of_optimizer(kind: str, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """What an optimizer remembers, under names that begin with its kind."""
    for at, values in optimizer.state_dict()["state"].items():
        yield from ((f"{kind}.{at}.{name}", value) for name, value in values.items() if value is not None)


def into_optimizer(kind: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put it back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{kind}."):
            _, at, key = name.split(".")
            state.setdefault(int(at), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
