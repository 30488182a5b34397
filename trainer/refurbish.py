"""The refurbish-and-clean loss: learn from what labels probably should be, and from what was learnt first.

Three parts, each with its switch in `TrainConfig`:

- *Refurbished targets* (`read_channel`): the target of a listing is the posterior of its true class, from probes
  that cannot learn a single listing by heart and from the record of its class and seller (`trainer.evidence`).
  Moderators' decisions say how far the probes can be trusted; while there are few, only what is most probably
  wrong is refurbished (`repair_doubt`). Nothing is frozen in: each run reads it anew. What moderators decided, and
  repairs that kept the promised precision, are targets as they are.
- *Early-learning regularisation* (Liu et al., NeurIPS 2020, equation 6; `early_learning`): a network learns what
  labels have in common before it learns the exceptions. A running mean of each listing's predictions, over the eight
  classes that it most probably belongs to, holds it to what it said first; no step looks at all classes.
- *Mixup* of joint embeddings (Zhang et al., ICLR 2018; Verma et al., ICML 2019; `mixup`). Where labels are wrong the other
  two leave it nothing to gain; where they are right it keeps them from doing harm before anything was decided.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.quality.channel import Posterior
from trainer import evidence
from trainer.config import TrainConfig
from trainer.data import Rows, Table, Wanted
from trainer.model import Detector, Seen
from trainer.objective import auxiliary, largest, weighted
from trainer.state import EMPTY, State

N_REMEMBERED = 8
MIN_TARGET = 0.02
"""Less probable classes are left out of a target, but for the most probable one."""

ALMOST_ONE = 1 - 1e-4
KIND = "early_learning"
"""Whose state a memory is."""


class Refurbish:
    """The objective over the training rows of a table."""

    def __init__(self, table: Table, train: Rows, config: TrainConfig, verified: Rows | None = None) -> None:
        self.config, self._table = config, table
        found, doubt = self._read(table, train, verified)
        self.targets = Targets.of(table, train, found, doubt)
        n_classes = len(table.targets.classes)
        self.memory: Memory | Largest = (
            Largest(len(table), n_classes, config.memory, table.device)
            if found is None
            else Memory(self.targets.classes, config.memory)
        )
        self._mix = np.random.default_rng(config.seed)
        self._mix_before = self._mix.bit_generator.state

    def _read(self, table: Table, train: Rows, verified: Rows | None) -> tuple[Posterior | None, float]:
        """The posterior of the training rows and others behind them, and how much doubt it takes to go by it."""
        if not self.config.read_channel:
            return None, 1.0
        rows = train if verified is None else np.concatenate([train, verified])
        is_told = evidence.said_of(table, rows).tells_scales
        doubt = self.config.repair_doubt or (0.0 if is_told else evidence.UNTOLD_DOUBT)
        return evidence.posterior(table, train, verified), doubt

    def begin(self, epoch: int) -> None:
        """Nothing changes between epochs."""

    def undo(self) -> None:
        """Put back the means of the last step's rows, and what chance mixed them with."""
        self.memory.undo()
        self._mix.bit_generator.state = self._mix_before

    def __call__(self, detector: Detector, seen: Seen, wanted: Wanted) -> Tensor:
        self.memory.before, self._mix_before = (), self._mix.bit_generator.state
        classes, p = self.targets.of_rows(wanted.rows)
        aside = auxiliary(detector, seen, lambda log_probs: cross_entropy(log_probs, classes, p), wanted.weight)
        answer = self._mixed if self.config.mixup else self._plain
        return answer(detector, seen.joint, classes, p, wanted) + aside

    def _plain(self, detector: Detector, joint: Tensor, classes: Tensor, p: Tensor, wanted: Wanted) -> Tensor:
        log_probs = detector.category(joint)
        losses = cross_entropy(log_probs, classes, p)
        if self.config.early_learning:
            losses = losses + self._held(_agreement(log_probs, *self.memory.update(wanted.rows, log_probs)), wanted)
        return weighted(losses, wanted.weight)

    def state(self) -> State | None:
        """The memory of early-learning regularisation, None without it."""
        return self.memory.state(self._table) if self.config.early_learning else None

    def resume(self, state: State) -> None:
        """Go on with the memory of an earlier fit; that of another recipe is left alone."""
        if self.config.early_learning and state.kind == KIND:
            self.memory.resume(self._table, state)

    def remembered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The means, and what chance mixes by."""
        return {"classes": self.memory.classes, "p": self.memory.p}, {"mix": self._mix.bit_generator.state}

    def recall(self, tensors: Mapping[str, Tensor], chance: Mapping[str, Any]) -> None:
        """Put them back."""
        self.memory.classes.copy_(tensors["classes"])
        self.memory.p.copy_(tensors["p"])
        self._mix.bit_generator.state = chance["mix"]

    def _mixed(self, detector: Detector, joint: Tensor, classes: Tensor, p: Tensor, wanted: Wanted) -> Tensor:
        share = float(self._mix.beta(self.config.mixup, self.config.mixup))
        share = max(share, 1 - share)
        other = torch.from_numpy(self._mix.permutation(len(joint))).to(joint.device)
        log_probs = detector.category(share * joint + (1 - share) * joint[other])
        of_other = cross_entropy(log_probs, classes[other], p[other]) * (wanted.weight[other] > 0)
        losses = share * cross_entropy(log_probs, classes, p) + (1 - share) * of_other
        if self.config.early_learning:
            with torch.no_grad():
                near, q = self.memory.update(wanted.rows, detector.category(joint))
            agreement = share * _agreement(log_probs, near, q) + (1 - share) * _agreement(log_probs, near[other], q[other])
            losses = losses + self._held(agreement, wanted)
        return weighted(losses, wanted.weight)

    def _held(self, agreement: Tensor, wanted: Wanted) -> Tensor:
        """(B,) the regulariser; moderators' decisions need none."""
        return self.config.early_learning * torch.log1p(-agreement.clamp(max=ALMOST_ONE)) * ~wanted.is_verified


def _agreement(log_probs: Tensor, classes: Tensor, means: Tensor) -> Tensor:
    """(B,) how much of the prediction, (B, K) log-probabilities, lies where it lay before."""
    return (log_probs.gather(1, classes).exp() * means).sum(1)


class Targets:
    """What each row of a table should be taken for: a few classes, each once, with their probabilities."""

    def __init__(self, classes: Tensor, p: Tensor) -> None:
        self.classes, self.p = classes, p  # (N, k), of two or four bytes and of two

    @classmethod
    def of(cls, table: Table, train: Rows, found: Posterior | None, doubt: float) -> "Targets":
        """The posterior where the label is doubted more than that and no better is known, else the label as it is.

        The first rows of `found` are those of `train`.
        """
        wanted = table.targets
        k = min(N_REMEMBERED, len(wanted.classes))
        classes = np.zeros((len(table), k), np.int64)
        p = np.zeros((len(table), k), np.float32)
        classes[:, 0], p[:, 0] = np.maximum(wanted.category, 0), 1.0
        if found is not None:
            posterior, among, label = found.p[: len(train)], found.classes[: len(train)], classes[train, :1]
            is_open = (found.wrong[: len(train)] > doubt) & ~(wanted.is_verified[train, 0] | wanted.is_repaired[train])
            likely, chances = _best(among, posterior, k)
            others, _ = _best(among, np.where(among == label, -1.0, posterior), k - 1)
            chances[:, 1:][chances[:, 1:] < MIN_TARGET] = 0.0
            chances /= chances.sum(1, keepdims=True)
            classes[train] = np.where(is_open[:, None], likely, np.hstack([label, others]))
            p[train] = np.where(is_open[:, None], chances, p[train])
        narrow = _narrow(len(wanted.classes))
        return cls(torch.from_numpy(classes).to(table.device, narrow), torch.from_numpy(p).to(table.device, torch.float16))

    def of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Classes and probabilities (B, k)."""
        return self.classes[rows].long(), self.p[rows].float()


def _best(classes: Rows, scores: NDArray[np.float64], k: int) -> tuple[Rows, NDArray[np.float64]]:
    """The k classes of each row with the largest scores, and those."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(classes, best, 1), np.take_along_axis(scores, best, 1)


def _narrow(n_classes: int) -> torch.dtype:
    return torch.int16 if n_classes <= 2**15 else torch.int32


class Memory:
    """A running mean of each row's predictions of a few classes: 16 bytes a row beside the classes.

    It is what the target of early-learning regularisation, t <- memory t + (1 - memory) p, says of them.
    """

    def __init__(self, classes: Tensor, memory: float) -> None:
        """classes : (N, k), each once in a row."""
        self.memory, self.classes = memory, classes
        self.p = torch.zeros(classes.shape, dtype=torch.float16, device=classes.device)
        self.before: tuple[Tensor, ...] = ()  #: rows of the last update, and their means before it

    @torch.no_grad()
    def update(self, rows: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """Take in (B, K) predictions of these rows; their classes and means (B, k) after it."""
        classes = self.classes[rows].long()
        kept = self.p[rows]
        p = torch.lerp(log_probs.gather(1, classes).exp(), kept.to(log_probs.dtype), self.memory)
        self.before = rows, kept
        self.p[rows] = p.to(self.p.dtype)
        return classes, p

    def undo(self) -> None:
        """Take back the last update."""
        if self.before:
            rows, self.p[rows] = self.before

    def state(self, table: Table) -> State:
        """What is remembered of the rows of the table."""
        return _state(self, table)

    def resume(self, table: Table, state: State) -> None:
        """Lay what was remembered onto the table; the means of other classes are forgotten."""
        laid, classes = state.on(table), self.classes.cpu().numpy()
        is_same = classes[laid.rows][:, :, None] == laid.entries[:, None, :]
        found = np.where(is_same, laid.p[:, None, :], 0).max(2, initial=0)
        self.p[torch.from_numpy(laid.rows)] = torch.from_numpy(found).to(self.p)


class Largest:
    """A running mean of each row's predictions, the largest few of them: 32 bytes a row, 48 with more than 32,768 classes.

    For where nothing says which classes a row may belong to. With all classes kept it is the target of early-learning
    regularisation.
    """

    def __init__(self, n_rows: int, n_classes: int, memory: float, device: torch.device) -> None:
        self.memory, k = memory, min(N_REMEMBERED, n_classes)
        self.classes = torch.zeros(n_rows, k, dtype=_narrow(n_classes), device=device)
        self.p = torch.zeros(n_rows, k, dtype=torch.float16, device=device)
        self.before: tuple[Tensor, ...] = ()  #: rows of the last update, their classes and means before it

    @torch.no_grad()
    def update(self, rows: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """Take in (B, K) predictions of these rows; their classes and means (B, k) after it."""
        before = rows, self.classes[rows], self.p[rows]
        held, kept = before[1].long(), before[2].float()
        k = held.shape[1]
        new_p, new = largest(log_probs, k)
        known = kept > 0
        means = torch.where(known, torch.lerp(log_probs.gather(1, held).exp(), kept, self.memory), 0.0)
        repeated = ((new[:, :, None] == held[:, None, :]) & known[:, None, :]).any(2)
        fresh = torch.where(repeated, 0.0, (1 - self.memory) * new_p.exp())
        p, at = torch.cat([means, fresh], 1).topk(k, dim=1)
        classes = torch.cat([held, new], 1).gather(1, at)
        self.before = before
        self.classes[rows], self.p[rows] = classes.to(self.classes.dtype), p.to(self.p.dtype)
        return classes, p

    def undo(self) -> None:
        """Take back the last update."""
        if self.before:
            rows, self.classes[rows], self.p[rows] = self.before

    def state(self, table: Table) -> State:
        """What is remembered of the rows of the table."""
        return _state(self, table)

    def resume(self, table: Table, state: State) -> None:
        """Lay what was remembered onto the table; the means of classes that are gone are forgotten."""
        laid = state.on(table)
        best = np.argsort(-laid.p, axis=1, kind="stable")[:, : self.p.shape[1]]
        rows, k = torch.from_numpy(laid.rows), best.shape[1]
        self.classes[rows, :k] = torch.from_numpy(np.take_along_axis(laid.entries, best, 1).clip(0)).to(self.classes)
        self.p[rows, :k] = torch.from_numpy(np.take_along_axis(laid.p, best, 1)).to(self.p)


def _state(memory: Memory | Largest, table: Table) -> State:
    p, classes = memory.p.cpu().numpy(), memory.classes.cpu().numpy()
    rows = np.flatnonzero((p > 0).any(1))
    return State.of(KIND, table, rows, np.where(p > 0, classes, EMPTY)[rows], p[rows])


def cross_entropy(log_probs: Tensor, classes: Tensor, p: Tensor) -> Tensor:
    """(B,) cross-entropy of (B, K) log-probabilities against sparse targets (B, k)."""
    return -(log_probs.gather(1, classes) * p).sum(1)
