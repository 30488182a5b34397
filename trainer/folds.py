"""Out-of-sample probabilities: every listing is predicted by a model that never saw its near-duplicates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from curation.errors import InputError
from curation.quality import validate
from curation.quality.validate import OutOfSample
from trainer import loop
from trainer.checkpoint import UNSAVED, Checkpoints
from trainer.config import TrainConfig
from trainer.data import Table
from trainer.processes import ALONE, Processes


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Predictions of all listings by the folds that held them out."""

    category: OutOfSample  #: row order is the table's
    violation: NDArray[np.float32]  #: (N, V)
    temperature: float  #: of the category probabilities, fitted on all labelled rows at once


def assign(labels: NDArray[np.int64], groups: Sequence[str], n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold (N,) that holds each row out: whole groups, classes spread evenly; the same for the same seed.

    labels : (N,) class, -1 = unlabelled. Raises InputError if there are fewer groups than folds.
    """
    n_groups = len(set(groups))
    if n_groups < n_folds:
        raise InputError(
            f"{n_groups} groups of listings cannot make {n_folds} folds; ingest more listings or ask for fewer folds"
        )
    strata = _strata(labels, n_folds)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.full(len(labels), validate.IN_SAMPLE, np.int64)
    for fold, (_, held_out) in enumerate(splitter.split(strata, strata, np.asarray(groups))):
        folds[held_out] = fold
    return folds


def held_out(
    table: Table,
    folds: NDArray[np.int64],
    config: TrainConfig,
    lost: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
    saved: Checkpoints | None = None,
) -> HeldOut:
    """Fit once per fold and predict what it held out.

    The photo stem is shared: it saw no label. Each fold trains for the full number of epochs; one
    temperature for all rows makes the probabilities as sure as they are often right. All N x K probabilities are held as
    float32, 4 N K bytes: millions of listings in thousands of categories need a machine with room for them.
    """
    wanted = table.targets
    log_probs = np.zeros((len(table), len(wanted.classes)), np.float32)
    violation = np.zeros((len(table), len(wanted.violations)), np.float32)
    none, plain = np.zeros(0, np.int64), replace(config, violation_caution=0.0)  # what is likely: rows of all folds are ranked
    for fold in np.unique(folds):
        rows, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        kept = saved.fit(f"fold-{fold}", rest) if saved else UNSAVED
        fitted = loop.fit(table, rest, none, config=plain, lost=lost, processes=processes, saved=kept)
        category, violation[rows] = loop.predict(fitted.detector, table, rows, processes)
        log_probs[rows] = np.log(np.maximum(category, np.finfo(np.float32).tiny))
    known = wanted.category >= 0
    temperature = loop.fit_temperature(log_probs[known], wanted.category[known])
    oos = OutOfSample(_softmax(log_probs / temperature), wanted.classes, table.refs, folds)
    validate.check(oos, wanted.category)
    return HeldOut(oos, violation, temperature)


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    raised = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    found: NDArray[np.float32] = (raised / raised.sum(1, keepdims=True)).astype(np.float32)
    return found


def _strata(labels: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """Classes with fewer members than folds cannot be spread evenly; they count as the largest class."""
    values, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    found: NDArray[np.int64] = np.where(sizes[index] < n_folds, values[sizes.argmax()], labels)
    return found
