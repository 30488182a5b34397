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
TEXT_VIEWS = {"title": (0, 1), "description": (2, 3), "words": (4,), "attributes": (5,)}
"""Which blocks of n-grams each view reads."""

TEXT_SCALES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.5, 5.0, np.inf)
TEXT_WEIGHT = {"title": 1.0, "description": 1.0, "words": 0.5, "attributes": 0.3}
UNTOLD_SCALES = (0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.5, np.inf)
"""Without enough decisions the text views are one, of these weights, and taken to be no sharper: what was said would be
more likely still, and their own errors be taken for sellers'. On real ads they then saw twice the noise."""

MODEL_SCALES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
MIN_PROBABILITY = 1e-9
PHOTO_SCALES = (0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, np.inf)


UNTOLD_DOUBT = 0.8
"""Before moderators decided anything, what is less probably wrong than this is taken as it was said."""


def said_of(table: Table, rows: Rows) -> Said:
    """What sellers said and moderators decided about these rows."""
    wanted = table.targets
    truth = np.where(wanted.is_verified[rows, 0], wanted.category[rows], -1)
    return Said(wanted.said[rows], wanted.seller[rows], truth.astype(np.int64))


def posterior(table: Table, rows: Rows) -> Posterior:
    """Of these rows of a table that is weighed: text and photo probes by grouped folds, read through the noise channel."""
    wanted, said = table.targets, said_of(table, rows)
    labels = np.where(said.truth >= 0, said.truth, said.label)
    folds = _folds(wanted.group[rows])
    n_classes = len(wanted.classes)
    text = {name: probe.text_scores(table.sparse(rows, _blocks(name)), labels, folds, n_classes) for name in TEXT_VIEWS}
    together = np.sum([TEXT_WEIGHT[name] * scores for name, scores in text.items()], axis=0)
    photo = probe.photo_scores(table.photos(rows), labels, folds, n_classes)
    classes = channel.candidates(together + photo, said, N_CANDIDATES)
    if said.tells_scales:
        views = [_view(name, scores, classes, TEXT_SCALES) for name, scores in text.items()]
    else:
        views = [_view("text", together, classes, UNTOLD_SCALES)]
    views.append(_view("photo", photo, classes, PHOTO_SCALES))
    return channel.read(views, classes, said, roots_of(wanted.classes))


def _view(name: str, scores: NDArray[np.float64], classes: Rows, scales: tuple[float, ...]) -> View:
    return View(name, np.take_along_axis(scores, classes, 1), scales)


def _blocks(view: str) -> torch.Tensor:
    """(n_blocks,) 1 where the view reads the block."""
    return torch.tensor([float(block in TEXT_VIEWS[view]) for block in range(1 + max(map(max, TEXT_VIEWS.values())))])


def opinion(table: Table, probs: NDArray[np.floating]) -> tuple[Rows, NDArray[np.float64]]:
    """(N,) class that each label should most probably be changed to, and how probably that is right.

    probs : (N, K) out-of-sample probabilities of all rows of the table, read through the noise channel. No row's own
    decision is used.
    """
    rows = np.arange(len(table))
    said = said_of(table, rows)
    scores = np.log(np.maximum(probs.astype(np.float64), MIN_PROBABILITY))
    classes = channel.candidates(scores, said, N_CANDIDATES)
    found = channel.read([_view("model", scores, classes, MODEL_SCALES)], classes, said, roots_of(table.targets.classes))
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
