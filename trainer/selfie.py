"""SELFIE as published (Song, Kim and Lee, ICML 2019), vectorised: refurbish where predictions agree, drop large losses.

After a warm-up of plain cross-entropy a listing whose last q predictions hardly vary is refurbishable: its label is
taken to be the most frequent one. Of the others the (1 - tau) part of a batch with the smallest losses is clean and keeps
its label; the rest is left out. Unlike the authors' code nothing is frozen in: a listing whose predictions vary again
loses that state, an empty history is empty, and every listing is seen once an epoch. Restarts are for the
caller: fit again with `corrected` as the given labels.
"""

import math

import torch
from torch import Tensor

from curation.errors import InputError
from trainer import evidence
from trainer.config import TrainConfig
from trainer.data import Rows, Table, Wanted
from trainer.model import Batch, Detector
from trainer.objective import negative_log_likelihood, weighted

EMPTY = -1
MAX_HISTORY = 15
"""With two bytes a prediction and one for the count, a row stays within 32 bytes."""


class History:
    """The last q predicted classes of each row, in a ring of small integers."""

    def __init__(self, n_rows: int, n_classes: int, q: int, device: torch.device) -> None:
        if not 1 <= q <= MAX_HISTORY:
            raise InputError(f"a history of {q} predictions cannot be kept; choose 1 to {MAX_HISTORY}")
        self.n_classes = n_classes
        self.ring = torch.full((n_rows, q), EMPTY, dtype=torch.int16 if n_classes < 2**15 else torch.int32, device=device)
        self.n_seen = torch.zeros(n_rows, dtype=torch.uint8, device=device)

    def record(self, rows: Tensor, predicted: Tensor) -> None:
        """Add one predicted class (B,) of each of these rows; the oldest one goes."""
        at = self.n_seen[rows].long()
        self.ring[rows, at % self.ring.shape[1]] = predicted.to(self.ring.dtype)
        q = self.ring.shape[1]
        self.n_seen[rows] = torch.where(at + 1 >= 2 * q, at + 1 - q, at + 1).to(torch.uint8)

    def certainty(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The most frequent class (B,) and the normalised entropy (B,) in [0, 1]; entropy 1 while the history is not full.

        F = -sum p log p / log min(K, q): q predictions cannot name more than q classes, so that a threshold means the
        same for ten classes and for ten thousand (the paper divides by log K). Cost is O(B q log q) for any K.
        """
        found = self.ring[rows].long().sort(1).values
        q = found.shape[1]
        starts = torch.ones_like(found, dtype=torch.bool)
        starts[:, 1:] = found[:, 1:] != found[:, :-1]
        run = starts.long().cumsum(1) - 1
        counts = torch.zeros_like(found).scatter_add_(1, run, torch.ones_like(found))
        share = counts.float() / q
        entropy = -(share * share.clamp_min(1e-9).log()).sum(1) / math.log(max(2, min(self.n_classes, q)))
        longest = counts.argmax(1)
        mode = found.gather(1, (run == longest[:, None]).long().argmax(1, keepdim=True))[:, 0]
        full = found[:, 0] != EMPTY
        return mode.clamp_min(0), torch.where(full, entropy, torch.ones_like(entropy))


class Selfie:
    """The objective. `corrected` holds the refurbished label of each row after a fit, and the given one elsewhere."""

    def __init__(self, table: Table, train: Rows, config: TrainConfig) -> None:
        self.config, self.epoch = config, 0
        self.noise = config.selfie_noise or evidence.posterior(table, train).rate
        self.history = History(len(table), len(table.targets.classes), config.selfie_history, table.device)
        self.corrected = torch.from_numpy(table.targets.category.copy()).to(table.device)

    def begin(self, epoch: int) -> None:
        """Warm-up ends after `selfie_warmup` epochs."""
        self.epoch = epoch

    def __call__(self, detector: Detector, batch: Batch, wanted: Wanted) -> Tensor:
        log_probs = detector.category(detector.embed(batch))
        self.history.record(wanted.rows, log_probs.detach().argmax(1))
        given = negative_log_likelihood(log_probs, wanted.classes)
        if self.epoch <= self.config.selfie_warmup:
            return weighted(given, wanted.weight)
        mode, entropy = self.history.certainty(wanted.rows)
        refurbished = (entropy <= self.config.selfie_certainty) & ~wanted.is_verified
        labels = torch.where(refurbished, mode, wanted.classes)
        self.corrected[wanted.rows] = torch.where(wanted.weight > 0, labels, self.corrected[wanted.rows])
        used = refurbished | wanted.is_verified | self._clean(given.detach(), wanted)
        return weighted(negative_log_likelihood(log_probs, labels), wanted.weight * used)

    def _clean(self, losses: Tensor, wanted: Wanted) -> Tensor:
        """(B,) the (1 - tau) part of the batch with the smallest losses."""
        n_clean = math.ceil((1 - self.noise) * len(losses))
        found = torch.zeros_like(losses, dtype=torch.bool)
        found[losses.argsort()[:n_clean]] = True
        return found
