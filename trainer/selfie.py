"""SELFIE as published (Song, Kim and Lee, ICML 2019), vectorised: refurbish where predictions agree, drop large losses.

After a warm-up of plain cross-entropy a listing whose last q predictions hardly vary is refurbishable: its label is
taken to be the most frequent one. Of the others the (1 - tau) part of a batch with the smallest losses is clean and keeps
its label; the rest is left out. Unlike the authors' code nothing is frozen in: a listing whose predictions vary again
loses that state, an empty history is empty, and every listing is seen once an epoch.

Restarts are for the caller. As published: fit again with `corrected` as the given labels. Or hand over `state()`: what the
authors' code recommends, labels that were refurbished before are learnt already during the warm-up, for listings whose
history is full; it goes on after the warm-up, so that an untrained network's predictions do not push out a trained one's.
Without a state every listing goes through the warm-up, as in the paper.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.errors import InputError
from trainer import evidence
from trainer.config import TrainConfig
from trainer.data import Rows, Table, Wanted
from trainer.model import Detector, Seen
from trainer.objective import auxiliary, most_probable, negative_log_likelihood, weighted
from trainer.state import EMPTY, MAX_SMALL, State

KIND = "selfie"
"""Whose state a `History` is."""

MAX_HISTORY = 15
"""With two bytes a prediction a row stays within 32 bytes."""


class History:
    """The last q predicted classes of each row, as small integers, oldest first; EMPTY before there were so many."""

    def __init__(self, n_rows: int, n_classes: int, q: int, device: torch.device, n_named: int | None = None) -> None:
        """`n_named`: classes by whose number entropy is normalised, by default min(K, q)."""
        if not 1 <= q <= MAX_HISTORY:
            raise InputError(f"a history of {q} predictions cannot be kept; choose 1 to {MAX_HISTORY}")
        self.ring = torch.full((n_rows, q), EMPTY, dtype=torch.int16 if n_classes <= MAX_SMALL else torch.int32, device=device)
        entropies, modes = patterns(q, n_named or min(n_classes, q))
        self._entropies, self._modes = torch.from_numpy(entropies).to(device), torch.from_numpy(modes).to(device)
        self._bits = 2 ** torch.arange(q - 1, device=device)
        self.before: tuple[Tensor, ...] = ()  #: rows that were recorded last, and their histories before it

    def record(self, rows: Tensor, predicted: Tensor) -> None:
        """Add one predicted class (B,) of each of these rows; the oldest one goes."""
        newest, kept = predicted.to(self.ring.dtype)[:, None], self.ring[rows]
        self.before = rows, kept
        self.ring[rows] = torch.cat([kept[:, 1:], newest], 1)

    def undo(self) -> None:
        """Take back the last record."""
        if self.before:
            rows, self.ring[rows] = self.before

    def certainty(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The most frequent class (B,) and the normalised entropy (B,) in [0, 1]; entropy 1 while the history is not full.

        F = -sum p log p / log min(K, q): q predictions cannot name more than q classes, so that a threshold means the
        same for ten classes and for ten thousand (the paper divides by log K). Of sorted predictions F and the place of
        the mode depend only on which neighbours differ, 2^(q-1) patterns: cost is O(B q log q) for any K.
        """
        found = self.ring[rows].sort(1).values
        pattern = ((found[:, 1:] != found[:, :-1]) * self._bits).sum(1)
        mode = found.gather(1, self._modes[pattern][:, None])[:, 0].long()
        is_full = found[:, 0] != EMPTY
        return mode.clamp_min(0), torch.where(is_full, self._entropies[pattern], 1.0)

    def is_full(self) -> Tensor:
        """(N,) rows of which q predictions are known."""
        return self.ring[:, 0] != EMPTY

    def state(self, table: Table) -> State:
        """What is remembered of the rows of the table."""
        ring = self.ring.cpu().numpy()
        rows = np.flatnonzero(ring[:, -1] != EMPTY)
        return State.of(KIND, table, rows, ring[rows])

    def resume(self, table: Table, state: State) -> None:
        """Lay what was remembered onto the table; predictions of classes that are gone are forgotten."""
        laid = state.on(table)
        known_last = np.argsort(laid.entries != EMPTY, axis=1, kind="stable")
        newest = np.take_along_axis(laid.entries, known_last, 1)[:, -self.ring.shape[1] :]
        self.ring[torch.from_numpy(laid.rows), -newest.shape[1] :] = torch.from_numpy(newest).to(self.ring)


def patterns(q: int, n_named: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Normalised entropy and first place of the mode, (2^(q-1),), of q sorted predictions; bit i: i + 1 is not i.

    To the last bit those of the authors' code, which adds p log p of one class after the other; of equally frequent
    classes the lowest is the mode.
    """
    bits = np.arange(2 ** (q - 1))[:, None] >> np.arange(q - 1) & 1
    run = np.concatenate([np.zeros((len(bits), 1), np.int64), bits.cumsum(1)], 1)  # (2^(q-1), q)
    counts = (run[:, :, None] == np.arange(q)).sum(1)
    share = counts / q
    terms = np.where(counts > 0, share * np.log(np.maximum(share, 1 / q)), 0.0)
    total = terms.cumsum(1)[:, -1]
    modes = (run == counts.argmax(1)[:, None]).argmax(1)
    return -total / -np.log(1.0 / max(2, n_named)), modes


class Selfie:
    """The objective."""

    def __init__(self, table: Table, train: Rows, config: TrainConfig) -> None:
        self.config, self.epoch, self._table = config, 0, table
        self.noise = config.selfie_noise or evidence.posterior(table, train).rate
        self.history = History(len(table), len(table.targets.classes), config.selfie_history, table.device)
        self._resumed = self.history.is_full()

    @property
    def corrected(self) -> Tensor:
        """(N,) the refurbished label of each row by now, and the given one elsewhere; -1 stays -1."""
        given = torch.from_numpy(self._table.targets.category).to(self._table.device)
        is_open = ~torch.from_numpy(self._table.targets.is_verified[:, 0]).to(given.device) & (given >= 0)
        mode, entropy = self.history.certainty(torch.arange(len(given), device=given.device))
        believed = self._resumed if self.epoch <= self.config.selfie_warmup else torch.ones_like(self._resumed)
        return torch.where(is_open & believed & (entropy <= self.config.selfie_certainty), mode, given)

    def begin(self, epoch: int) -> None:
        """Warm-up ends after `selfie_warmup` epochs."""
        self.epoch = epoch

    def state(self) -> State:
        """The histories."""
        return self.history.state(self._table)

    def resume(self, state: State) -> None:
        """Go on with the histories of an earlier fit; the state of another recipe is left alone."""
        if state.kind == KIND:
            self.history.resume(self._table, state)
            self._resumed = self.history.is_full()

    def undo(self) -> None:
        """Put back the histories of the last step's rows."""
        self.history.undo()

    def remembered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The histories; which of them an earlier fit filled is known from what is resumed."""
        return {"ring": self.history.ring}, {}

    def recall(self, tensors: Mapping[str, Tensor], chance: Mapping[str, Any]) -> None:
        """Put them back."""
        self.history.ring.copy_(tensors["ring"])

    def __call__(self, detector: Detector, seen: Seen, wanted: Wanted) -> Tensor:
        self.history.before = ()
        log_probs = detector.category(seen.joint)
        given = negative_log_likelihood(log_probs, wanted.classes)
        labels, used = self.refurbish(wanted, most_probable(log_probs), given.detach())
        weight = wanted.weight * used
        aside = auxiliary(detector, seen, lambda found: negative_log_likelihood(found, labels), weight)
        return weighted(negative_log_likelihood(log_probs, labels), weight) + aside

    def refurbish(self, wanted: Wanted, predicted: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """The labels (B,) to learn from and which of them are used (B,), by predictions (B,) and losses (B,) of this epoch."""
        if self.epoch <= self.config.selfie_warmup:
            return self._warming_up(wanted, predicted)
        self.history.record(wanted.rows, predicted)
        mode, entropy = self.history.certainty(wanted.rows)
        refurbished = (entropy <= self.config.selfie_certainty) & ~wanted.is_verified
        used = self._clean(losses, wanted.weight > 0).logical_or_(refurbished).logical_or_(wanted.is_verified)
        return torch.where(refurbished, mode, wanted.classes), used

    def _warming_up(self, wanted: Wanted, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Every label is used; histories that an earlier fit filled are believed and kept as they are."""
        resumed = self._resumed[wanted.rows]
        self.history.record(wanted.rows[~resumed], predicted[~resumed])
        mode, entropy = self.history.certainty(wanted.rows)
        refurbished = (entropy <= self.config.selfie_certainty) & resumed & ~wanted.is_verified
        return torch.where(refurbished, mode, wanted.classes), torch.ones_like(resumed)

    def _clean(self, losses: Tensor, is_known: Tensor) -> Tensor:
        """(B,) the (1 - tau) part of the labelled rows with the smallest losses."""
        n_clean = math.ceil((1 - self.noise) * int(is_known.sum()))
        found = torch.zeros_like(losses, dtype=torch.bool)
        found[losses.where(is_known, torch.inf).argsort(stable=True)[:n_clean]] = True
        return found
