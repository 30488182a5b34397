"""One fit: warm-up, AdamW, early stopping on validation rows, temperature; stops on NaN with the batch's names."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.catalog.features import Features
from curation.errors import InputError, StaleLease, shorten
from trainer import recipes, violations
from trainer.config import TrainConfig
from trainer.data import Rows, Table
from trainer.image import PhotoStem
from trainer.model import Detector
from trainer.objective import Objective, autocast, negative_log_likelihood
from trainer.state import State
from trainer.text import idf

EVALUATION_BATCH = 512
MAX_GRADIENT = 5.0
TEMPERATURES = np.geomspace(0.5, 8.0, 57)


class NotFiniteError(InputError):
    """A loss became NaN or infinite; no model is kept."""


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


@dataclass(slots=True)
class _Best:
    loss: float = math.inf
    epoch: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)


def stem_of(features: Features, rows: Rows, config: TrainConfig) -> PhotoStem:
    """Filters learnt from the photos of these rows. No label is seen, so folds may share it."""
    torch.manual_seed(config.seed)
    stem = PhotoStem(config.photo_filters)
    used = np.unique(features.photo_index[rows])
    stem.learn(features.photos[used[used > 0]], np.random.default_rng(config.seed))
    return stem.eval()


def fit(
    table: Table,
    train: Rows,
    validation: Rows,
    *,
    config: TrainConfig,
    lost: Callable[[], bool] = lambda: False,
    objective: Callable[[Table, Rows], Objective] | None = None,
    state: State | None = None,
) -> Fitted:
    """Fit a detector on the training rows; with validation rows stop early and set the temperature.

    With the state of an earlier fit the objective goes on from what it remembered; weights start anew.
    The same inputs and seed give the same weights on one CPU. Raises NotFiniteError naming the
    batch's listings, and StaleLease once `lost()` is true between epochs.
    """
    started_s = time.monotonic()
    detector = start(table, train, config)
    minimised = objective(table, train) if objective else recipes.objective(table, train, validation, config)
    if state is not None:
        minimised.resume(state)
    rng = np.random.default_rng(config.seed)
    optimizer = _optimizer(detector, config)
    n_steps = config.epochs * math.ceil(len(train) / config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, n_steps, config.warmup_steps))
    best, losses = _Best(), []
    for epoch in range(1, config.epochs + 1):
        if lost():
            raise StaleLease("the job's lease was lost during training; nothing was stored")
        minimised.begin(epoch)
        trained = _epoch(detector, table, rng.permutation(train), optimizer, schedule, config, minimised)
        losses.append(_evaluated(detector, table, validation) if len(validation) else trained)
        if losses[-1] < best.loss or not len(validation):
            best = _Best(losses[-1], epoch, {name: value.clone() for name, value in detector.state_dict().items()})
        if epoch - best.epoch >= config.patience:
            break
    detector.load_state_dict(best.state)
    temperature = _set_temperature(detector.eval(), table, validation)
    return Fitted(detector, len(losses), best.epoch, tuple(losses), temperature, time.monotonic() - started_s, minimised)


def start(table: Table, train: Rows, config: TrainConfig) -> Detector:
    """An untrained detector whose idf and number scales are those of the training rows."""
    torch.manual_seed(config.seed)
    detector = Detector(config, table.shape, table.targets.classes, len(table.targets.violations), table.n_ids)
    detector.stem.load_state_dict(table.stem.state_dict())
    detector.text.idf.copy_(torch.from_numpy(idf(table.features.ids[train], table.shape.n_buckets)))
    numeric = torch.from_numpy(table.features.numeric[train])
    detector.numeric_mean.copy_(numeric.mean(0))
    detector.numeric_std.copy_(numeric.std(0, correction=0) + 1e-2)
    detector.to(table.device)
    table.weigh(detector.text)
    _set_violations(detector.eval(), table, train, config)
    return detector


@torch.no_grad()
def _set_violations(detector: Detector, table: Table, rows: Rows, config: TrainConfig) -> None:
    wanted = table.targets
    numbers = (torch.from_numpy(table.features.numeric[rows]).to(table.device) - detector.numeric_mean) / detector.numeric_std
    found = violations.fit(
        table.sparse(rows, detector.text.direct_scale),
        table.photos(rows),
        numbers.cpu().numpy(),
        wanted.violation[rows],
        wanted.violation_weight[rows],
        config.violation_strength,
    )
    detector.text.direct.copy_(torch.from_numpy(found.text))
    detector.violation.weight.copy_(torch.from_numpy(found.dense.T))
    detector.violation.bias.copy_(torch.from_numpy(found.bias))


@torch.no_grad()
def predict(detector: Detector, table: Table, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Category probabilities (n, K) and violation probabilities (n, V) of these rows."""
    detector.eval()
    found = [detector.probabilities(detector(table.batch(part))) for part in _parts(rows, EVALUATION_BATCH)]
    category, violation = zip(*found, strict=True)
    return torch.cat(category).cpu().numpy(), torch.cat(violation).cpu().numpy()


def _epoch(
    detector: Detector,
    table: Table,
    order: Rows,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    config: TrainConfig,
    objective: Objective,
) -> float:
    detector.train()
    total = 0.0
    for rows in _parts(order, config.batch):
        with autocast(table.device):
            value = objective(detector, table.batch(rows), table.wanted(rows))
        found = value.item()
        if not math.isfinite(found):
            refs = [table.refs[row] for row in rows]
            raise NotFiniteError(
                f"the loss became {found} on a batch of {len(rows)} listings, {shorten(refs, 400)}; "
                "no model was kept, look at these listings or lower the rates"
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_((value for value in detector.parameters() if value.requires_grad), MAX_GRADIENT)
        optimizer.step()
        schedule.step()
        total += found * len(rows)
    return total / max(1, len(order))


@torch.no_grad()
def _evaluated(detector: Detector, table: Table, rows: Rows) -> float:
    """Weighted negative log-likelihood of these rows."""
    detector.eval()
    total = weight = 0.0
    for part in _parts(rows, EVALUATION_BATCH):
        with autocast(table.device):
            category, _ = detector(table.batch(part))
        wanted = table.wanted(part)
        total += float((negative_log_likelihood(category, wanted.classes) * wanted.weight).sum())
        weight += float(wanted.weight.sum())
    return total / max(weight, 1e-6)


@torch.no_grad()
def _set_temperature(detector: Detector, table: Table, rows: Rows) -> float:
    """Temperature with the least log loss on validation rows (Guo et al. 2017); 1 without any."""
    rows = rows[table.targets.category[rows] >= 0]
    if not len(rows):
        return 1.0
    log_probs = torch.cat([detector(table.batch(part))[0] for part in _parts(rows, EVALUATION_BATCH)])
    found = fit_temperature(log_probs.cpu().numpy(), table.targets.category[rows])
    detector.log_temperature.fill_(math.log(found))
    return found


def fit_temperature(log_probs: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """The temperature of a grid over [0.5, 8] at which (N, K) log-probabilities explain the classes best."""
    losses = [_log_loss(log_probs.astype(np.float64) / temperature, classes) for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _log_loss(logits: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    peak = logits.max(1, keepdims=True)
    normal = peak[:, 0] + np.log(np.exp(logits - peak).sum(1))
    return float((normal - logits[np.arange(len(classes)), classes]).mean())


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


def _parts(rows: Rows, size: int) -> list[Rows]:
    return [rows[at : at + size] for at in range(0, len(rows), size)]
