"""What the labels of the training rows probably should be, before anything is trained on them."""

import numpy as np
import torch
from numpy.typing import NDArray

from curation.quality import channel
from curation.quality.channel import Posterior, Said, View
from curation.types import PATH_SEPARATOR
from trainer import probe
from trainer.data import Rows, Table

N_FOLDS = 5
N_CANDIDATES = 64
TEXT_WEIGHT = (1.0, 1.0, 1.0, 1.0, 0.5, 0.3)
"""Of each block of n-grams in the text probe."""

TEXT_SCALES = (0.15, 0.18, 0.21, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.5, np.inf)
LEAST_UNTOLD = 0.35
"""Without enough decisions the text probe is taken to be no sharper: what was said would be more likely still, and the
probe's own errors be taken for sellers'. On real ads it then saw twice the noise."""

MODEL_SCALES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
MIN_PROBABILITY = 1e-9
PHOTO_SCALES = (0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, np.inf)


DOUBTS = (0.8, 0.9, 0.95, 1.0)
"""How probably wrong a label must be to be repaired; 1 = nothing is. Without verified listings the first."""

MIN_VERIFIED = 20
"""Verified listings from which on they choose among these."""


def said_of(table: Table, rows: Rows) -> Said:
    """What sellers said and moderators decided about these rows."""
    wanted = table.targets
    truth = np.where(wanted.is_verified[rows, 0], wanted.category[rows], -1)
    return Said(wanted.said[rows], wanted.seller[rows], truth.astype(np.int64))


def doubt(found: Posterior, said: Said) -> float:
    """The member of DOUBTS whose repairs agree best with moderators; the largest of equally good ones.

    Each verified row is judged without its own decision. Repairs that are right less often than sellers are not made.
    """
    if said.judged.sum() < MIN_VERIFIED:
        return DOUBTS[0]
    right = [float((found.repaired(said, at) == said.truth)[said.judged].mean()) for at in DOUBTS]
    return max(zip(right, DOUBTS, strict=True))[1]


def posterior(table: Table, rows: Rows) -> Posterior:
    """Of these rows of a table that is weighed: text and photo probes by grouped folds, read through the noise channel."""
    wanted, said = table.targets, said_of(table, rows)
    labels = np.where(said.truth >= 0, said.truth, said.label)
    folds = _folds(wanted.group[rows])
    n_classes = len(wanted.classes)
    text = probe.text_scores(table.sparse(rows, torch.tensor(TEXT_WEIGHT)), labels, folds, n_classes)
    photo = probe.photo_scores(table.photos(rows), labels, folds, n_classes)
    classes = channel.candidates(text + photo, said, N_CANDIDATES)
    views = [
        View("text", np.take_along_axis(text, classes, 1), _text_scales(said)),
        View("photo", np.take_along_axis(photo, classes, 1), PHOTO_SCALES),
    ]
    return channel.read(views, classes, said, roots_of(wanted.classes))


def _text_scales(said: Said) -> tuple[float, ...]:
    return TEXT_SCALES if said.tells_scales else tuple(scale for scale in TEXT_SCALES if scale >= LEAST_UNTOLD)


def opinion(table: Table, probs: NDArray[np.floating]) -> tuple[Rows, NDArray[np.float64]]:
    """(N,) class that each label should most probably be changed to, and how probably that is right.

    probs : (N, K) out-of-sample probabilities of all rows of the table, read through the noise channel. No row's own
    decision is used.
    """
    rows = np.arange(len(table))
    said = said_of(table, rows)
    scores = np.log(np.maximum(probs.astype(np.float64), MIN_PROBABILITY))
    classes = channel.candidates(scores, said, N_CANDIDATES)
    view = View("model", np.take_along_axis(scores, classes, 1), MODEL_SCALES)
    found = channel.read([view], classes, said, roots_of(table.targets.classes))
    others = np.where(classes == said.label[:, None], -1.0, found.unseen)
    best = others.argmax(1)
    return classes[rows, best], np.clip(others[rows, best], 0.0, 1.0)


def roots_of(classes: tuple[str, ...]) -> Rows:
    """(K,) number of each class's branch; all one branch where there is no tree."""
    names = [path.split(PATH_SEPARATOR)[0] for path in classes]
    _, found = np.unique(names, return_inverse=True)
    return np.zeros(len(names), np.int64) if len(set(names)) == len(names) else found.astype(np.int64)


def _folds(groups: Rows) -> Rows:
    """Whole groups, dealt out in the order of their numbers."""
    _, numbered = np.unique(groups, return_inverse=True)
    return (numbered % N_FOLDS).astype(np.int64)
