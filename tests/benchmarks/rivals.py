"""Methods of others that the benchmark of label repair compares with, on the same detector."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from curation.quality.issues import find_category_issues
from curation.quality.validate import OutOfSample
from trainer import folds, loop
from trainer.config import TrainConfig
from trainer.data import Rows, Table
from trainer.model import Detector
from trainer.objective import Objective, negative_log_likelihood, weighted

Maker = Callable[[Table, Rows], Objective]


def co_teaching(
    table: Table, train: Rows, validation: Rows, test: Rows, config: TrainConfig, noise: float
) -> NDArray[np.float32]:
    """Co-teaching (Han et al., NeurIPS 2018): (n, K) probabilities of the test rows by the mean of both networks.

    The share of a batch that is passed on falls to 1 - noise over the first three epochs; the best epoch by validation.
    """
    pair = [loop.start(table, train, TrainConfig(**{**config.to_json(), "seed": config.seed + at})) for at in (0, 100)]
    optimizers = [torch.optim.AdamW(one.parameters(), lr=config.rate, weight_decay=config.weight_decay) for one in pair]
    for one, optimizer in zip(pair, optimizers, strict=True):
        optimizer.param_groups[0]["params"] = [value for value in one.parameters() if value is not one.text.table.weight]
        optimizer.add_param_group({"params": [one.text.table.weight], "lr": config.embedding_rate, "weight_decay": 0.0})
    found: NDArray[np.float32] = np.zeros((len(test), 0), np.float32)
    rng, best = np.random.default_rng(config.seed), -1.0
    for epoch in range(1, config.epochs + 1):
        _set_rates(optimizers, config, 1 - (epoch - 1) / config.epochs)
        kept = 1 - noise * min(1.0, epoch / 3)
        order = rng.permutation(train)
        for at in range(0, len(order), config.batch):
            _step(pair, optimizers, table, order[at : at + config.batch], kept)
        agreement = float((_mean(pair, table, validation).argmax(1) == table.targets.category[validation]).mean())
        if agreement > best:
            best, found = agreement, _mean(pair, table, test)
    return found


def _set_rates(optimizers: list[torch.optim.AdamW], config: TrainConfig, share: float) -> None:
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = config.rate * share, config.embedding_rate * share


def _step(pair: list[Detector], optimizers: list[torch.optim.AdamW], table: Table, rows: Rows, kept: float) -> None:
    batch, wanted = table.batch(rows), table.wanted(rows)
    losses = []
    for detector in pair:
        detector.train()
        losses.append(negative_log_likelihood(detector.category(detector.embed(batch)), wanted.classes))
    chosen = [one.detach().argsort()[: math.ceil(kept * len(rows))] for one in losses]
    for at, optimizer in enumerate(optimizers):
        theirs = chosen[1 - at]
        optimizer.zero_grad(set_to_none=True)
        weighted(losses[at][theirs], wanted.weight[theirs]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _mean(pair: list[Detector], table: Table, rows: Rows) -> NDArray[np.float32]:
    first, second = (loop.predict(one, table, rows)[0] for one in pair)
    return np.asarray((first + second) / 2)


def without_issues(table: Table, train: Rows, config: TrainConfig) -> Rows:
    """The training rows that cleanlab's default finds no fault with, by grouped folds of the detector over them."""
    labels = table.targets.category[train]
    assigned = folds.assign(labels, [str(group) for group in table.targets.group[train]], config.n_folds, config.seed)
    probs = np.zeros((len(train), len(table.targets.classes)), np.float32)
    for fold in np.unique(assigned):
        rest, held = train[assigned != fold], assigned == fold
        fitted = loop.fit(table, rest, np.zeros(0, np.int64), config=config)
        probs[held] = loop.predict(fitted.detector, table, train[held])[0]
    oos = OutOfSample(probs, table.targets.classes, tuple(table.refs[row] for row in train), assigned)
    return train[~find_category_issues(labels, oos, method="cleanlab").is_issue]
