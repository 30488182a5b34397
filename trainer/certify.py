"""Thresholds of the violations: temperatures from validation rows, promises from test rows that are kept for that.

Moderator-verified rows of the test split fall into two parts by a hash of their near-duplicate group, the same in every run:
two thirds certify thresholds, one third reports how good they are. Neither was fitted on, stopped by or cooled by.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_expit, logit

from curation.catalog.scorer import Scorer
from curation.quality import flags, thresholds
from curation.quality.thresholds import Certified
from curation.settings import Settings
from curation.types import Split
from trainer import loop
from trainer.data import Rows, Table, Targets
from trainer.model import Detector
from trainer.rows import SnapshotRows

CERTIFYING_SHARE = 2 / 3
SALT = "refurbish-certify-1:"
"""Changing it moves every group; what reported before would certify."""

MIN_OF_EACH = 10
"""Verified validation rows with and without a violation that its temperature needs."""

HEAD = 3
"""Verified rows past this many times the expected positives, in order of score, are never flagged."""

MAX_FIRST = 10_000
"""Flagged rows that a target may need before it can be certified at all, at most."""

TEMPERATURES = (0.5, 8.0)
Mask = NDArray[np.bool_]


def certifying(groups: Sequence[str]) -> Mask:
    """(N,) whether a row's near-duplicate group is of the part that certifies."""
    digests = (hashlib.sha256((SALT + group).encode("utf-8", "surrogatepass")).digest() for group in groups)
    return np.array([int.from_bytes(digest[:8], "big") / 2**64 < CERTIFYING_SHARE for digest in digests], bool)


@torch.no_grad()
def cool(detector: Detector, table: Table, validation: Rows) -> tuple[float, ...]:
    """Temperature of each violation, built into its weights; 1 where too few validation rows are verified."""
    wanted = table.targets
    rows = validation[wanted.is_asked[validation].any(1)]
    if not len(rows):
        return (1.0,) * len(wanted.violations)
    asked, truth = wanted.is_asked[rows], wanted.violation[rows] > 0
    logits = logit(np.clip(loop.predict(detector, table, rows)[1].astype(np.float64), 1e-7, 1 - 1e-7))
    heads = range(len(wanted.violations))
    found = tuple(temperature(logits[asked[:, head], head], truth[asked[:, head], head]) for head in heads)
    detector.cool(torch.tensor(found, device=detector.violation.weight.device))
    return found


def temperature(logits: NDArray[np.float64], truth: Mask) -> float:
    """Temperature in [0.5, 8] with the least log loss of logits (n,) (Guo et al. 2017); 1 with fewer than ten of each answer.

    A shift is fitted beside it and thrown away: verified rows hold more violations than listings do, which is not the scores'
    doing.
    """
    if min(int(truth.sum()), int((~truth).sum())) < MIN_OF_EACH:
        return 1.0
    sign = np.where(truth, 1.0, -1.0)
    bounds = [tuple(sorted(-math.log(one) for one in TEMPERATURES)), (-20.0, 20.0)]
    found = minimize(
        lambda x: -log_expit(sign * (logits * math.exp(x[0]) + x[1])).mean(), [0.0, 0.0], bounds=bounds, method="L-BFGS-B"
    )
    return float(math.exp(-found.x[0]))


def cuts(
    scorer: Scorer, table: Table, rows: SnapshotRows, temperatures: Sequence[float], settings: Settings
) -> dict[str, dict[str, Any]]:
    """The threshold of each violation, certified through the exported file, as sidecar and report have it."""
    wanted, rng = table.targets, np.random.default_rng(settings.seed)
    is_test = rows.splits == Split.TEST.value
    trained = {group for group, kept in zip(rows.groups, is_test, strict=True) if not kept}
    part = np.flatnonzero(is_test & certifying(rows.groups) & np.array([group not in trained for group in rows.groups], bool))
    probs = scorer.predict(table.features, part).violation_probs
    found = {}
    for head, name in enumerate(wanted.violations):
        pool = _Pool(
            scores=probs[:, head].astype(np.float64),
            asked=wanted.is_asked[part, head],
            truth=wanted.violation[part, head] > 0,
            reported=np.array([name in rows.listings[row].flags for row in part], bool),
            groups=np.array([rows.groups[row] for row in part], np.str_),
        )
        share = _share_elsewhere(wanted, np.flatnonzero(~is_test), head)
        made = _certify(pool, share, settings, rng)
        found[name] = {**asdict(made), "temperature": temperatures[head], "words": made.words}
    return found


@dataclass(frozen=True, slots=True)
class _Pool:
    """N listings of the part that certifies, asked about or not."""

    scores: NDArray[np.float64]
    asked: Mask
    truth: Mask  #: where asked
    reported: Mask
    groups: NDArray[np.str_]


def _certify(pool: _Pool, share: float, settings: Settings, rng: np.random.Generator) -> Certified:
    """Certified on the head of the verified rows, each standing for its share of listings; recall of all of them."""
    expected = share * int(pool.asked.sum())
    first = thresholds.rungs(MAX_FIRST, settings.flag_precision, settings.flag_risk)[:1].sum() or MAX_FIRST
    n_head = int(HEAD * max(expected, first))
    if pool.asked.any():
        rows, weights = flags.stand_for(pool.scores, pool.asked, pool.reported, n_head)
    else:
        rows, weights = np.zeros(0, np.int64), np.zeros(0)
    found = thresholds.certify(
        pool.scores[rows],
        pool.truth[rows],
        target=settings.flag_precision,
        risk=settings.flag_risk,
        expected=expected * float(weights.mean() / weights.max()) if len(rows) else None,
        groups=pool.groups[rows],
        weights=weights,
        rng=rng,
    )
    flagged = pool.scores >= found.value
    positive = pool.asked & pool.truth
    return replace(found, recall=thresholds.exact(int((positive & flagged).sum()), int(positive.sum())))


def _share_elsewhere(wanted: Targets, rows: Rows, head: int) -> float:
    """Share of positives among the verified rows of the other splits: it plans where the walk begins, and nothing else."""
    verified = rows[wanted.is_asked[rows, head]]
    return float(wanted.violation[verified, head].mean()) if len(verified) else 0.0
