"""Fits that several processes share, run by `torchrun`: what each of them ends with, as files for a test to compare.

torchrun --standalone --nproc-per-node 2 -m tests.pair FOLDER
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from curation.errors import StaleLease
from curation.store.files import FileStore
from tests.unit import test_sequence
from tests.unit.test_refurbish import noisy
from tests.unit.test_trainer import CONFIG
from trainer import loop
from trainer.checkpoint import UNSAVED, Checkpoint, Checkpoints
from trainer.config import TrainConfig
from trainer.data import Table
from trainer.processes import ALONE, Processes, joined

N_TRAIN = 49  #: of batches of 16: the last one is a row, of which one of two processes has nothing
SMALL = replace(CONFIG, epochs=3, n_threads=1)
SELFIE = {"recipe": "selfie", "selfie_noise": 0.2, "selfie_history": 2, "selfie_warmup": 1, "selfie_certainty": 0.5}
CASES = {
    "refurbish": replace(SMALL, recipe="refurbish", early_learning=2.0),
    "selfie": replace(SMALL, **SELFIE),
    "cross_entropy": replace(SMALL, recipe="cross_entropy"),
    "mixed and aided": replace(SMALL, mixup=0.5, read_channel=False, aux_weight=0.3),
    "cells": test_sequence.config("cells", epochs=1, n_threads=1),
}
RESUMED = "resumed"

Ended = dict[str, NDArray[np.generic]]


def tables(folder: Path) -> Iterator[tuple[str, TrainConfig, Table]]:
    """Name, config and rows of each case."""
    plain, _ = noisy(folder)
    for name, config in CASES.items():
        if config.architecture:
            yield name, config, test_sequence.table(FileStore(folder / "media"), config, test_sequence.listings(60))
        else:
            yield name, config, plain


def fitted(made: Table, config: TrainConfig, processes: Processes = ALONE, saved: Checkpoint = UNSAVED) -> Ended:
    """Weights, losses, predictions and memory of a fit."""
    judged = np.arange(N_TRAIN, len(made))
    found = loop.fit(made, np.arange(N_TRAIN), judged, config=config, processes=processes, saved=saved)
    weights = {name: value.numpy() for name, value in found.detector.state_dict().items()}
    weights["log_temperature"] = np.round(weights["log_temperature"], 3)  # searched for, to a hundredth
    category, violation = loop.predict(found.detector, made, judged, processes)
    state = found.objective.state()
    kept = {} if state is None else {"entries": state.entries, "p": np.zeros(0) if state.p is None else state.p}
    return {**weights, "losses": np.array(found.losses), "category": category, "violation": violation, **kept}


def resumed(made: Table, config: TrainConfig, processes: Processes, folder: Path) -> Ended:
    """The same of a fit that is stopped after its first epoch, in all processes, and gone on from what the first one kept."""
    whole, asked = np.arange(N_TRAIN), iter((False, True))
    with contextlib.suppress(StaleLease):
        first = Checkpoints.of(folder, {}, 0.0, processes).fit("pair")
        loop.fit(
            made, whole, np.arange(N_TRAIN, len(made)), config=config, lost=lambda: next(asked), processes=processes, saved=first
        )
    run = Checkpoints.of(folder, {}, 0.0, processes)
    found = fitted(made, config, processes, run.fit("pair"))
    assert run.resumed == {"pair": 1}
    return found


def difference(ours: Ended, theirs: Ended) -> float:
    """The largest of any number; infinite where shapes differ."""
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        return float("inf")
    return max(float(np.abs(value - theirs[name].astype(float)).max(initial=0)) for name, value in ours.items())


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with joined("cpu", 600.0) as processes:
        own = folder / str(processes.rank)
        for name, config, made in tables(own):
            np.savez(own / f"{name}.npz", **fitted(made, config, processes))
            if name == "refurbish":
                np.savez(own / f"{RESUMED}.npz", **resumed(made, config, processes, folder))


if __name__ == "__main__":
    main()
