"""Checkpoints of a fit: what was killed ends as what never was, and nothing but our own whole files is gone on from."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from curation.errors import StaleLease
from tests import full_disk, pair
from tests.unit.test_trainer import CONFIG, rows, table
from trainer import loop
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.data import Table
from trainer.step import NotFiniteError

FEW = replace(CONFIG, epochs=4, n_threads=1, early_learning=2.0)
RECIPES = {name: config for name, config in pair.CASES.items() if name != "cells"}

Weights = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As every fit of these tests has."""
    torch.set_num_threads(1)


def checkpoints(tmp_path: Path) -> Checkpoints:
    """Of a run whose fits are kept after each epoch."""
    return Checkpoints.of(tmp_path, {"snapshot": "s"}, 0.0)


def fitted(made: Table, config: TrainConfig, saved: Checkpoints, n_epochs: int | None = None) -> Weights:
    """The weights of a fit, which is interrupted after so many epochs if any."""
    asked = iter(range(100))

    def lost() -> bool:
        return n_epochs is not None and next(asked) >= n_epochs

    n_train = len(made) * 3 // 4
    train, validation = rows(n_train), np.arange(n_train, len(made))
    found = loop.fit(made, train, validation, config=config, lost=lost, saved=saved.fit("whole", train, validation))
    remembered, _ = found.objective.remembered()
    return {**found.detector.state_dict(), **{f"remembered {name}": value for name, value in remembered.items()}}


def interrupted(made: Table, config: TrainConfig, saved: Checkpoints, n_epochs: int) -> None:
    """Leave a fit's checkpoints behind."""
    with pytest.raises(StaleLease):
        fitted(made, config, saved, n_epochs)


def same(ours: Weights, theirs: Weights) -> bool:
    """Whether all is equal to the bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", RECIPES)
def test_an_interrupted_fit_ends_as_one_that_never_was(tmp_path: Path, name: str) -> None:
    """Stopped after any epoch and gone on from its checkpoint, weights and memory are equal to the bit (fault 47)."""
    _, config, made = next(found for found in pair.tables(tmp_path) if found[0] == name)
    whole = fitted(made, config, Checkpoints.of(tmp_path / "whole", {}, 1e9))
    for n_epochs in range(1, config.epochs):
        saved = checkpoints(tmp_path / str(n_epochs))
        interrupted(made, config, saved, n_epochs)
        assert same(whole, fitted(made, config, saved)) and saved.resumed == {"whole": n_epochs}
        saved.clear()
        assert not saved.folder.exists()


def test_a_fit_that_has_ended_is_not_fitted_again(tmp_path: Path) -> None:
    """The checkpoint after its last epoch is its end (fault 47)."""
    made, saved = table(tmp_path), checkpoints(tmp_path)
    whole = fitted(made, FEW, saved)
    assert same(whole, fitted(made, FEW, saved)) and saved.resumed == {"whole": FEW.epochs}


def _renamed(path: Path, data: bytes) -> None:
    """Under the name that these bytes promise."""
    path.unlink()
    (path.parent / f"{path.name[:4]}-{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)


def _header(data: bytes, **changes: object) -> bytes:
    """With other words beside the tensors."""
    n = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + n])["__metadata__"]["about"])
    return save(load(data), {"about": json.dumps({**about, **changes})})


def _tensors(data: bytes, **changes: torch.Tensor) -> bytes:
    n = int.from_bytes(data[:8], "little")
    return save({**load(data), **changes}, json.loads(data[8 : 8 + n])["__metadata__"])


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-100],
    "empty": lambda _: b"",
    "old format": lambda data: _header(data, format="refurbish-checkpoint-0"),
    "no words": lambda data: save(load(data)),
    "epochs that do not fit": lambda data: _header(data, losses=[1.0]),
    "loss NaN": lambda data: _header(data, trained=[float("nan"), 1.0]),
    "extra keys": lambda data: _tensors(data, backdoor=torch.zeros(3)),
    "NaN weights": lambda data: _tensors(data, **{"network.text.table.weight": torch.full((1024, 8), torch.nan)}),
    "other shapes": lambda data: _tensors(data, **{"network.text.table.weight": torch.zeros(3, 8)}),
    "pickle in disguise": lambda _: b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'true'\ntR.",
    "zip of torch.save": lambda _: b"PK\x03\x04" + bytes(300),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Weights]:
    """Rows and what a fit of them ends with."""
    folder = tmp_path_factory.mktemp("kept")
    made = table(folder)
    return made, fitted(made, FEW, checkpoints(folder))


@pytest.mark.parametrize("is_renamed", [True, False], ids=["rehashed", "in place"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_checkpoint_that_is_not_ours_is_left_aside(
    kept: tuple[Table, Weights], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, is_renamed: bool
) -> None:
    """Cut off, of another format, with NaN, other keys, a pickle: refused with a message, the one before is used (fault 48)."""
    made, whole = kept
    saved = checkpoints(tmp_path)
    interrupted(made, FEW, saved, 2)
    newest = max(saved.folder.rglob("*.safetensors"))
    broken = BROKEN[name](newest.read_bytes())
    _renamed(newest, broken) if is_renamed else newest.write_bytes(broken)
    assert same(whole, fitted(made, FEW, saved)) and saved.resumed == {"whole": 1}
    assert "checkpoint not used" in capsys.readouterr().err


def test_a_fit_begins_anew_where_no_checkpoint_can_be_read(kept: tuple[Table, Weights], tmp_path: Path) -> None:
    """Of other rows none is looked at; where all are broken the fit begins at its first epoch (fault 48)."""
    made, whole = kept
    saved = checkpoints(tmp_path)
    interrupted(made, FEW, saved, 2)
    for path in saved.folder.rglob("*.safetensors"):
        path.write_bytes(b"garbage")
    assert same(whole, fitted(made, FEW, saved)) and not saved.resumed
    assert Checkpoints.of(tmp_path, {"snapshot": "t"}, 0.0).folder != saved.folder


def test_a_full_disk_costs_the_checkpoint_and_not_the_fit(
    kept: tuple[Table, Weights], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever operation fails, the fit ends as it would have, no half file stays, and what stays is read (fault 49)."""
    made, whole = kept
    few = replace(FEW, epochs=1)
    short = fitted(made, few, checkpoints(tmp_path / "whole"))
    n = full_disk.every(lambda: fitted(made, few, checkpoints(tmp_path / "count")), tmp_path / "count")
    for nth in range(1, n + 1):
        saved = checkpoints(tmp_path / str(nth))
        with full_disk.failing(tmp_path / str(nth), nth) as disk:
            assert same(short, fitted(made, few, saved)) and disk.n_failed == 1
        assert "checkpoint not written" in capsys.readouterr().err and not list((tmp_path / str(nth)).rglob(".part-*"))
    saved = checkpoints(tmp_path / "full")
    with full_disk.failing(tmp_path / "full", n + 2, stays_full=True):
        interrupted(made, FEW, saved, 3)
    assert same(whole, fitted(made, FEW, saved)) and saved.resumed == {"whole": 1}


def test_no_checkpoint_of_nan(tmp_path: Path) -> None:
    """A gradient that explodes stops the fit with the listings named, and nothing of that epoch was kept (fault 45)."""
    made, saved = table(tmp_path), checkpoints(tmp_path)
    with pytest.raises(NotFiniteError, match=r"became .* on a batch of \d+ listings, \['r"):
        fitted(made, replace(FEW, rate=1e30, embedding_rate=1e30, warmup_steps=1), saved)
    for path in saved.folder.rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in load(path.read_bytes()).values() if value.is_floating_point())


def test_interrupted_runs_do_not_fill_the_disk(tmp_path: Path) -> None:
    """Of ten that were never gone on from a few are left, the newest and the run's own; what is a week old goes (fault 49)."""
    left = [Checkpoints.of(tmp_path, {"snapshot": str(at)}, 0.0).folder for at in range(10)]
    for age, folder in enumerate(left):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age * 60,) * 2)
    os.utime(left[1], (0, 0))
    again = Checkpoints.of(tmp_path, {"snapshot": "9"}, 0.0)
    assert {path for path in left if path.exists()} == {left[0], left[2], left[3], again.folder}
