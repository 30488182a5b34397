"""The fit of the violations: the linear head at once, then by steps the network that reads what it leaves over."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from trainer import kind, manner, residual, violations
from trainer.config import TrainConfig
from trainer.data import Rows, Table, parts
from trainer.model import Detector
from trainer.objective import autocast
from trainer.residual import Residual
from trainer.step import MAX_GRADIENT, finite
from trainer.text import TITLE_CHARACTERS
from trainer.violations import Floats, How, Linear, Seen


def finish(detector: Detector, table: Table, train: Rows, validation: Rows, config: TrainConfig) -> None:
    """Fit the violations once the categories are learnt, whose answers they may read. The same seed gives the same weights.

    The linear head comes first, brought to scale where its loss has none, or where a network reads what it leaves over; then
    that network, and how much of it counts. In the end all is lowered by what the scale may be wrong: a score says what is sure,
    not what is likely. Raises NotFiniteError naming the batch's listings.
    """
    offset, error = _set_linear(detector.eval(), table, train, config)
    if detector.residual is not None:
        _set_network(detector, detector.residual, table, train, offset, config)
        if config.violation_linear:
            detector.residual.share.fill_(_share(detector, table, validation))
    detector.violation.bias.sub_(config.violation_caution * error)


@torch.no_grad()
def _set_linear(detector: Detector, table: Table, rows: Rows, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """The linear head at its optimum of these rows; only its shift where the network is to stand alone.

    Returns (N, V) logits of these rows by heads that did not see them, upon which the network is fitted, on the scale of the head
    itself, or that would be the first thing that the network learns; and how wrong that scale may be (V,).
    """
    wanted = table.targets
    answers = wanted.violation[rows], wanted.violation_weight[rows]
    if not config.violation_linear:
        detector.violation.weight.zero_()
        detector.violation.bias.copy_(torch.from_numpy(violations.log_odds(*answers)))
        return detector.violation.bias.expand(len(rows), -1), torch.zeros_like(detector.violation.bias)
    how, inputs = _way(detector, table, rows, config)
    is_scaled = config.violation_scaled or detector.residual is not None
    folds = violations.folds_of(wanted.group[rows], violations.N_FOLDS, config.seed)
    found = violations.fitted(inputs, *answers, wanted.group[rows], how, is_scaled=is_scaled, folds=folds)
    _take(detector, found.head, wanted.classes)
    return torch.from_numpy(found.logits).to(table.device), torch.from_numpy(found.error).to(table.device)


def _way(detector: Detector, table: Table, rows: Rows, config: TrainConfig) -> tuple[How, Seen]:
    """How the head is fitted, and what it sees of these rows; the detector's text is as loud from here on."""
    wanted, text = table.targets, detector.text
    wordless = _wordless(detector, table, rows, wanted.classes)
    blind = wordless.blind

    def at(some: Rows, title: float) -> Seen:
        text.direct_scale[TITLE_CHARACTERS] = title
        return replace(blind.of(some), ngrams=table.sparse(rows[some], text.direct_scale))

    answers = wanted.violation[rows], wanted.violation_weight[rows]
    how = manner.chosen(at, *answers, wanted.group[rows], way(config), config.seed)
    text.direct_scale[TITLE_CHARACTERS] = how.title
    return how, replace(wordless, ngrams=table.sparse(rows, text.direct_scale))


def way(config: TrainConfig) -> How:
    """What a config says of it."""
    return How(config.violation_loss, config.violation_strength, hide_said=config.hide_category)


def _take(detector: Detector, head: Linear, classes: Sequence[str]) -> None:
    detector.text.direct.copy_(torch.from_numpy(head.text))
    detector.violation.weight.copy_(torch.from_numpy(head.dense(detector.violation.in_features)))
    detector.violation.bias.copy_(torch.from_numpy(head.bias))
    for name, values in tables(head, classes).items():
        getattr(detector.kind, name).copy_(torch.from_numpy(values))


def tables(found: Linear, classes: Sequence[str]) -> dict[str, Floats]:
    """What the category says of the violations, of each leaf and its root together, by the names of `Kind`."""
    every = kind.spread(classes)
    weights = {"said": (every, found.said), "predicted": (every[1 : 1 + len(classes)], found.predicted)}
    return {name: np.asarray(part @ one, np.float32) for name, (part, one) in weights.items() if one is not None}


def _set_network(detector: Detector, network: Residual, table: Table, train: Rows, offset: Tensor, config: TrainConfig) -> None:
    """Fit it to what the (N, V) linear logits of the training rows leave over."""
    torch.manual_seed(config.seed)
    network.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), config.token_rate, weight_decay=config.weight_decay, fused=True)
    detector.train()
    for rate, at in residual.steps(len(train), config.batch, config.violation_epochs, np.random.default_rng(config.seed)):
        optimizer.param_groups[0]["lr"] = rate * config.token_rate
        _step(detector, table, train[at], offset[torch.from_numpy(at).to(table.device)], optimizer)
    network.requires_grad_(False)
    detector.eval()


def _step(detector: Detector, table: Table, rows: Rows, offset: Tensor, optimizer: torch.optim.Optimizer) -> None:
    with autocast(table.device, detector.config.bf16):
        value = residual.loss(offset + detector.added(detector.shown(table.batch(rows))), *_answers(table, rows))
    finite(value, table, rows, what="violations' loss", rates="token_rate")
    optimizer.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], MAX_GRADIENT)
    optimizer.step()


@torch.no_grad()
def _share(detector: Detector, table: Table, rows: Rows) -> float:
    """How much of the network makes these rows' answers likeliest; all of it without rows."""
    if not len(rows):
        return 1.0
    wanted, batches = table.targets, [table.batch(part) for part in parts(rows)]
    whole = torch.cat([detector(batch)[1] for batch in batches])
    added = torch.cat([detector.added(batch) for batch in batches])
    linear = (whole - added).cpu().numpy()
    return residual.share_of(linear, added.cpu().numpy(), wanted.violation[rows], wanted.violation_weight[rows])


def _answers(table: Table, rows: Rows) -> tuple[Tensor, Tensor]:
    wanted = table.targets
    present, weight = wanted.violation[rows], wanted.violation_weight[rows]
    return torch.from_numpy(present).to(table.device), torch.from_numpy(weight).to(table.device)


@torch.no_grad()
def seen(detector: Detector, table: Table, rows: Rows, classes: Sequence[str]) -> Seen:
    """What the linear head sees of these rows of a table that the detector's text has weighed; `classes`: the detector's."""
    return replace(_wordless(detector, table, rows, classes), ngrams=table.sparse(rows, detector.text.direct_scale))


def _wordless(detector: Detector, table: Table, rows: Rows, classes: Sequence[str]) -> Seen:
    """The same without n-grams, which are most of it, and change with how loud they are."""
    config, given = detector.config, table.features.said
    said = np.zeros(len(rows), np.int64) if given is None else given[rows]
    return Seen(
        csr_matrix((len(rows), 0), dtype=np.float32),
        table.photos(rows),
        kind.told(said, classes) if config.reads_said else None,
        kind.guessed(_probs(detector, table, rows), classes) if config.reads_predicted else None,
    )


def _probs(detector: Detector, table: Table, rows: Rows) -> csr_matrix:
    """(n, K) category probabilities at temperature 1, those that are not next to nothing."""
    found = (detector(table.batch(part))[0].float().exp().cpu().numpy() for part in parts(rows))
    return vstack([csr_matrix(np.where(one >= kind.LEAST, one, 0)) for one in found]).tocsr()
