"""One fit: warm-up, AdamW, early stopping on validation rows, temperature; stops on NaN with the batch's names."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from curation.catalog.features import Features
from curation.errors import StaleLease
from trainer import backbone, recipes, violation_fit
from trainer.checkpoint import UNSAVED, Checkpoint
from trainer.config import TrainConfig
from trainer.course import Course, Losses
from trainer.data import Rows, Table, parts
from trainer.image import PhotoStem, SideBySide, Stem
from trainer.model import HAS_PRICE, Detector
from trainer.objective import Objective, autocast
from trainer.processes import ALONE, Processes
from trainer.search.branch import Norm
from trainer.state import State
from trainer.step import Steps, finite
from trainer.text import idf

__all__ = ["Fitted", "fit", "fit_temperature", "predict", "settle", "start", "stem_of"]

TEMPERATURES = (0.5, 8.0)
N_VALIDATED = 2**24
"""Probabilities that each epoch is judged by, at most."""

CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""Without it cuBLAS does not repeat itself; it is read when the GPU is first used."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A detector at its best epoch, and how it got there."""

    detector: Detector
    n_epochs: int  #: epochs run
    best_epoch: int  #: from 1
    losses: tuple[float, ...]  #: validation loss after each epoch (training loss without validation rows)
    temperature: float
    n_seconds: float
    objective: Objective  #: as the last epoch left it; its `state()` is what the next fit goes on from
    trained: tuple[float, ...] = ()  #: the objective's own loss in each epoch, over the training rows
    n_parts: int = 1  #: 2 where memory was short, so that batches were looked at in halves


def settle(config: TrainConfig) -> None:
    """Make torch repeat itself to the bit, or not, from now on; best before a GPU is first used.

    An operation that cannot be repeated then raises torch's RuntimeError, which names it.
    """
    if config.deterministic:
        os.environ.setdefault(*CUBLAS)
    torch.use_deterministic_algorithms(config.deterministic)


def stem_of(features: Features, rows: Rows, config: TrainConfig, cache: Path | None = None) -> Stem:
    """Filters learnt from the photos of these rows, a frozen backbone beside or instead of them.

    No label is seen, so folds share it. `cache` : folder where a backbone's features are kept from run to run.
    """
    torch.manual_seed(config.seed)
    stem = unlearnt_stem(config, features.photos.shape[1], cache)
    used = np.unique(features.photo_index[rows])
    stem.learn(features.photos[used[used > 0]], np.random.default_rng(config.seed))
    return stem.eval()


def unlearnt_stem(config: TrainConfig, photo_px: int, cache: Path | None = None) -> Stem:
    """What looks at photos of this size, before it saw one."""
    stem = PhotoStem(config.photo_filters)
    if not config.backbone:
        return stem
    network = backbone.load(config.backbone, photo_px, cache)
    return network if config.backbone_alone else SideBySide(stem, network)


def fit(
    table: Table,
    train: Rows,
    validation: Rows,
    *,
    config: TrainConfig,
    lost: Callable[[], bool] = lambda: False,
    objective: Callable[[Table, Rows], Objective] | None = None,
    state: State | None = None,
    processes: Processes = ALONE,
    saved: Checkpoint = UNSAVED,
) -> Fitted:
    """Fit a detector on the training rows; with labelled validation rows stop early and set the temperature.

    With the state of an earlier fit the objective goes on from what it remembered; weights start anew. What was `saved` of
    this very fit before it was interrupted is gone on from, and ends with the weights of one that never was.
    The same inputs and seed give the same weights on one CPU, however many processes share it. Raises NotFiniteError naming
    the batch's listings, ConfigError when halves of a batch do not fit into memory either, and StaleLease once `lost()` is
    true between epochs.
    """
    started_s = time.monotonic()
    settle(config)
    judging, validation = validation, validation[table.targets.category[validation] >= 0]
    detector = start(table, train, config)
    _join(detector, processes)
    table.balance(train, config.balance)
    minimised = objective(table, train) if objective else recipes.objective(table, train, validation, config)
    if state is not None:
        minimised.resume(state)
    rng = np.random.default_rng(config.seed)
    optimizer = _optimizer(detector, config)
    n_steps = config.epochs * math.ceil(len(train) / config.batch)
    steps = Steps(detector, table, minimised, optimizer, config, processes)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, n_steps, config.warmup_steps))
    course = Course(detector, optimizer, schedule, steps, rng)
    saved.resume(course)
    while course.goes_on(config):
        if lost():
            raise StaleLease("the job's lease was lost during training; nothing was stored")
        minimised.begin(len(course.losses) + 1)
        course.trained.append(_epoch(steps, rng.permutation(train), schedule))
        course.add(*_validated(detector, table, validation, processes))
        saved.keep(course)
    kept, losses = course.kept, course.losses
    detector.load_state_dict(kept.state, strict=False)
    violation_fit.finish(detector, table, train, judging, config)
    temperature = _set_temperature(detector.eval(), table, validation, processes)
    learnt = kept.epoch, tuple(losses), temperature, time.monotonic() - started_s, minimised, tuple(course.trained)
    return Fitted(detector, len(losses), *learnt, steps.n_parts)


def _join(detector: Detector, processes: Processes) -> None:
    """What is normalised over a batch is so over the shares of all processes."""
    for module in detector.modules():
        if isinstance(module, Norm):
            module.adding = processes.adding


def start(table: Table, train: Rows, config: TrainConfig) -> Detector:
    """An untrained detector whose idf and number scales are those of the training rows."""
    torch.manual_seed(config.seed)
    detector = Detector(config, table.shape, table.targets.classes, len(table.targets.violations), table.n_ids, table.stem)
    detector.text.idf.copy_(torch.from_numpy(idf(table.features.ids[train], table.shape.n_buckets)))
    numeric = torch.from_numpy(table.features.numeric[train])
    detector.numeric_mean.copy_(numeric.mean(0))
    detector.numeric_std.copy_(numeric.std(0, correction=0) + 1e-2)
    detector.numeric_std[HAS_PRICE] = 1.0  # a flag: where all have a price, one without must not lie a hundred deviations away
    detector.to(table.device)
    table.weigh(detector.text)
    return detector


@torch.no_grad()
def predict(
    detector: Detector, table: Table, rows: Rows, processes: Processes = ALONE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Category probabilities (n, K) and violation probabilities (n, V) of these rows, in every process."""
    detector.eval()
    own = parts(rows[processes.share(len(rows))])
    category, violation = zip(*(detector.probabilities(detector(table.batch(part))) for part in own), strict=True)
    found = (processes.gathered(torch.cat(answers), len(rows)) for answers in (category, violation))
    first, second = (part.cpu().numpy() for part in found)
    return first, second


def _epoch(steps: Steps, order: Rows, schedule: torch.optim.lr_scheduler.LambdaLR) -> float:
    """The mean loss of all rows, in this order."""
    steps.detector.train()
    total = 0.0
    for rows in parts(order, steps.config.batch):
        total += steps(rows) * len(rows)
        schedule.step()
    return total / max(1, len(order))


@torch.no_grad()
def _validated(detector: Detector, table: Table, rows: Rows, processes: Processes) -> tuple[Losses, Losses]:
    """(n,) negative log-likelihoods of these rows and their weights, at the temperature that suits them best.

    The kept epoch gets its temperature anyway; without it the first epochs, which are less sure, look better than they are.
    """
    detector.eval()
    rows = rows[:: 1 + len(rows) * len(table.targets.classes) // N_VALIDATED]
    if not len(rows):
        return np.zeros(0), np.zeros(0)
    log_probs, classes = _log_probs(detector, table, rows, processes), table.targets.category[rows]
    finite(torch.from_numpy(log_probs).sum(), table, rows[~np.isfinite(log_probs).all(1)], what="answer")
    weight = table.targets.category_weight[rows].astype(np.float64)
    return _log_losses(log_probs / np.float32(fit_temperature(log_probs, classes)), classes), weight


@torch.no_grad()
def _set_temperature(detector: Detector, table: Table, rows: Rows, processes: Processes) -> float:
    """Temperature with the least log loss on validation rows (Guo et al. 2017); 1 without any."""
    if not len(rows):
        return 1.0
    found = fit_temperature(_log_probs(detector, table, rows, processes), table.targets.category[rows])
    detector.log_temperature.fill_(math.log(found))
    return found


def _log_probs(detector: Detector, table: Table, rows: Rows, processes: Processes) -> NDArray[np.float32]:
    """(n, K) as they are at temperature 1, in every process."""
    own = parts(rows[processes.share(len(rows))])
    with autocast(table.device, detector.config.bf16):
        found = torch.cat([detector(table.batch(part))[0].float() for part in own])
    return np.asarray(processes.gathered(found, len(rows)).cpu().numpy(), np.float32)


def fit_temperature(log_probs: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """The temperature in [0.5, 8] at which (N, K) log-probabilities explain the classes best.

    The loss has one minimum: it is convex in the inverse temperature.
    """
    found = minimize_scalar(
        lambda cool: _log_losses(log_probs / np.float32(math.exp(cool)), classes).mean(),
        bounds=np.log(TEMPERATURES),
        method="bounded",
        options={"xatol": 0.01},
    )
    return math.exp(found.x)


def _log_losses(logits: NDArray[np.float32], classes: NDArray[np.int64]) -> Losses:
    """(n,) negative log-likelihoods of the classes by (n, K) logits."""
    return np.asarray(logsumexp(logits, axis=1) - logits[np.arange(len(classes)), classes], np.float64)


def _optimizer(detector: Detector, config: TrainConfig) -> torch.optim.Optimizer:
    table = [detector.text.table.weight]
    tokens = list(detector.sequence.parameters()) if detector.sequence else []
    apart = {id(value) for value in (*table, *tokens)}
    others = [value for value in detector.parameters() if id(value) not in apart and value.requires_grad]
    groups = [
        {"params": table, "lr": config.embedding_rate, "weight_decay": 0.0},
        {"params": others, "lr": config.rate, "weight_decay": config.weight_decay},
        *([{"params": tokens, "lr": config.token_rate, "weight_decay": config.weight_decay}] if tokens else []),
    ]
    return torch.optim.AdamW(groups, fused=True)


def _rate(step: int, n_steps: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) * max(0.0, 1 - step / max(1, n_steps))
